//! `cargo xtask setup` on a machine that has everything: it changes nothing, and no service listens that
//! did not before. (What it installs, it installs under a policy that forbids starts: xtask's own tests.)

use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

use foobar_tests::artifacts;

/// Runs `cargo xtask WORDS` by the program that cargo built.
fn xtask(words: &[&str]) -> Output {
    let program = artifacts::xtask().expect("xtask is built");
    Command::new(program).args(words).output().expect("xtask runs")
}

/// The local addresses of this network namespace's listening TCP sockets and unconnected UDP sockets, as
/// the kernel writes them (proc(5): address and port in hexadecimal, state 0A is LISTEN, 07 unconnected).
fn listening() -> BTreeSet<String> {
    let mut sockets = BTreeSet::new();
    for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
        for line in fs::read_to_string(format!("/proc/self/net/{table}"))
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let fields: Vec<_> = line.split_whitespace().collect();
            if fields.get(3) == Some(&state) {
                sockets.insert(format!("{table} {}", fields[1]));
            }
        }
    }
    sockets
}

/// What systemd would start at the next boot.
fn enabled_services() -> BTreeSet<PathBuf> {
    let directories = fs::read_dir("/etc/systemd/system")
        .into_iter()
        .flatten()
        .flatten();
    directories
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".wants"))
        .flat_map(|entry| fs::read_dir(entry.path()).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect()
}

/// Held by a test while it opens or compares sockets.
static SOCKETS: Mutex<()> = Mutex::new(());

#[test]
fn the_comparison_sees_a_socket_that_appears() {
    let _sockets = SOCKETS.lock();
    let before = listening();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let new: Vec<_> = listening().difference(&before).cloned().collect();
    let port = |port: u16| format!(":{port:04X}");
    for expected in [
        port(tcp.local_addr().expect("bound").port()),
        port(udp.local_addr().expect("bound").port()),
    ] {
        assert!(
            new.iter().any(|socket| socket.ends_with(&expected)),
            "{expected} is not in {new:?}"
        );
    }
}

#[test]
fn set_up_twice_starts_nothing_and_changes_nothing() {
    let _sockets = SOCKETS.lock();
    let policy = || fs::read("/usr/sbin/policy-rc.d").ok();
    let check = xtask(&["setup", "--check"]);
    assert!(
        check.status.success(),
        "the machine is not set up: {}",
        String::from_utf8_lossy(&check.stdout)
    );
    let (sockets, services, policy_before) = (listening(), enabled_services(), policy());
    for _ in 0..2 {
        let setup = xtask(&["setup"]);
        assert!(
            setup.status.success(),
            "{}",
            String::from_utf8_lossy(&setup.stderr)
        );
        assert_eq!(
            String::from_utf8_lossy(&setup.stdout),
            "setup: everything is here\n"
        );
    }
    let new: Vec<_> = listening().difference(&sockets).cloned().collect();
    assert!(new.is_empty(), "new listening sockets: {new:?}");
    assert_eq!(enabled_services(), services);
    assert_eq!(policy(), policy_before);
}
