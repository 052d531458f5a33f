//! `cargo xtask setup`: a bare machine becomes one that builds, runs and tests foobar.
//!
//! Looks first (by programs and files, not by what a package manager believes), says what it will install,
//! installs only that, and looks again. Never starts, enables or configures a service of the host.

mod apt;
mod linker;
mod tools;

use anyhow::{Result, bail};

use crate::compiler;

pub(crate) use apt::Apt;
pub(crate) use tools::Tool;

/// Whether `setup` may change the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Install what is missing.
    Install,
    /// Only say what is missing; that there is something is an error.
    Check,
}

/// Brings the machine to a state in which everything else here works.
pub(crate) fn run(mode: Mode) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        println!("setup: everything is here");
        return Ok(());
    }
    println!("setup: missing are");
    for thing in &missing {
        println!("  {thing}");
    }
    if mode == Mode::Check {
        bail!("{} missing; `cargo xtask setup` installs what is", missing.len());
    }
    install()?;
    let missing = self::missing();
    if !missing.is_empty() {
        bail!("still missing after the installation: {}", missing.join(", "));
    }
    println!("setup: done");
    Ok(())
}

/// Installs what is missing of some programs that only one command needs, as [`run`] does; or says what that is.
pub(crate) fn require(tools: &[Tool]) -> Result<()> {
    let missing: Vec<_> = tools::missing_of(tools).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // On standard error: what the command prints may be for programs.
    eprintln!("setup: missing are");
    for tool in &missing {
        eprintln!("  {tool}");
    }
    let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    Apt::default().install(&packages)?;
    if let Some(tool) = tools::missing_of(tools).next() {
        bail!("still missing after the installation: {tool}");
    }
    Ok(())
}

/// What is missing, in words.
fn missing() -> Vec<String> {
    let mut missing: Vec<_> = tools::missing().map(ToString::to_string).collect();
    match compiler::find() {
        None => missing.push(format!(
            "a Rust compiler with the sources of `core` (rustup: `rustup component add rust-src \
             --toolchain nightly`; Debian packages {})",
            compiler::DEBIAN_PACKAGES.join(" and ")
        )),
        Some(compiler) => {
            if let Err(problem) = linker::check(&compiler) {
                missing.push(format!("bpf-linker ({problem})"));
            }
        }
    }
    missing
}

fn install() -> Result<()> {
    let mut packages: Vec<_> = tools::missing().map(|tool| tool.package).collect();
    packages.dedup();
    if compiler::find().is_none() {
        packages.extend(compiler::DEBIAN_PACKAGES);
    }
    let mut apt = apt::Apt::default();
    apt.install(&packages)?;
    // Only now is it known which compiler there is, and so which LLVM the linker needs.
    let compiler = compiler::require()?;
    if linker::check(&compiler).is_err() {
        linker::install(&compiler, &mut apt)?;
    }
    Ok(())
}
