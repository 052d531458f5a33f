//! What the machine tells its host: a line of JSON for each thing that is done.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The second serial port: nobody but this program writes to it.
const PORT: &str = "/dev/ttyS1";

/// Something that was done, or is to be done now.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The machine has booted.
    Kernel {
        /// As `uname -r` says it.
        release: String,
    },
    /// A program was loaded, or refused.
    Load(Load),
    /// A test binary starts.
    Begin {
        /// Its name in the plan.
        suite: String,
    },
    /// A test binary has ended.
    Suite(Outcome),
    /// All is done.
    End,
    /// It can't be gone on with.
    Broken {
        /// Why.
        error: String,
    },
}

/// What the kernel says of a program.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    /// The program's name.
    pub(crate) program: String,
    /// The features that it was loaded with; `None` where it has none.
    pub(crate) features: Option<Vec<&'static str>>,
    /// How long the kernel took, in milliseconds.
    pub(crate) ms: f64,
    /// How many instructions the verifier went through, in all ways that a packet can take.
    pub(crate) verified: u32,
    /// How many instructions are left of the program.
    pub(crate) instructions: u32,
    /// The end of what the verifier says, where it refuses.
    pub(crate) refusal: Option<String>,
}

/// How a test binary ended.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// Its name in the plan.
    pub(crate) suite: String,
    /// Whether it ended well, and in time.
    pub(crate) is_passed: bool,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The line that sums it up.
    pub(crate) summary: String,
    /// The end of its output, where it failed.
    pub(crate) tail: Option<String>,
}

/// Tells events.
#[derive(Debug)]
pub(crate) struct Reporter {
    port: File,
}

impl Reporter {
    pub(crate) fn open() -> Result<Self> {
        let port = File::options()
            .write(true)
            .open(PORT)
            .with_context(|| format!("cannot open {PORT}"))?;
        Ok(Self { port })
    }

    pub(crate) fn tell(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        Ok(self.port.write_all(&line)?)
    }
}
