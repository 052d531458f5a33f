//! The site's database: a MariaDB of a world's own, on a host that only app servers ask.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::unistd::User;

use super::{APPS, DB};
use crate::netns::{Namespace, run_command};
use crate::process::Process;
use crate::vrrp::until;

/// How long an orderly end may take.
const END: Duration = Duration::from_secs(10);

/// A running database with an empty schema `foobar`, and an account of the app servers.
#[derive(Debug)]
pub(super) struct Database(Option<Process>);

impl Database {
    /// Makes its files below `directory`, starts it on `host`, and lets `foobar_app` in by this password.
    ///
    /// # Errors
    /// Where MariaDB is missing or does not start.
    pub(super) fn start(host: &Namespace, directory: &Path, password: &str) -> Result<Self> {
        let user = user()?;
        let home = directory.join("db");
        let data = home.join("data");
        fs::create_dir_all(&data)?;
        for owned in [&home, &data] {
            chown(owned, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        run_command(
            Command::new("mariadb-install-db")
                .args([
                    "--no-defaults",
                    "--auth-root-authentication-method=socket",
                    "--skip-test-db",
                ])
                .arg(format!("--user={}", user.name))
                .arg(format!("--datadir={}", data.display())),
        )?;
        let socket = home.join("mysqld.sock");
        let mut command = Command::new("mariadbd");
        command
            .args(["--no-defaults", "--skip-name-resolve", "--performance-schema=OFF"])
            .args([
                "--port=3306",
                "--character-set-server=utf8mb4",
                "--innodb-buffer-pool-size=32M",
            ])
            .arg(format!("--bind-address={DB}"))
            .arg(format!("--user={}", user.name))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", home.join("mariadbd.pid").display()));
        let mut process = Process::start(host, &mut command, &directory.join("mariadbd.log"))?;
        until("the database answers", || {
            if let Some(ended) = process.ended()? {
                bail!("the database has ended, {ended}\n{}", process.tail());
            }
            Ok(said(&socket, "SELECT 1;").is_ok())
        })?;
        let mut statements = "CREATE DATABASE foobar CHARACTER SET utf8mb4;\n".to_owned();
        for app in APPS {
            statements += &format!(
                "CREATE USER 'foobar_app'@'{app}' IDENTIFIED BY '{password}';\n\
                 GRANT ALL ON foobar.* TO 'foobar_app'@'{app}';\n"
            );
        }
        said(&socket, &statements).context("make the app's account")?;
        Ok(Self(Some(process)))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(process) = self.0.take()
            && let Err(error) = process.end(END)
        {
            eprintln!("the database: {error:#}");
        }
    }
}

/// The packages' own user where there is one.
fn user() -> Result<User> {
    for name in ["mysql", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("there is no user called mysql or nobody to run the database as")
}

/// What root's client prints for these statements. They go through standard input: everybody can read a command line.
fn said(socket: &Path, statements: &str) -> Result<String> {
    let mut child = Command::new("mariadb")
        .args(["--no-defaults", "--batch", "--user=root"])
        .arg(format!("--socket={}", socket.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start mariadb")?;
    std::io::Write::write_all(
        &mut child.stdin.take().context("its stdin")?,
        statements.as_bytes(),
    )?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(
        output.status.success(),
        "mariadb: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
