//! What is run in the machine besides the loading of every program: the tests that need nothing but the kernel,
//! and a few of those that need the daemons and a network.
//!
//! The machine computes some ten times as slowly as its host where that has no KVM: what is left out is what
//! takes long, or needs more programs than `ip`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::build::cargo;
use crate::{ebpf, exec, workspace};

/// Where the objects are in the machine.
pub(super) const OBJECTS: &str = "/foobar/bpf";
const BINARY: &str = "/foobar/foobar";

/// A test binary to be run in the machine.
#[derive(Debug, Serialize)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    program: String,
    arguments: Vec<&'static str>,
    environment: BTreeMap<&'static str, &'static str>,
    seconds: u64,
}

/// Packets of the fuzzer, and the seed that they come from.
const FUZZ: [&str; 4] = ["--packets", "100000", "--seed", "20260101"];

/// The tests' binaries.
const TESTS: [&str; 4] = ["packets", "conformance", "agent", "daemon"];

/// The packet tests that the conformance table has no cases of, but for one that loads a program for every length
/// of an id. Each loads its own, which takes long here.
const PACKETS: [&str; 7] = [
    "agent::",
    "features::",
    "quic::",
    "ranges::",
    "too_big::",
    "--skip",
    "quic::ids_of_every_length_are_found",
];

/// Tests that have a network each.
const ONE_AT_A_TIME: [&str; 4] = ["--nocapture", "--test-threads", "1", "--exact"];

/// The agent's promises that ask most of the kernel: its socket table, and pins that are adopted.
const AGENT: [&str; 2] = [
    "a_handshake_by_syn_cookie_is_completed_where_it_began",
    "a_killed_agent_breaks_nothing_and_the_next_one_adopts_what_it_left",
];

/// The daemon's: native XDP on a veth, checks, another program in the place of one that runs, capabilities.
const LB: [&str; 4] = [
    "admission::admission_comes_and_goes_by_reloads_and_not_one_packet_is_lost",
    "changes::only_detach_ends_forwarding_and_it_leaves_nothing",
    "ipv6::backends_of_ipv6_vips_are_resolved_and_checked_by_ipv6",
    "refusals::it_needs_its_capabilities_and_no_other",
];

/// What is run, in this order.
pub(super) fn all() -> Vec<Suite> {
    let suite = |name, program: &str, arguments: &[&'static str]| Suite {
        name,
        program: place(program),
        arguments: arguments.to_vec(),
        environment: BTreeMap::from([
            ("PATH", "/usr/bin"),
            ("TMPDIR", "/tmp"),
            ("FOOBAR_BIN", BINARY),
            ("FOOBAR_BPF_DIR", OBJECTS),
        ]),
        seconds: 300,
    };
    vec![
        suite("conformance", "conformance", &[]),
        suite("packets", "packets", &PACKETS),
        suite("fuzz", "fuzz", &FUZZ),
        suite("agent", "agent", &[&ONE_AT_A_TIME[..], &AGENT].concat()),
        suite("lb", "daemon", &[&ONE_AT_A_TIME[..], &LB].concat()),
    ]
}

fn place(program: &str) -> String {
    format!("/foobar/{program}")
}

/// What was built for the machine.
#[derive(Debug)]
pub(super) struct Built {
    /// The first process.
    pub(super) guest: PathBuf,
    /// Programs by their places in the machine.
    pub(super) programs: Vec<(String, PathBuf)>,
}

/// Builds the objects, the binary, the tests, and the machine's first process.
pub(super) fn build() -> Result<Built> {
    ebpf::build(ebpf::Variant::Dev)?;
    exec::run(cargo().args([
        "build",
        "--quiet",
        "--package",
        "foobar-userspace",
        "--package",
        "foobar-tests",
        "--bins",
    ]))?;
    let mut command = cargo();
    command
        .args(["test", "--package", "foobar-tests", "--no-run", "--quiet"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(TESTS.iter().flat_map(|test| ["--test", test]))
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let mut messages = String::new();
    child
        .stdout
        .take()
        .context("cargo has no output")?
        .read_to_string(&mut messages)?;
    ensure!(child.wait()?.success(), "the tests did not build");
    let directory = workspace::target_dir().join("debug");
    let mut programs = vec![
        (BINARY.to_owned(), workspace::foobar_binary()),
        (place("fuzz"), directory.join("fuzz")),
    ];
    for test in TESTS {
        let path = executable(&messages, test).with_context(|| format!("cargo has not built {test}"))?;
        programs.push((place(test), path));
    }
    Ok(Built {
        guest: directory.join("foobar-guest"),
        programs,
    })
}

/// Where cargo says that it has put a test's binary (a line of JSON for each thing that it has built).
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        target: Target,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .find(|artifact| artifact.target.name == test && artifact.target.kind == ["test"])
        .and_then(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tests_binary_is_where_cargo_says() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"fuzz","kind":["bin"]},"executable":"/t/fuzz"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"fuzz","kind":["test"]},"executable":"/t/deps/fuzz-1"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(
            executable(messages, "fuzz"),
            Some(PathBuf::from("/t/deps/fuzz-1"))
        );
        assert_eq!(executable(messages, "packets"), None);
    }

    #[test]
    fn every_suite_has_its_binary_and_its_own_name() {
        let names: std::collections::BTreeSet<_> = all().iter().map(|suite| suite.name).collect();
        assert_eq!(names.len(), all().len());
        for suite in all() {
            let program = suite.program.strip_prefix("/foobar/").unwrap();
            assert!(program == "fuzz" || TESTS.contains(&program), "{program}");
        }
    }
}
