//! A MariaDB of the test's own: made, started, stopped and removed with its directory, also after a panic.
//!
//! mariadbd refuses to run as root, so that root starts it as `mysql` or `nobody`; its directory is one
//! which that user can traverse.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "quite secret";

/// A running database server with the database `foobar` and the user `foobar_app`.
pub(crate) struct MariaDb {
    directory: PathBuf,
    user: String,
    port: u16,
    server: Option<Child>,
}

impl MariaDb {
    pub(crate) fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("/tmp/foobar-app-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        // Known from here on, so that whatever fails next is cleaned up.
        let mut this = Self {
            directory,
            user: String::new(),
            port: free_port(),
            server: None,
        };
        this.user = this.prepare_user();
        let installed = Command::new(find("mariadb-install-db"))
            .env("TMPDIR", this.temporary())
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--user={}", this.user))
            .arg(format!("--datadir={}", this.data().display()))
            .output()
            .unwrap();
        assert!(installed.status.success(), "mariadb-install-db: {installed:?}");
        this.start_again();
        this.query(&format!(
            "CREATE DATABASE foobar; CREATE USER foobar_app@'%' IDENTIFIED BY '{PASSWORD}'; \
             GRANT ALL ON foobar.* TO foobar_app@'%'"
        ));
        fs::write(this.directory.join("db.password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(
            this.directory.join("jwt.secret"),
            "0123456789abcdef0123456789abcdef\n",
        )
        .unwrap();
        this
    }

    /// Whom the server runs as; the data directory is made theirs.
    fn prepare_user(&self) -> String {
        let id = |arguments: &[&str]| {
            let output = Command::new("id").args(arguments).output().unwrap();
            output
                .status
                .success()
                .then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        fs::create_dir(self.data()).unwrap();
        fs::create_dir(self.temporary()).unwrap();
        if id(&["-u"]).as_deref() != Some("0") {
            return id(&["-un"]).unwrap();
        }
        let (user, uid) = ["mysql", "nobody"]
            .into_iter()
            .find_map(|user| Some((user, id(&["-u", user])?.parse().ok()?)))
            .expect("neither a user mysql nor a user nobody");
        chown(self.data(), Some(uid), None).unwrap();
        chown(self.temporary(), Some(uid), None).unwrap();
        user.to_owned()
    }

    /// Starts the stopped server and waits until it answers a query.
    pub(crate) fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let log = fs::File::create(self.log()).unwrap();
        let server = Command::new(find("mariadbd"))
            .env("TMPDIR", self.temporary())
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--innodb-buffer-pool-size=16M",
            ])
            .arg(format!("--user={}", self.user))
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--pid-file={}", self.data().join("pid").display()))
            .arg(format!("--port={}", self.port))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        let start = Instant::now();
        while self.try_query("SELECT 1").is_err() {
            let ended = self.server.as_mut().and_then(|server| server.try_wait().unwrap());
            let log = || fs::read_to_string(self.log()).unwrap_or_default();
            assert!(ended.is_none(), "mariadbd ended: {}", log());
            assert!(start.elapsed() < PATIENCE, "mariadbd does not answer: {}", log());
            sleep(Duration::from_millis(50));
        }
    }

    /// Kills the server, as a power cut would, and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Not asked politely: a connection in the pool must survive the worst.
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Runs statements as root on the database `foobar` where there is one, and gives the rows as lines of
    /// tab-separated values.
    pub(crate) fn query(&self, statements: &str) -> String {
        self.try_query(statements)
            .unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// A client that holds the lock which a migrating server takes, until it is killed.
    pub(crate) fn hold_migration_lock(&self) -> Child {
        let holder = self
            .client()
            .arg("--execute=SELECT GET_LOCK(CONCAT('foobar_migrate_', SHA1('foobar')), 0); DO SLEEP(600)")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while self.query("SELECT IS_USED_LOCK(CONCAT('foobar_migrate_', SHA1('foobar'))) IS NULL") != "0" {
            assert!(start.elapsed() < PATIENCE, "the lock is not taken");
            sleep(Duration::from_millis(20));
        }
        holder
    }

    fn client(&self) -> Command {
        let mut client = Command::new(find("mariadb"));
        client
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root"])
            .arg(format!("--socket={}", self.socket().display()));
        client
    }

    fn try_query(&self, statements: &str) -> Result<String, String> {
        let database = self.data().join("foobar").exists().then_some("foobar");
        let output = self
            .client()
            .arg(format!("--execute={statements}"))
            .args(database)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// `app.toml` of a server on a free port that uses this database.
    pub(crate) fn app_config(&self) -> String {
        let file = |name: &str| self.directory.join(name).display().to_string();
        format!(
            "listen = \"127.0.0.1:0\"\njwt_secret_file = {:?}\nrequest_timeout_ms = 30000\n[database]\n\
             host = \"127.0.0.1\"\nport = {}\nname = \"foobar\"\nuser = \"foobar_app\"\n\
             password_file = {:?}\nmax_connections = 5\nacquire_timeout_ms = 2000\n",
            file("jwt.secret"),
            self.port,
            file("db.password"),
        )
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its own: a server that starts removes what it takes for leftovers, those of its neighbours too.
    fn temporary(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    fn socket(&self) -> PathBuf {
        self.data().join("sock")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("mariadbd.log")
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.stop();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The program's path; servers are often not on a user's PATH.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(|d| Path::new(d).to_owned()),
        )
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{program} is missing; run `cargo xtask setup`"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
