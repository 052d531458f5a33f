//! The real etcd in a world, on a host that would otherwise be a backend, and the keys that are put into it.

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

/// A cluster of one member.
#[derive(Debug)]
pub struct Etcd<'a> {
    host: &'a Namespace,
    directory: PathBuf,
    url: String,
    access: Access,
    process: Option<Process>,
}

impl<'a> Etcd<'a> {
    /// Starts it in a backend's place.
    pub fn start(world: &'a World, place: Backend, access: Access) -> Result<Self> {
        let scheme = if access == Access::Closed { "https" } else { "http" };
        let address = backend_address(place);
        let directory = world.directory().join("etcd");
        std::fs::create_dir_all(&directory)?;
        if access == Access::Closed {
            issue(&directory, &address.to_string()).context("certificates for etcd")?;
        }
        let mut etcd = Self {
            host: world.backend(place)?,
            directory,
            url: format!("{scheme}://{address}:2379"),
            access,
            process: None,
        };
        etcd.run()?;
        Ok(etcd)
    }

    /// Starts it again, with what it had.
    pub fn run(&mut self) -> Result<()> {
        let peers = "http://127.0.0.1:2380";
        let mut command = Command::new("etcd");
        command.args(["--name", "m", "--logger", "zap", "--data-dir"]);
        command.arg(self.directory.join("data"));
        command.args(["--listen-client-urls", &self.url]);
        command.args(["--advertise-client-urls", &self.url]);
        command.args([
            "--listen-peer-urls",
            peers,
            "--initial-advertise-peer-urls",
            peers,
        ]);
        command.args(["--initial-cluster", &format!("m={peers}")]);
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
        let log = self.directory.join("log");
        self.process = Some(Process::start(self.host, &mut command, &log)?);
        let alive = until("etcd answers", || Ok(self.control(&["get", "nothing"]).is_ok()));
        alive.with_context(|| self.process.as_ref().map(Process::tail).unwrap_or_default())?;
        Ok(())
    }

    /// Kills it (SIGKILL); what it has said yes to is on its disk.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("etcd is not running")?.kill()
    }

    /// Stops it without a word to anybody (SIGSTOP): connections stay and are silent.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process
            .as_ref()
            .context("etcd is not running")?
            .signal(signal)
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

    /// `etcdctl`, on etcd's host: what it says.
    pub fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &self.url, "--command-timeout", "2s"]);
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
        self.host.run(|| run_command(&mut command))
    }

    /// `[etcd]` of a balancer's file, with further lines.
    pub fn table(&self, copy: &Path, lines: &str) -> String {
        let mut table = format!(
            "[etcd]\nendpoints = [{:?}]\nkey = {KEY:?}\ncopy = {copy:?}\n{lines}\n",
            self.url
        );
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

    /// Where clients call it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// An authority, and certificates that it signed for the member and for clients.
fn issue(directory: &Path, address: &str) -> Result<()> {
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
    let names = format!("subjectAltName=IP:{address}");
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
