//! `foobar config check FILE`: reads and validates a balancer's configuration, and does nothing else.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::config::{self, Config, Report};

/// Work on configuration files
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Validate a balancer's configuration file; exit code 1 where it is not valid
    Check {
        /// The configuration file (TOML)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Write the outcome as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    /// Prints the outcome: a summary or JSON to standard output, the errors to standard error.
    ///
    /// # Errors
    /// Where the output cannot be written. A bad file is no error but exit code 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Check { file, json } = self;
        let result = config::load(&file);
        let code = if result.is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        match result {
            _ if json => writeln!(std::io::stdout(), "{}", as_json(&file, &result))?,
            Ok(config) => write!(std::io::stdout(), "{}", summary(&file, &config))?,
            Err(report) => {
                let color = std::io::stderr().is_terminal();
                writeln!(std::io::stderr(), "{}", report.render(color))?;
            }
        }
        Ok(code)
    }
}

fn summary(file: &Path, config: &Config) -> String {
    let mut out = format!(
        "{}: valid; {} VIPs on {}\n",
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

fn as_json(file: &Path, result: &Result<Config, Report>) -> Value {
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
            json!({ "file": file, "valid": true, "interface": config.interface, "vips": vips, "errors": [] })
        }
        Err(report) => json!({ "file": file, "valid": false, "errors": report.errors() }),
    }
}
