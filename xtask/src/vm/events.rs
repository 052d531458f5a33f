//! What the machine tells, line by line (its side of it is the `foobar-guest` of the tests' package).

use serde::{Deserialize, Serialize};

/// Something that was done, or is to be done now.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// The machine has booted.
    Kernel { release: String },
    /// A program was loaded, or refused.
    Load(Load),
    /// A suite starts.
    Begin { suite: String },
    /// A suite has ended.
    Suite(Outcome),
    /// All is done.
    End,
    /// It could not be gone on with.
    Broken { error: String },
}

/// What the kernel says of a program.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(super) struct Load {
    pub(super) program: String,
    /// The features that it was loaded with, where it has any.
    pub(super) features: Option<Vec<String>>,
    /// How long the kernel took.
    pub(super) ms: f64,
    /// How many instructions the verifier went through, in all ways that a packet can take.
    pub(super) verified: u32,
    /// How many instructions are left of the program.
    pub(super) instructions: u32,
    /// The end of what the verifier says, where it refuses.
    pub(super) refusal: Option<String>,
}

/// How a suite ended.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(super) struct Outcome {
    pub(super) suite: String,
    pub(super) is_passed: bool,
    pub(super) seconds: f64,
    pub(super) summary: String,
    /// The end of its output, where it failed.
    pub(super) tail: Option<String>,
}

/// An event from a line, which a serial port ends with a carriage return.
pub(super) fn read(line: &str) -> Option<Event> {
    serde_json::from_str(line.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_machine_writes_them() {
        let line = "{\"event\":\"load\",\"program\":\"balancer\",\"features\":[\"lists\"],\"ms\":1.5,\
                    \"verified\":10,\"instructions\":5,\"refusal\":null}\r\n";
        let Some(Event::Load(load)) = read(line) else {
            panic!("no load");
        };
        assert_eq!(load.features, Some(vec!["lists".to_owned()]));
        assert!(matches!(read("{\"event\":\"end\"}\r\n"), Some(Event::End)));
        assert!(read("a word of the firmware").is_none());
    }
}
