//! Running a test binary: within its time, with its output on the console and its end in the result.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::events::Outcome;

/// How often it is looked whether a test binary has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// How many lines of a failed one's output are told.
const TAIL_LINES: usize = 80;

/// A test binary.
#[derive(Debug, Deserialize)]
pub(crate) struct Suite {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    /// How long it may take.
    seconds: u64,
}

/// Runs a test binary to its end, or to that of its time.
pub(crate) fn run(suite: &Suite) -> Result<Outcome> {
    let path = PathBuf::from("/run").join(format!("{}.log", suite.name));
    let log = File::create(&path)?;
    let begin = Instant::now();
    let mut child = Command::new(&suite.program)
        .args(&suite.arguments)
        .envs(&suite.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", suite.program.display()))?;
    let limit = Duration::from_secs(suite.seconds);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(PAUSE);
    };
    let output = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    // The console is a file on the host's side: that nobody reads it is no reason to stop.
    let _ = std::io::stdout().write_all(output.as_bytes());
    let is_passed = status.is_some_and(|status| status.success());
    Ok(Outcome {
        suite: suite.name.clone(),
        is_passed,
        seconds: begin.elapsed().as_secs_f64(),
        summary: match status {
            Some(_) => summary(&output).to_owned(),
            None => format!("not over after {} s", suite.seconds),
        },
        tail: (!is_passed).then(|| tail(&output)),
    })
}

/// The line by which a test binary, or the fuzzer, sums up.
fn summary(output: &str) -> &str {
    let is_summary = |line: &&str| line.starts_with("test result: ") || line.contains(" packets, ");
    let line = output.lines().rev().find(is_summary).unwrap_or_default();
    line.trim_start_matches("test result: ")
}

fn tail(output: &str) -> String {
    let lines: Vec<_> = output.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
