//! The real etcd in a world, on hosts that would otherwise be backends, and the keys that are put into it.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::artifacts;
use crate::netns::{Namespace, run_command};
use crate::process::Process;
use crate::vrrp::until;
use crate::world::{Backend, World, backend_address};

/// The key that balancers watch.
pub const KEY: &str = "/foobar/lb";

/// Whether clients have to show who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody may read and write, without TLS.
    Open,
    /// TLS with certificates on both sides; with [`Etcd::require_login`], a password besides.
    Closed,
}

/// A cluster, mostly of one member.
#[derive(Debug)]
pub struct Etcd<'a> {
    directory: PathBuf,
    access: Access,
    members: Vec<Member<'a>>,
}

/// A member on a host of its own.
#[derive(Debug)]
struct Member<'a> {
    host: &'a Namespace,
    address: Ipv4Addr,
    name: String,
    url: String,
    process: Option<Process>,
    /// The others do not hear it.
    is_cut_off: bool,
}

impl Member<'_> {
    fn peer_url(&self) -> String {
        format!("http://{}:2380", self.address)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process
            .as_ref()
            .context("etcd is not running")?
            .signal(signal)
    }
}

impl<'a> Etcd<'a> {
    /// Starts one member in a backend's place.
    pub fn start(world: &'a World, place: Backend, access: Access) -> Result<Self> {
        Self::start_members(world, [place], access)
    }

    /// Starts members in the places of backends, and waits until they answer.
    pub fn start_members(
        world: &'a World,
        places: impl IntoIterator<Item = Backend>,
        access: Access,
    ) -> Result<Self> {
        let scheme = if access == Access::Closed { "https" } else { "http" };
        let directory = world.directory().join("etcd");
        std::fs::create_dir_all(&directory)?;
        let member = |place| {
            let address = backend_address(place);
            anyhow::Ok(Member {
                host: world.backend(place)?,
                address,
                name: format!("m{place}"),
                url: format!("{scheme}://{address}:2379"),
                process: None,
                is_cut_off: false,
            })
        };
        let members: Vec<_> = places.into_iter().map(member).collect::<Result<_>>()?;
        if access == Access::Closed {
            let names: Vec<_> = members
                .iter()
                .map(|member| format!("IP:{}", member.address))
                .collect();
            issue(&directory, &names.join(",")).context("certificates for etcd")?;
        }
        let mut etcd = Self {
            directory,
            access,
            members,
        };
        etcd.run()?;
        Ok(etcd)
    }

    /// Starts every member again, with what it had.
    pub fn run(&mut self) -> Result<()> {
        for member in 0..self.members.len() {
            self.start_member(member)?;
        }
        let alive = until("etcd answers", || Ok(self.control(&["get", "nothing"]).is_ok()));
        alive.with_context(|| {
            let tails = self.members.iter().filter_map(|member| member.process.as_ref());
            tails.map(Process::tail).collect::<Vec<_>>().join("\n")
        })?;
        Ok(())
    }

    fn start_member(&mut self, member: usize) -> Result<()> {
        let all: Vec<_> = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url()))
            .collect();
        let member = &mut self.members[member];
        let mut command = Command::new("etcd");
        command.args(["--name", &member.name, "--logger", "zap", "--data-dir"]);
        command.arg(self.directory.join(&member.name));
        command.args(["--listen-client-urls", &member.url]);
        command.args(["--advertise-client-urls", &member.url]);
        command.args(["--listen-peer-urls", &member.peer_url()]);
        command.args(["--initial-advertise-peer-urls", &member.peer_url()]);
        command.args(["--initial-cluster", &all.join(",")]);
        if self.access == Access::Closed {
            command.arg("--client-cert-auth");
            for (option, file) in [
                ("--trusted-ca-file", "ca.crt"),
                ("--cert-file", "server.crt"),
                ("--key-file", "server.key"),
            ] {
                command.arg(option).arg(self.directory.join(file));
            }
        }
        let log = self.directory.join(format!("{}.log", member.name));
        member.process = Some(Process::start(member.host, &mut command, &log)?);
        Ok(())
    }

    /// Kills every member that runs (SIGKILL); what it has said yes to is on its disk.
    pub fn kill(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(mut process) = member.process.take() {
                process.kill()?;
            }
        }
        Ok(())
    }

    /// Kills the member that leads, and waits until another one does; gives where clients called the dead one.
    pub fn kill_leader(&mut self) -> Result<String> {
        let leads = self.leader()?;
        let dead = &mut self.members[leads];
        dead.process.take().context("the leader does not run")?.kill()?;
        let url = dead.url.clone();
        until("another member leads", || {
            Ok(self.leader().is_ok_and(|now| now != leads))
        })?;
        Ok(url)
    }

    fn leader(&self) -> Result<usize> {
        let said = self.control(&["endpoint", "status", "-w", "json"])?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        let leads = &said[0]["Status"]["leader"];
        let said = self.control(&["member", "list", "-w", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&said)?;
        let members = list["members"].as_array().context("a list of members")?;
        let leader = members.iter().find(|member| member["ID"] == *leads);
        let leader = leader.with_context(|| format!("{leads} is none of {said}"))?;
        self.members
            .iter()
            .position(|member| leader["name"] == *member.name)
            .with_context(|| format!("{leader} is none of this cluster"))
    }

    /// Cuts the member that clients call so off from the other members; clients still reach it.
    pub fn cut_off(&mut self, url: &str) -> Result<()> {
        let place = self.members.iter().position(|member| member.url == url);
        let place = place.with_context(|| format!("there is no member {url}"))?;
        let lonely = &self.members[place];
        // Both ways: what comes is taken by TCP even where nothing can be answered.
        let hide = |from: &Member<'_>, other: &Member<'_>| {
            let address = format!("{}/32", other.address);
            from.host.ip(&["route", "add", "blackhole", &address])
        };
        for (other, member) in self.members.iter().enumerate() {
            if other != place {
                hide(lonely, member)?;
                hide(member, lonely)?;
            }
        }
        self.members[place].is_cut_off = true;
        Ok(())
    }

    /// Stops every member without a word to anybody (SIGSTOP): connections stay and are silent.
    pub fn freeze(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| member.signal(Signal::SIGSTOP))
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        self.members
            .iter()
            .try_for_each(|member| member.signal(Signal::SIGCONT))
    }

    /// Puts a value; gives the revision that it has got.
    pub fn put(&self, value: &str) -> Result<i64> {
        self.control(&["put", "--", KEY, value])?;
        let said = self.control(&["get", KEY, "-w", "json"])?;
        let said: serde_json::Value = serde_json::from_str(&said)?;
        said["kvs"][0]["mod_revision"].as_i64().context("a revision")
    }

    /// Deletes the key.
    pub fn delete(&self) -> Result<()> {
        let said = self.control(&["del", KEY])?;
        ensure!(said.trim() == "1", "the key was not there: {said}");
        Ok(())
    }

    /// Forgets all history but the present.
    pub fn compact(&self, revision: i64) -> Result<()> {
        self.control(&["compact", &revision.to_string()])?;
        Ok(())
    }

    /// From now on clients log in: one user may do all, the other may read the key.
    pub fn require_login(&self, reader: &str, password: &str) -> Result<()> {
        self.control(&["user", "add", "root:not-in-use"])?;
        self.control(&["user", "add", &format!("{reader}:{password}")])?;
        self.control(&["role", "add", "reader"])?;
        self.control(&["role", "grant-permission", "reader", "read", KEY])?;
        self.control(&["user", "grant-role", reader, "reader"])?;
        self.control(&["user", "grant-role", "root", "root"])?;
        self.control(&["auth", "enable"])?;
        Ok(())
    }

    /// `etcdctl`, on the host of a member that runs and is heard: what it says.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let is_heard = |member: &&Member<'_>| member.process.is_some() && !member.is_cut_off;
        let member = self.members.iter().find(is_heard).context("no member runs")?;
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &member.url, "--command-timeout", "2s"]);
        if self.access == Access::Closed {
            for (option, file) in [
                ("--cacert", "ca.crt"),
                ("--cert", "client.crt"),
                ("--key", "client.key"),
            ] {
                command.arg(option).arg(self.directory.join(file));
            }
        }
        command.args(arguments);
        member.host.run(|| run_command(&mut command))
    }

    /// `[etcd]` of a balancer's file, with further lines.
    pub fn table(&self, copy: &Path, lines: &str) -> String {
        let endpoints: Vec<_> = self.members.iter().map(|member| &member.url).collect();
        let mut table =
            format!("[etcd]\nendpoints = {endpoints:?}\nkey = {KEY:?}\ncopy = {copy:?}\n{lines}\n");
        if self.access == Access::Closed {
            for (key, file) in [
                ("ca", "ca.crt"),
                ("certificate", "client.crt"),
                ("private_key", "client.key"),
            ] {
                table += &format!("{key} = {:?}\n", self.directory.join(file));
            }
        }
        table
    }

    /// Where clients call the first member.
    pub fn url(&self) -> &str {
        self.members.first().map_or("", |member| &member.url)
    }
}

/// An authority, and certificates that it signed for members by their names, and for clients.
fn issue(directory: &Path, names: &str) -> Result<()> {
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.current_dir(directory).args(arguments);
        run_command(&mut command)
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-days",
        "2",
    ];
    let ca = [
        "req",
        "-x509",
        "-subj",
        "/CN=etcd's authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    openssl(&[&ca[..], &key[..]].concat())?;
    let names = format!("subjectAltName={names}");
    for (name, extensions) in [
        (
            "server",
            vec![names.as_str(), "extendedKeyUsage=serverAuth,clientAuth"],
        ),
        ("client", vec!["extendedKeyUsage=clientAuth"]),
    ] {
        // A certificate's name would be a user's name, in a password's place.
        let (secret, public) = (format!("{name}.key"), format!("{name}.crt"));
        let mut signed = vec![
            "req",
            "-x509",
            "-subj",
            "/O=foobar tests",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
        ];
        signed.extend(["-keyout", &secret, "-out", &public]);
        signed.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
        for extension in &extensions {
            signed.extend(["-addext", extension]);
        }
        openssl(&[&signed[..], &key[..]].concat())?;
    }
    Ok(())
}

/// `foobar config check`, with a value or without: what it says.
pub fn check(file: &Path, value: Option<&Path>) -> Result<String> {
    let mut command = Command::new(artifacts::binary()?);
    command.args(["config", "check"]).arg(file);
    if let Some(value) = value {
        command.arg("--etcd-value").arg(value);
    }
    run_command(&mut command)
}
