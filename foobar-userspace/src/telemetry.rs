//! Logs: text for people, JSON lines for programs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Log options that every long-running role takes.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// Write logs as JSON, one object a line
    #[arg(long)]
    pub log_json: bool,
    /// What to log, as tracing directives (`info`, `foobar=debug,warn`)
    #[arg(long, env = "FOOBAR_LOG", default_value = "info")]
    pub log: String,
}

impl LogArgs {
    /// Installs the process's subscriber; logs go to standard error. A second call changes nothing.
    pub fn install(&self) {
        let filter = EnvFilter::try_new(&self.log).unwrap_or_else(|error| {
            eprintln!("foobar: --log {:?}: {error}; logging at info", self.log);
            EnvFilter::new("info")
        });
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        let installed = if self.log_json {
            builder.json().try_init()
        } else {
            builder.with_ansi(std::io::stderr().is_terminal()).try_init()
        };
        if installed.is_err() {
            tracing::debug!("a log subscriber is installed already");
        }
    }
}
