//! `cargo xtask vm-test`: does another kernel than this machine's take the programs, and do they do there what
//! they do here?
//!
//! Boots that kernel in QEMU with a file system in memory, whose first process loads everything and runs tests.
//! Nothing is installed but QEMU; kernels, archive and console are below the target directory. It knows the
//! machine by what it tells.

mod cpio;
mod events;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod report;
mod suites;

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use clap::builder::PossibleValuesParser;

use crate::setup::{self, Tool};
use crate::{exec, workspace};

/// What else than the tests' programs it takes.
const TOOLS: [Tool; 3] = [
    Tool {
        program: machine::PROGRAM,
        package: "qemu-system-x86",
        purpose: "the machine that boots a kernel",
    },
    Tool {
        program: "ip",
        package: "iproute2",
        purpose: "the tests' networks",
    },
    Tool {
        program: "ethtool",
        package: "ethtool",
        purpose: "the tests' networks",
    },
];

/// Which kernel, and for whom the result is
#[derive(Debug, clap::Args)]
pub(crate) struct VmArgs {
    /// A version of which Debian has a kernel, or the path to an image (vmlinuz); the oldest that is supported
    #[arg(long, value_name = "VERSION|PATH", default_value = "6.1")]
    kernel: String,
    /// How many minutes the machine may take
    #[arg(long, value_name = "MINUTES", default_value_t = 20)]
    limit: u64,
    /// Only these
    #[arg(long, value_name = "PART", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(parts()))]
    only: Vec<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// What the loading of every program is called among the parts.
const LOADS: &str = "loads";

/// All that can be done in the machine.
fn parts() -> impl Iterator<Item = &'static str> {
    std::iter::once(LOADS).chain(suites::all().into_iter().map(|suite| suite.name))
}

/// Boots the kernel and reports what it does with the programs; the exit code says whether all is good.
pub(crate) fn run(args: &VmArgs) -> Result<ExitCode> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the machine is an x86-64 one, and runs this machine's binaries"
    );
    setup::require(&TOOLS)?;
    let directory = workspace::target_dir().join("vm");
    let cache = directory.join("kernels");
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = directory.join("lock");
    let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    // Held until the end: archive and console are one run's.
    lock.try_lock()
        .context("another vm-test may be running in this target directory")?;
    let kernel = kernel::find(&args.kernel, &cache)?;
    let modules = match &kernel.modules {
        Some(directory) => modules::collect(directory)?,
        None => Vec::new(),
    };
    eprintln!("vm-test: building");
    let built = suites::build()?;
    let is_wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let suites: Vec<_> = suites::all()
        .into_iter()
        .filter(|suite| is_wanted(suite.name))
        .collect();
    let initramfs = directory.join("initramfs.cpio");
    let contents = initramfs::Contents {
        guest: &built.guest,
        objects: &workspace::bpf_dir(),
        modules: &modules,
        loads: is_wanted(LOADS),
        suites: &suites,
        programs: &built.programs,
    };
    initramfs::write(&contents, &initramfs)?;
    let console = directory.join("console.log");
    let machine = machine::Machine {
        image: &kernel.image,
        initramfs: &initramfs,
        console: &console,
    };
    let begin = Instant::now();
    let say = |line: &str| eprintln!("vm-test: {:>4} s  {line}", begin.elapsed().as_secs());
    say(&format!("{} boots", kernel.image.display()));
    let mut report = report::Report::default();
    let result = machine.run(Duration::from_secs(args.limit * 60), |event| {
        if let Some(line) = report.add(event) {
            say(&line);
        }
    });
    report.close(result.err().map(|error| format!("{error:#}")));
    exec::say(&if args.json { report.json()? } else { report.table() });
    if let Some(problem) = report.problem() {
        eprintln!("vm-test: {problem} (console: {})", console.display());
    }
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
