//! `cargo xtask build`: the eBPF objects, then the `foobar` binary that embeds them.

use std::process::Command;

use anyhow::Result;

use crate::ebpf::{self, Variant};
use crate::{exec, workspace};

/// Builds everything that the lab needs, in the dev profile.
pub(crate) fn build() -> Result<()> {
    ebpf::build(Variant::Dev)?;
    exec::run(cargo().args(["build", "--package", "foobar-userspace", "--bins"]))
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
