//! `cargo xtask build`: the eBPF objects, then the `foobar` binary that embeds them.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::ebpf::{self, Variant};
use crate::{exec, workspace};

/// Builds everything that the lab needs, in the dev profile.
pub(crate) fn build() -> Result<()> {
    ebpf::build(Variant::Dev)?;
    exec::run(cargo().args(["build", "--package", "foobar-userspace", "--bins"]))
}

/// Builds the stand-in for the next release as `target/debug/foobar-next`: tests of a cluster of two
/// releases run it. What is built after it is this release again.
pub(crate) fn next_release() -> Result<()> {
    exec::run(programs().args(["--features", "foobar-userspace/next-release"]))?;
    let built = workspace::foobar_binary();
    let next = built.with_file_name("foobar-next");
    std::fs::copy(&built, &next).with_context(|| format!("cannot write {}", next.display()))?;
    Ok(())
}

/// The command that builds what tests and the lab start, with the same features of all dependencies whoever asks.
pub(crate) fn programs() -> Command {
    let mut command = cargo();
    command.args([
        "build",
        "--package",
        "foobar-userspace",
        "--package",
        "xtask",
        "--bins",
    ]);
    command
}

/// A cargo command in the workspace whose build scripts find the objects.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(workspace::cargo());
    workspace::forget_own_package(&mut command);
    command
        .current_dir(workspace::root())
        .env("FOOBAR_BPF_DIR", workspace::bpf_dir());
    command
}
