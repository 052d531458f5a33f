//! The roles' configuration files, written for the lab. Pure: a lab in, text out.
//!
//! The formats are the roles' own; what is not named here has the role's default.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::topology::{Host, Interface, SITE, Segment, Shape, VIPS, Vip};

/// The files that the configurations name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a> {
    /// The run's directory.
    pub(crate) run: &'a Path,
    /// The site's static files.
    pub(crate) site: &'a Path,
}

/// The port of the app servers.
pub(crate) const APP_PORT: u16 = 8000;

/// `app.toml` of one app server.
pub(crate) fn app(files: Files<'_>, host: Host) -> String {
    let secrets = files.run.join("secrets");
    format!(
        r#"listen = "{listen}:{APP_PORT}"
jwt_secret_file = "{jwt}"

[database]
host = "{database}"
port = 3306
name = "foobar"
user = "foobar_app"
password_file = "{password}"
max_connections = 10
"#,
        listen = address(host, Segment::App),
        jwt = secrets.join("jwt.secret").display(),
        database = address(Host::Db, Segment::Data),
        password = secrets.join("db.password").display(),
    )
}

/// `web.toml` of one web server, with these app servers behind it.
pub(crate) fn web(files: Files<'_>, host: Host, apps: impl Iterator<Item = Host>) -> String {
    let upstreams: Vec<_> = apps
        .map(|app| format!("\"{}:{APP_PORT}\"", address(app, Segment::App)))
        .collect();
    format!(
        r#"listen_https = ["0.0.0.0:443", "[::]:443"]
listen_http = ["0.0.0.0:80", "[::]:80"]
certificate = "{certificate}"
key = "{key}"
root = "{root}"
upstreams = [{upstreams}]
access_log = "{access_log}"
drain_timeout_seconds = 10
"#,
        certificate = files.run.join("certificates/site.crt").display(),
        key = files.run.join("secrets/site.key").display(),
        root = files.site.display(),
        upstreams = upstreams.join(", "),
        access_log = files.run.join(format!("logs/{host}-access.log")).display(),
    )
}

/// `lb.toml` of one balancer, with these web servers behind both VIPs.
pub(crate) fn lb(files: Files<'_>, host: Host, webs: &[Host]) -> String {
    let peers: Vec<_> = [Host::Lb(1), Host::Lb(2)]
        .into_iter()
        .filter(|peer| *peer != host)
        .flat_map(Host::interfaces)
        .map(|interface| format!("\"{}\"", interface.mac()))
        .collect();
    let mut text = format!(
        r#"interface = "eth0"
pin_dir = "{pins}"
admin_socket = "{socket}"
cluster = "{cluster}"
peer_macs = [{peers}]
"#,
        pins = files.run.join("bpf").join(host.to_string()).display(),
        socket = files.run.join(format!("{host}.sock")).display(),
        cluster = files.run.join(format!("secrets/{host}.cluster")).display(),
        peers = peers.join(", "),
    );
    for (router_id, vip) in (1..).zip(VIPS) {
        // Both own a VIP each, and the other's when that one is gone.
        let priority = if vip.owner == host { 200 } else { 100 };
        let _ = write!(
            text,
            "\n[[vrrp]]\nname = \"{}\"\nrouter_id = {router_id}\npriority = {priority}\n",
            vip.name
        );
    }
    for vip in VIPS {
        let https = format!(
            "\n[vip.check]\nkind = \"https\"\nhost = \"{SITE}\"\npath = \"/healthz\"\nstatus = 200\n"
        );
        for (family, vip_address) in ["", "-v6"].into_iter().zip(vip.addresses()) {
            for (scheme, port, check) in [("", 443, https.as_str()), ("-http", 80, "")] {
                let _ = write!(
                    text,
                    "\n[[vip]]\nname = \"{0}{family}{scheme}\"\naddress = \"{vip_address}\"\nport = {port}\n\
                     protocol = \"tcp\"\nvrrp = \"{0}\"\nslots = 65536\n{check}",
                    vip.name,
                );
                for web in webs {
                    let backend = edge_address(*web, vip_address);
                    let _ = write!(text, "\n[[vip.backend]]\naddress = \"{backend}\"\n");
                }
            }
        }
    }
    text
}

/// `dns.toml` of the name server.
pub(crate) fn dns() -> String {
    let own: Vec<IpAddr> = Host::Dns
        .interfaces()
        .iter()
        .flat_map(Interface::addresses)
        .collect();
    let quoted = |addresses: &[IpAddr]| -> String {
        let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        quoted.join(", ")
    };
    let vips: Vec<IpAddr> = VIPS.iter().flat_map(Vip::addresses).collect();
    let listen: Vec<_> = own
        .iter()
        .map(|address| format!("\"{}\"", SocketAddr::new(*address, 53)))
        .collect();
    format!(
        r#"listen = [{listen}]
zone = "{SITE}"
ttl_seconds = 10
negative_ttl_seconds = 10
primary = "dns1.{SITE}"
contact = "hostmaster.{SITE}"
nsid = "dns1"
status_clients = ["192.0.2.0/24"]

[[name]]
name = "{SITE}"
addresses = [{vips}]
check = {{ kind = "https", port = 443, path = "/healthz", interval = "1s" }}

[[name]]
name = "dns1.{SITE}"
addresses = [{own}]
"#,
        listen = listen.join(", "),
        vips = quoted(&vips),
        own = quoted(&own),
    )
}

/// The hosts file of every lab host: `localhost` must be in it, or a browser does not find itself.
pub(crate) fn hosts_file(host: Host, shape: Shape) -> String {
    let mut text = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 {host}\n");
    for other in shape.hosts() {
        for interface in other
            .interfaces()
            .iter()
            .filter(|i| host.address(i.segment).is_some())
        {
            for address in interface.addresses() {
                let _ = writeln!(text, "{address} {other}");
            }
        }
    }
    text
}

fn address(host: Host, segment: Segment) -> Ipv4Addr {
    host.address(segment).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// The host's address on the edge of the same family as another.
fn edge_address(host: Host, like: IpAddr) -> IpAddr {
    match (like, host.ipv6()) {
        (IpAddr::V6(_), Some(ipv6)) => ipv6.into(),
        _ => address(host, Segment::Edge).into(),
    }
}

/// The packet filter of a host: each inner interface takes only its own segment's packets, and an outer
/// one takes none that are meant for an inner network. A client that adds routes by way of a web server
/// reaches nothing, not even that server's own inner address.
pub(crate) fn packet_filter(host: Host) -> String {
    let mut rules = String::new();
    for interface in host.interfaces() {
        let (name, segment) = (interface.name, interface.segment);
        if segment != Segment::Edge {
            let own = segment.network();
            let _ = writeln!(rules, "    iifname \"{name}\" ip saddr != {own} drop");
            let _ = writeln!(rules, "    iifname \"{name}\" ip daddr != {own} drop");
        } else {
            for inner in [Segment::App, Segment::Data] {
                let _ = writeln!(rules, "    iifname \"{name}\" ip daddr {} drop", inner.network());
            }
        }
    }
    format!(
        "table inet foobar_lab {{\n  chain input {{\n    type filter hook input priority 0; policy accept;\n\
         {rules}  }}\n  chain forward {{\n    type filter hook forward priority 0; policy drop;\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files<'static> {
        Files {
            run: Path::new("/run/foobar-lab/x"),
            site: Path::new("/site"),
        }
    }

    #[test]
    fn each_balancer_prefers_one_vip_and_names_the_other_as_its_peer() {
        let webs: Vec<_> = [Host::Web(1), Host::Web(2)].to_vec();
        let text = lb(files(), Host::Lb(1), &webs);
        assert!(text.contains("peer_macs = [\"02:00:c0:00:02:0c\"]"), "{text}");
        let priorities = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with("priority"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(priorities(&text), ["priority = 200", "priority = 100"]);
        let other = lb(files(), Host::Lb(2), &webs);
        assert_eq!(priorities(&other), ["priority = 100", "priority = 200"]);
        assert_eq!(text.matches("vrrp = \"site-a\"").count(), 4);
        assert_eq!(text.matches("[[vip.backend]]").count(), 8 * webs.len());
    }

    #[test]
    fn a_vip_has_backends_of_its_own_family() {
        let text = lb(files(), Host::Lb(1), &[Host::Web(1)]);
        let addresses: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("address = "))
            .collect();
        for (vip, backend) in [
            ("\"192.0.2.101\"", "\"192.0.2.21\""),
            ("\"2001:db8:0:1::102\"", "\"2001:db8:0:1::21\""),
        ] {
            assert_eq!(
                addresses.chunks(2).filter(|pair| *pair == [vip, backend]).count(),
                2,
                "http and https: {text}"
            );
        }
    }

    #[test]
    fn the_zone_has_both_families() {
        let text = dns();
        assert!(
            text.contains("listen = [\"192.0.2.53:53\", \"[2001:db8:0:1::53]:53\"]"),
            "{text}"
        );
        assert!(text.contains("\"2001:db8:0:1::101\", \"192.0.2.102\""), "{text}");
    }

    #[test]
    fn a_web_server_proxies_to_the_app_servers_it_is_given() {
        let text = web(files(), Host::Web(2), [Host::App(1), Host::App(3)].into_iter());
        assert!(
            text.contains("upstreams = [\"198.51.100.31:8000\", \"198.51.100.33:8000\"]"),
            "{text}"
        );
    }

    #[test]
    fn the_database_takes_packets_of_its_own_segment_only() {
        let text = packet_filter(Host::Db);
        assert!(
            text.contains("iifname \"eth0\" ip saddr != 203.0.113.0/24 drop"),
            "{text}"
        );
    }

    #[test]
    fn a_web_servers_edge_side_takes_nothing_for_inner_networks() {
        let text = packet_filter(Host::Web(1));
        assert!(
            text.contains("iifname \"eth0\" ip daddr 198.51.100.0/24 drop"),
            "{text}"
        );
        assert!(
            text.contains("iifname \"eth0\" ip daddr 203.0.113.0/24 drop"),
            "{text}"
        );
        assert!(
            text.contains("iifname \"eth1\" ip saddr != 198.51.100.0/24 drop"),
            "{text}"
        );
    }

    #[test]
    fn hosts_files_name_localhost_and_the_neighbours_only() {
        let text = hosts_file(Host::Client, Shape::new(2, 2).unwrap());
        assert!(text.starts_with("127.0.0.1 localhost\n"), "{text}");
        assert!(
            text.contains("192.0.2.21 web1\n") && !text.contains("198.51.100."),
            "{text}"
        );
    }
}
