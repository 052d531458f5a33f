//! Where the build has left what the tests run: the `foobar` binary and the eBPF objects.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The environment variable that names the `foobar` binary.
pub const BINARY_VARIABLE: &str = "FOOBAR_BIN";
/// The environment variable that names the directory of the eBPF objects.
pub const OBJECTS_VARIABLE: &str = "FOOBAR_BPF_DIR";

/// The binary to test: [`BINARY_VARIABLE`]'s, else the one that was built with the tests.
pub fn binary() -> Result<PathBuf> {
    existing(match std::env::var_os(BINARY_VARIABLE) {
        Some(path) => path.into(),
        None => profile_directory()?.join("foobar"),
    })
}

/// The stand-in for the next release, which `cargo xtask test` builds.
pub fn next_release() -> Result<PathBuf> {
    let path = profile_directory()?.join("foobar-next");
    ensure!(
        path.is_file(),
        "{} does not exist: run `cargo xtask test --only build`",
        path.display()
    );
    Ok(path)
}

/// The xtask binary that was built beside the tests.
pub fn xtask() -> Result<PathBuf> {
    let path = profile_directory()?.join("xtask");
    ensure!(
        path.is_file(),
        "{} does not exist: run `cargo build --package xtask`",
        path.display()
    );
    Ok(path)
}

/// Cargo's target directory, the one that the tests were built in.
pub fn target_directory() -> Result<PathBuf> {
    let profile = profile_directory()?;
    Ok(profile
        .parent()
        .context("the profile's directory has no parent")?
        .to_owned())
}

/// An eBPF object, from [`OBJECTS_VARIABLE`]'s directory or `bpf` in the target directory.
pub fn object(name: &str) -> Result<PathBuf> {
    existing(match std::env::var_os(OBJECTS_VARIABLE) {
        Some(directory) => Path::new(&directory).join(name),
        None => profile_directory()?.with_file_name("bpf").join(name),
    })
}

/// `target/debug`, of a test that runs as `target/debug/deps/NAME`, or of a program in it.
fn profile_directory() -> Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let directory = executable.parent().map(|directory| {
        if directory.ends_with("deps") {
            directory.parent().unwrap_or(directory)
        } else {
            directory
        }
    });
    Ok(directory
        .context("the program does not run from a target directory")?
        .to_owned())
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    ensure!(
        path.is_file(),
        "{} does not exist: run `cargo xtask build`",
        path.display()
    );
    Ok(path)
}
