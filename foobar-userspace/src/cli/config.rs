//! `foobar config check FILE`: reads and validates a balancer's configuration, and does nothing else.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::config::{Config, Report};
use crate::lb::fleet;

/// Work on configuration files
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate a balancer's configuration file; exit code 1 where it is not valid
    Check {
        /// The configuration file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the file has a table etcd: the value that the key is to get; otherwise the copy of the last good one is
        /// taken, if there is one
        #[arg(long, value_name = "FILE")]
        etcd_value: Option<PathBuf>,
        /// Write the outcome as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Prints the outcome: a summary or JSON to standard output, the errors to standard error.
    ///
    /// # Errors
    /// Where the output cannot be written, or etcd's value cannot be read. A bad file is no error but exit code 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Check {
            file,
            etcd_value,
            json,
        } = self;
        let (result, value) = fleet::load_without_etcd(&file, etcd_value.as_deref())?;
        let value = value.as_deref();
        let code = if result.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        match result {
            _ if json => writeln!(std::io::stdout(), "{}", as_json(&file, value, &result))?,
            Ok(config) => write!(std::io::stdout(), "{}", summary(&file, value, &config))?,
            Err(report) => {
                let color = std::io::stderr().is_terminal();
                writeln!(std::io::stderr(), "{}", report.render(color))?;
            }
        }
        Ok(code)
    }
}

fn summary(file: &Path, value: Option<&Path>, config: &Config) -> String {
    let with = match (value, &config.etcd) {
        (Some(value), _) => format!(" with etcd's value in {}", value.display()),
        (None, Some(etcd)) => format!(" WITHOUT etcd's value (no copy in {})", etcd.copy.display()),
        (None, None) => String::new(),
    };
    let mut out = format!(
        "{}{with}: valid; {} VIPs on {}\n",
        file.display(),
        config.vips.len(),
        config.interface
    );
    let width = config
        .vips
        .iter()
        .map(|vip| vip.name.len())
        .max()
        .unwrap_or_default();
    for vip in &config.vips {
        let drained = vip.backends.iter().filter(|backend| backend.weight == 0).count();
        let (service, backends) = (vip.service(), counted(vip.backends.len(), "backend"));
        out.push_str(&format!("  {:width$}  {service}  {backends}", vip.name));
        if drained > 0 {
            out.push_str(&format!(", {drained} drained"));
        }
        out.push('\n');
    }
    out
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

fn as_json(file: &Path, etcd_value: Option<&Path>, result: &Result<Config, Report>) -> Value {
    match result {
        Ok(config) => {
            let vips: Vec<Value> = config
                .vips
                .iter()
                .map(|vip| {
                    json!({
                        "name": vip.name,
                        "address": vip.address,
                        "port": vip.ports.single(),
                        "ports": vip.ports,
                        "protocol": vip.protocol,
                        "backends": vip.backends.len(),
                    })
                })
                .collect();
            json!({ "file": file, "etcd_value": etcd_value, "valid": true, "interface": config.interface, "vips": vips, "errors": [] })
        }
        Err(report) => {
            json!({ "file": file, "etcd_value": etcd_value, "valid": false, "errors": report.errors() })
        }
    }
}
