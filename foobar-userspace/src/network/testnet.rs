//! Two hosts on one cable for this module's tests: network namespaces without a name, a veth pair between
//! them, documentation addresses. Relies on root. A namespace lives as long as its descriptor, so that
//! nothing is left behind, whatever becomes of the test.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use socket2::{Domain, Protocol, Socket, Type};

use super::announce::packet_address;
use super::{MacAddress, connect};

pub(super) const LB_MAC: MacAddress = [0x02, 0, 0, 0, 0, 0x01];
pub(super) const WEB_MAC: MacAddress = [0x02, 0, 0, 0, 0, 0x21];
/// How long a test waits for anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);

/// A network namespace.
pub(super) struct Namespace(File);

impl Namespace {
    fn create() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        unshare(CloneFlags::CLONE_NEWNET).expect("cannot make a network namespace");
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Runs `action` in the namespace: sockets that it opens stay there.
    pub(super) fn inside<T>(&self, action: impl FnOnce() -> T) -> T {
        let outside = File::open("/proc/thread-self/ns/net").unwrap();
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
        let result = action();
        setns(outside, CloneFlags::CLONE_NEWNET).unwrap();
        result
    }
}

/// The balancer's host, where the test runs (`lb0`, 192.0.2.11), and a web server's (`web0`, 192.0.2.21).
pub(super) struct Cable {
    pub(super) web_host: Namespace,
    pub(super) lb: Handle,
    pub(super) web: Handle,
    pub(super) lb_index: u32,
    pub(super) web_index: u32,
}

/// Runs a test on a thread of its own, in a network namespace of its own.
pub(super) fn on_a_cable(test: impl AsyncFnOnce(Cable) + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let cable = Cable::lay().await;
            test(cable).await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Cable {
    async fn lay() -> Self {
        let web_host = Namespace::create();
        // The test's own host comes second: it is where the thread then is.
        let lb_host = Namespace::create();
        let lb = connect().unwrap();
        let web = web_host.inside(connect).unwrap();
        drop(lb_host);
        lb.link()
            .add(LinkVeth::new("lb0", "web0").build())
            .execute()
            .await
            .unwrap();
        let moved = LinkUnspec::new_with_name("web0")
            .setns_by_fd(web_host.0.as_raw_fd())
            .build();
        lb.link().set(moved).execute().await.unwrap();
        for (handle, name, mac) in [(&lb, "lb0", LB_MAC), (&web, "web0", WEB_MAC)] {
            handle
                .link()
                .set(LinkUnspec::new_with_name("lo").up().build())
                .execute()
                .await
                .unwrap();
            let link = LinkUnspec::new_with_name(name).address(mac.to_vec()).build();
            handle.link().set(link).execute().await.unwrap();
        }
        no_duplicate_address_detection("lb0");
        web_host.inside(|| no_duplicate_address_detection("web0"));
        for (handle, name) in [(&lb, "lb0"), (&web, "web0")] {
            handle
                .link()
                .set(LinkUnspec::new_with_name(name).up().build())
                .execute()
                .await
                .unwrap();
        }
        let lb_index = super::lookup("lb0").await.unwrap().index;
        let web_index = index(&web, "web0").await;
        let cable = Self {
            web_host,
            lb,
            web,
            lb_index,
            web_index,
        };
        for (v4, v6, handle, index) in [
            ("192.0.2.11", "2001:db8::11", &cable.lb, lb_index),
            ("192.0.2.21", "2001:db8::21", &cable.web, web_index),
        ] {
            handle
                .address()
                .add(index, v4.parse().unwrap(), 24)
                .execute()
                .await
                .unwrap();
            let mut v6 = handle.address().add(index, v6.parse().unwrap(), 64);
            // Else it is tentative for a moment, and counts for nothing until then.
            v6.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            v6.execute().await.unwrap();
        }
        cable
    }

    /// Gives the web server's interface another MAC, as a replaced machine has.
    pub(super) async fn change_web_mac(&self, mac: MacAddress) {
        let link = LinkUnspec::new_with_index(self.web_index)
            .address(mac.to_vec())
            .build();
        self.web.link().set(link).execute().await.unwrap();
    }

    /// A packet socket on the web server's interface, for frames of one EtherType.
    pub(super) fn sniff(&self, ether_type: u16) -> Socket {
        self.web_host.inside(|| {
            let protocol = Protocol::from(i32::from(ether_type.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
            socket
                .bind(&packet_address(self.web_index, ether_type).unwrap())
                .unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            socket
        })
    }
}

/// Frames from the socket until one fits.
///
/// # Panics
/// None came in time.
pub(super) fn frame_where(socket: &mut Socket, fits: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let start = Instant::now();
    let mut buffer = [0; 2048];
    while start.elapsed() < DEADLINE {
        match socket.read(&mut buffer) {
            Ok(length) if fits(&buffer[..length]) => return buffer[..length].to_vec(),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => panic!("cannot sniff: {error}"),
        }
    }
    panic!("no such frame came within {DEADLINE:?}");
}

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn index(handle: &Handle, name: &str) -> u32 {
    use futures_util::TryStreamExt as _;
    handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
        .unwrap()
        .unwrap()
        .header
        .index
}

fn no_duplicate_address_detection(name: &str) {
    std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
}
