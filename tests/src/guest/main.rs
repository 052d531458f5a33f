//! `foobar-guest`: the first process of a machine that `cargo xtask vm-test` has booted for one kernel.
//!
//! It loads every program with every combination of features, runs the test binaries that it was given, tells
//! each result by a line of JSON on the second serial port, and switches the machine off. What is to be run
//! stands in its plan; it knows nothing of how the machine was made.

mod events;
mod loads;
mod suites;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use events::{Event, Reporter};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use serde::Deserialize;

const PLAN: &str = "/plan.json";

/// What this machine is for.
#[derive(Debug, Deserialize)]
struct Plan {
    /// Kernel modules, each after those that it depends on.
    modules: Vec<PathBuf>,
    /// Where the eBPF objects are.
    objects: PathBuf,
    /// Whether every program is loaded.
    loads: bool,
    /// The tests.
    suites: Vec<suites::Suite>,
}

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("foobar-guest is the first process of a test machine: see `cargo xtask vm-test`");
        return ExitCode::FAILURE;
    }
    if let Err(error) = run() {
        // The console is kept in a file.
        eprintln!("foobar-guest: {error:#}");
    }
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        // The end of the first process is a panic, at which the machine stops as well.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> Result<()> {
    mount_all()?;
    let mut reporter = Reporter::open()?;
    let done = work(&mut reporter);
    reporter.tell(&match &done {
        Ok(()) => Event::End,
        Err(error) => Event::Broken {
            error: format!("{error:#}"),
        },
    })?;
    done
}

fn work(reporter: &mut Reporter) -> Result<()> {
    let plan: Plan = serde_json::from_slice(&fs::read(PLAN)?).context("the plan can't be read")?;
    let release = nix::sys::utsname::uname()?
        .release()
        .to_string_lossy()
        .into_owned();
    reporter.tell(&Event::Kernel { release })?;
    for module in &plan.modules {
        let file = fs::File::open(module).with_context(|| format!("no module {}", module.display()))?;
        finit_module(&file, c"", ModuleInitFlags::empty())
            .with_context(|| format!("the kernel does not take {}", module.display()))?;
    }
    for attempt in loads::attempts().filter(|_| plan.loads) {
        let object = fs::read(plan.objects.join(attempt.object))
            .with_context(|| format!("no object {}", attempt.object))?;
        let loaded = loads::load(&object, &attempt)?;
        ensure!(!loaded.is_empty(), "{} has no program", attempt.object);
        for load in loaded {
            reporter.tell(&Event::Load(load))?;
        }
    }
    for suite in &plan.suites {
        reporter.tell(&Event::Begin {
            suite: suite.name.clone(),
        })?;
        reporter.tell(&Event::Suite(suites::run(suite)?))?;
    }
    Ok(())
}

/// The file systems that programs expect.
fn mount_all() -> Result<()> {
    let all = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("tmpfs", "/tmp"),
        ("bpf", "/sys/fs/bpf"),
    ];
    for (kind, place) in all {
        fs::create_dir_all(place)?;
        mount(
            Some(kind),
            Path::new(place),
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount {place}"))?;
    }
    Ok(())
}
