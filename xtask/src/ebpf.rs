//! `cargo xtask build-ebpf`: the eBPF programs, compiled and left where the build script looks for them.
//!
//! Relies on compiler.rs for a rustc with the sources of `core`, and on bpf-linker. Both variants are
//! optimised, as the verifier needs it; the release one is without the aya-log lines' feature.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result};

use crate::compiler::{self, Compiler};
use crate::{exec, workspace};

/// Programs that are compiled together, and the features of the library that they are compiled with.
struct Group {
    objects: &'static [&'static str],
    features: &'static str,
}

/// The programs, one object each. An object carries all maps of the library that was compiled with it.
const GROUPS: [Group; 2] = [
    Group {
        objects: &["balancer", "check"],
        features: "balancer",
    },
    Group {
        objects: &["agent", "bench"],
        features: "",
    },
];

/// What is compiled with a fault.
const PLANTED: [Group; 1] = [Group {
    objects: &["balancer"],
    features: "balancer,planted-fault",
}];

/// With which features the programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As configured by `FOOBAR_BPF_FEATURES` (for instance `bpf-log`); without it, as in release.
    Dev,
    /// Default features only.
    Release,
    /// A balancer with a check left out, for the tests of the packet fuzzer; it goes into a directory of its
    /// own, where no build script finds it.
    Planted,
}

const TARGET: &str = "bpfel-unknown-none";

/// Compiles the programs and copies the objects that changed to `<target>/bpf`.
pub(crate) fn build(variant: Variant) -> Result<()> {
    let compiler = compiler::require()?;
    let build_dir = workspace::target_dir().join("bpf-build");
    let features = match variant {
        Variant::Dev => env::var("FOOBAR_BPF_FEATURES").unwrap_or_default(),
        Variant::Release | Variant::Planted => String::new(),
    };
    let (destination, groups) = match variant {
        Variant::Dev | Variant::Release => (workspace::bpf_dir(), &GROUPS[..]),
        Variant::Planted => (workspace::bpf_dir().join("planted"), &PLANTED[..]),
    };
    fs::create_dir_all(&destination).with_context(|| format!("cannot make {}", destination.display()))?;
    for group in groups {
        exec::run(&mut cargo_build(&compiler, &build_dir, group, &features))
            .context("the eBPF programs did not build")?;
        for object in group.objects {
            let built = build_dir.join(TARGET).join("release").join(object);
            install(&built, &destination.join(object))?;
        }
    }
    Ok(())
}

fn cargo_build(compiler: &Compiler, build_dir: &Path, group: &Group, features: &str) -> Command {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    let flags = [
        &architecture,
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        "-Ctarget-cpu=v3",
    ];
    let mut command = Command::new(&compiler.cargo);
    workspace::forget_own_package(&mut command);
    command
        .current_dir(workspace::root())
        .env("RUSTC", &compiler.rustc)
        // -Z build-std is unstable, and the compiler may be a stable one.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        // The workspace's release profile is made for the host; bpf-linker does the optimising here.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .args(["build", "--release", "--package", "foobar-ebpf"])
        .args(group.objects.iter().flat_map(|object| ["--bin", object]))
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(build_dir);
    if let Some(bin_dir) = linker_directory() {
        command.env("PATH", bin_dir);
    }
    let features = format!("{features},{}", group.features);
    command.args(["--no-default-features", "--features", features.trim_matches(',')]);
    command
}

/// The path to search programs in, with cargo's own binary directory appended: bpf-linker lives there,
/// also for a user whose path lacks it.
fn linker_directory() -> Option<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own: PathBuf = exec::cargo_home()?.join("bin");
    env::join_paths(env::split_paths(&path).chain([own])).ok()
}

/// Copies an object into place by a rename, and only if its bytes changed: the userspace crate embeds it
/// and would be compiled again.
fn install(built: &Path, destination: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("no object at {}", built.display()))?;
    if fs::read(destination).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let staged = destination.with_extension(format!("new-{}", std::process::id()));
    fs::write(&staged, &bytes).with_context(|| format!("cannot write {}", staged.display()))?;
    fs::rename(&staged, destination).with_context(|| format!("cannot replace {}", destination.display()))
}
