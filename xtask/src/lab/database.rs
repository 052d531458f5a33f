//! The lab's database: a MariaDB of its own, without a service, run by an unprivileged user.
//!
//! Root comes in through the unix socket only, as the machine's root. The app has an account of its own
//! that may come from the data segment and see one schema.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::User;

use super::network;
use super::topology::{Host, Run, Segment};
use crate::exec;

/// Where the server listens on the machine itself.
pub(crate) fn socket(run: &Run) -> PathBuf {
    directory(run).join("mysqld.sock")
}

/// A directory with a my.cnf that leads clients to this server: the machine's own one names another socket
/// and wins over any variable for it.
pub(crate) fn client_home(run: &Run) -> PathBuf {
    run.directory().join("configs/mariadb")
}

fn write_client_options(run: &Run) -> Result<()> {
    let home = client_home(run);
    fs::create_dir_all(&home)?;
    fs::write(
        home.join("my.cnf"),
        format!("[client]\nsocket={}\n", socket(run).display()),
    )
    .with_context(|| format!("cannot write to {}", home.display()))
}

fn directory(run: &Run) -> PathBuf {
    run.directory().join("db1")
}

/// The user that the server runs as: the packages' own where there is one.
fn user() -> Result<User> {
    for name in ["mysql", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    anyhow::bail!("there is no unprivileged user called mysql or nobody to run the database as")
}

/// Makes the database's files, unless they are there.
pub(crate) fn initialise(run: &Run) -> Result<()> {
    write_client_options(run)?;
    let user = user()?;
    let directory = directory(run);
    let data = directory.join("data");
    if data.join("mysql").exists() {
        return Ok(());
    }
    fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    for owned in [&directory, &data] {
        chown(owned, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
    exec::output(
        Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=socket",
                "--skip-test-db",
            ])
            .args([
                format!("--user={}", user.name),
                format!("--datadir={}", data.display()),
            ]),
    )
    .context("cannot make the database's files")
    .map(drop)
}

/// The server's command inside its host's namespace.
pub(crate) fn command(run: &Run) -> Result<Command> {
    let directory = directory(run);
    let address = Host::Db
        .address(Segment::Data)
        .context("the database has no address")?;
    let mut command = network::in_namespace(&run.namespace(Host::Db));
    command
        .args(["mariadbd", "--no-defaults", &format!("--user={}", user()?.name)])
        .arg(format!("--datadir={}", directory.join("data").display()))
        .arg(format!("--socket={}", socket(run).display()))
        .arg(format!("--pid-file={}", directory.join("mariadbd.pid").display()))
        .arg(format!("--bind-address={address}"))
        .args([
            "--port=3306",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
        ])
        .args([
            "--innodb-buffer-pool-size=64M",
            "--innodb-log-file-size=16M",
            "--performance-schema=OFF",
        ]);
    Ok(command)
}

/// Whether the server answers a query.
pub(crate) fn answers(run: &Run) -> Result<()> {
    exec::output(client(run).args(["--execute", "SELECT 1"])).map(drop)
}

/// Makes the schema and the app's account; harmless where they are there.
pub(crate) fn grant(run: &Run) -> Result<()> {
    let file = run.directory().join("secrets/db.password");
    let password = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    // Through standard input: a command line is readable by everybody on the machine.
    exec::filter(&mut client(run), &grants(password.trim()))
        .map(drop)
        .context("cannot make the app's account")
}

/// The app's account: its migrations create and alter tables, nothing else needs more than the rows.
fn grants(password: &str) -> String {
    let account = "'foobar_app'@'203.0.113.%'";
    format!(
        "CREATE DATABASE IF NOT EXISTS foobar CHARACTER SET utf8mb4;\n\
         CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';\n\
         GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES ON foobar.* TO {account};\n"
    )
}

fn client(run: &Run) -> Command {
    let mut command = Command::new("mariadb");
    command
        .args(["--no-defaults", "--batch", "--user=root"])
        .arg(format!("--socket={}", socket(run).display()));
    command
}
