//! The compiler for the eBPF programs: a rustc whose sysroot has the sources of `core`, and its LLVM.
//!
//! A toolchain is judged by its files, never by its name. rustup's toolchains come first, those called
//! nightly before the others, then the `rustc` in the path, then Debian's `rustc-web`. This file looks
//! only; setup.rs installs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// The packages of the compiler with its sources, where rustup brings none.
pub(crate) const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler that can build `core` from source for a target without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// The rustc to call.
    pub(crate) rustc: PathBuf,
    /// The cargo to call: a rustup toolchain's own, else the one that runs this program (Debian's cargo
    /// beside `rustc-web` is years older than this workspace).
    pub(crate) cargo: PathBuf,
    /// What rustc says of itself.
    pub(crate) version: RustcVersion,
}

/// The lines of `rustc -vV` that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RustcVersion {
    /// As in `1.96.0` or `1.98.0-nightly`.
    pub(crate) release: String,
    /// The major version of the LLVM that it is linked with; bpf-linker's must be the same.
    pub(crate) llvm_major: u32,
}

impl RustcVersion {
    /// Reads the output of `rustc -vV`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
                .with_context(|| format!("rustc -vV has no line \"{name}\""))
        };
        let llvm = field("LLVM version")?;
        let major = llvm.split('.').next().unwrap_or(llvm);
        Ok(Self {
            release: field("release")?.to_owned(),
            llvm_major: major
                .parse()
                .with_context(|| format!("LLVM version {llvm:?} is not a number"))?,
        })
    }
}

/// Finds the compiler to use, or nothing where no toolchain has the sources.
pub(crate) fn find() -> Option<Compiler> {
    let elsewhere = sysroot_of(Path::new("rustc")).map(|sysroot| sysroot.join("bin/rustc"));
    rustup_toolchains()
        .into_iter()
        .find_map(|rustc| usable(&rustc, rustc.with_file_name("cargo")))
        .or_else(|| elsewhere.and_then(|rustc| usable(&rustc, workspace::cargo())))
        .or_else(|| usable(&debian_rustc()?, workspace::cargo()))
}

/// Finds the compiler to use, or says how to get one.
pub(crate) fn require() -> Result<Compiler> {
    match find() {
        Some(compiler) => Ok(compiler),
        None => bail!(
            "no Rust toolchain here has the sources of `core`, which the eBPF programs need; \
             run `cargo xtask setup`, or `rustup component add rust-src --toolchain nightly`"
        ),
    }
}

/// The rustc of each of rustup's toolchains, nightly ones first, otherwise by name.
fn rustup_toolchains() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    let Some(entries) = home.and_then(|home| home.join("toolchains").read_dir().ok()) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    in_order_of_preference(names)
        .into_iter()
        .map(|dir| dir.join("bin/rustc"))
        .collect()
}

fn in_order_of_preference(mut toolchains: Vec<PathBuf>) -> Vec<PathBuf> {
    toolchains.sort_by_key(|dir| {
        let name = dir
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        (!name.starts_with("nightly"), name)
    });
    toolchains
}

/// Debian's `rustc-web` puts its rustc outside the path; dpkg knows where.
fn debian_rustc() -> Option<PathBuf> {
    let output = Command::new("dpkg").args(["-L", "rustc-web"]).output().ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    list.lines()
        .find(|line| line.ends_with("/bin/rustc"))
        .map(PathBuf::from)
}

fn sysroot_of(rustc: &Path) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// The rustc as a compiler, if it runs and its sysroot has the files of `core`.
fn usable(rustc: &Path, cargo: PathBuf) -> Option<Compiler> {
    let sysroot = rustc.exists().then(|| sysroot_of(rustc))??;
    if !has_core_sources(&sysroot) {
        return None;
    }
    let output = Command::new(rustc).arg("-vV").output().ok()?;
    let version = RustcVersion::parse(&String::from_utf8(output.stdout).ok()?).ok()?;
    let cargo = if cargo.exists() { cargo } else { workspace::cargo() };
    Some(Compiler {
        rustc: rustc.to_path_buf(),
        cargo,
        version,
    })
}

fn has_core_sources(sysroot: &Path) -> bool {
    sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE_VERSION: &str = "rustc 1.96.0 (abc 2026-05-25)\nbinary: rustc\ncommit-hash: abc\n\
        commit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn the_llvm_major_is_read_from_the_verbose_version() {
        let version = RustcVersion::parse(VERBOSE_VERSION).unwrap();
        assert_eq!(
            version,
            RustcVersion {
                release: "1.96.0".to_owned(),
                llvm_major: 22
            }
        );
    }

    #[test]
    fn a_version_without_llvm_is_an_error_that_names_the_line() {
        let error = RustcVersion::parse("release: 1.96.0\n").unwrap_err();
        assert!(error.to_string().contains("LLVM version"), "{error}");
    }

    #[test]
    fn nightly_toolchains_come_first() {
        let names = [
            "stable-x86_64",
            "1.95.0-x86_64",
            "nightly-x86_64",
            "nightly-2026-01-01-x86_64",
        ];
        let sorted = in_order_of_preference(names.iter().map(PathBuf::from).collect());
        let expected = [
            "nightly-2026-01-01-x86_64",
            "nightly-x86_64",
            "1.95.0-x86_64",
            "stable-x86_64",
        ];
        assert_eq!(sorted, expected.map(PathBuf::from));
    }

    #[test]
    fn a_toolchain_is_judged_by_its_files() {
        let sysroot = env::temp_dir().join(format!("foobar-xtask-sysroot-{}", std::process::id()));
        let library = sysroot.join("lib/rustlib/src/rust/library/core/src");
        std::fs::create_dir_all(&library).unwrap();
        assert!(!has_core_sources(&sysroot));
        std::fs::write(library.join("lib.rs"), "").unwrap();
        assert!(has_core_sources(&sysroot));
        std::fs::remove_dir_all(&sysroot).unwrap();
    }
}
