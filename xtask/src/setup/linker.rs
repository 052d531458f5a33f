//! bpf-linker: is it there with the compiler's LLVM, and building it.
//!
//! It reads the bitcode that rustc writes, so its LLVM must be of the same major version. Built by
//! `cargo install` against the shared LLVM of Debian's `llvm-N-dev` where there is one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Apt;
use crate::compiler::Compiler;
use crate::{exec, workspace};

const VERSION: &str = "0.13.0";
/// The LLVM majors that this version has a cargo feature for.
const LLVM_FEATURES: std::ops::RangeInclusive<u32> = 21..=23;

/// Nothing if bpf-linker is there and fits the compiler, else what is wrong.
pub(super) fn check(compiler: &Compiler) -> Result<(), String> {
    let wanted = compiler.version.llvm_major;
    let Some(linker) = exec::find_program("bpf-linker") else {
        return Err(format!("for LLVM {wanted}, built by cargo install"));
    };
    match llvm_of(&linker) {
        Llvm::Major(major) if major != wanted => Err(format!(
            "the one here has LLVM {major}, the compiler has {wanted}"
        )),
        Llvm::NotFound => Err("the one here does not find its LLVM library".to_owned()),
        // One with its LLVM built in does not say which; the link itself then tells.
        Llvm::Major(_) | Llvm::BuiltIn => Ok(()),
    }
}

/// Builds bpf-linker with the LLVM of the compiler.
pub(super) fn install(compiler: &Compiler, apt: &mut Apt) -> Result<()> {
    let major = compiler.version.llvm_major;
    let package = format!("llvm-{major}-dev");
    if llvm_config(major).is_none() && apt.knows(&package) {
        apt.install(&[&package])?;
    }
    println!("setup: building bpf-linker {VERSION} for LLVM {major} (about a minute)");
    let mut command = Command::new(workspace::cargo());
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ])
        // In a directory of its own: a target directory shared with the workspace would be rebuilt.
        .env_remove("CARGO_TARGET_DIR");
    if let Some(llvm_config) = llvm_config(major).filter(|_| LLVM_FEATURES.contains(&major)) {
        let ask = |what| exec::output(Command::new(&llvm_config).arg(what));
        let libraries = ask("--libdir")?;
        command
            .args(["--no-default-features", "--features", &format!("llvm-{major}")])
            .env("LLVM_PREFIX", ask("--prefix")?.trim())
            .env("RUSTFLAGS", format!("-Lnative={}", libraries.trim()));
    }
    exec::run(&mut command).context("bpf-linker did not build")
}

fn llvm_config(major: u32) -> Option<PathBuf> {
    exec::find_program(&format!("llvm-config-{major}"))
        .or_else(|| exec::existing(OsString::from(format!("/usr/lib/llvm-{major}/bin/llvm-config"))))
}

/// Where a linker has its LLVM from.
#[derive(Debug, PartialEq, Eq)]
enum Llvm {
    /// A shared library of this major version.
    Major(u32),
    /// A shared library that is not there any more.
    NotFound,
    /// No shared library.
    BuiltIn,
}

fn llvm_of(linker: &Path) -> Llvm {
    let listing = exec::output(Command::new("ldd").arg(linker)).unwrap_or_default();
    shared_llvm(&listing)
}

/// Reads ldd's output; the library is called `libLLVM.so.22.1`, `libLLVM-22.so.1` or `libLLVM-22.so`.
fn shared_llvm(ldd: &str) -> Llvm {
    let Some(line) = ldd
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("libLLVM"))
    else {
        return Llvm::BuiltIn;
    };
    if line.contains("not found") {
        return Llvm::NotFound;
    }
    let digits = line.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().map_or(Llvm::BuiltIn, Llvm::Major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_read_from_its_libraries() {
        let with =
            |line: &str| shared_llvm(&format!("\tlinux-vdso.so.1 (0x1)\n\t{line}\n\tlibc.so.6 => x\n"));
        assert_eq!(
            with("libLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)"),
            Llvm::Major(22)
        );
        assert_eq!(
            with("libLLVM-19.so.1 => /lib/x86_64-linux-gnu/libLLVM-19.so.1 (0x7f)"),
            Llvm::Major(19)
        );
        assert_eq!(with("libLLVM.so.23.1 => not found"), Llvm::NotFound);
        assert_eq!(
            with("libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x7f)"),
            Llvm::BuiltIn
        );
    }
}
