//! Where things are: the workspace's root, cargo's target directory, the eBPF objects, the binary.
//!
//! Relies on cargo's own environment variables; knows nothing of what is built or run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target directory: `CARGO_TARGET_DIR` where it is set, else `target` in the workspace.
pub(crate) fn target_dir() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => root().join(dir),
        _ => root().join("target"),
    }
}

/// Where `build-ebpf` leaves the objects, and where foobar-userspace's build script looks for them.
pub(crate) fn bpf_dir() -> PathBuf {
    target_dir().join("bpf")
}

/// The `foobar` binary of the dev profile, the only one that the lab and the tests use.
pub(crate) fn foobar_binary() -> PathBuf {
    target_dir().join("debug/foobar")
}

/// The cargo that runs this program, so that no other toolchain's is picked up on the way.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// Takes away from a command what cargo told this program of itself. Build scripts that watch those
/// variables would else run anew, and half the dependencies with them, whenever one builds by
/// `cargo xtask` after a plain `cargo build` or the other way round.
pub(crate) fn forget_own_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_package) {
            command.env_remove(name);
        }
    }
}

fn describes_package(name: &str) -> bool {
    let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    name == "CARGO" || name == "CARGO_PRIMARY_PACKAGE" || prefixes.iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_told_cargo_stays() {
        assert!(describes_package("CARGO_MANIFEST_DIR") && describes_package("CARGO_PKG_NAME"));
        for kept in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "CARGO_TERM_COLOR",
        ] {
            assert!(!describes_package(kept), "{kept}");
        }
    }
}
