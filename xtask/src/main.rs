//! `cargo xtask`: everything one does with foobar's tree. Parse and dispatch, no logic.

mod bench;
mod build;
mod chaos;
mod compiler;
mod ebpf;
mod exec;
mod fuzz;
mod lab;
mod pktgen;
mod setup;
mod test;
mod vm;
mod workspace;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lab::Prepare;

/// Set up, build, run and test foobar
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what is missing on this machine: eBPF compiler and linker, the lab's servers and tools
    Setup {
        /// Only say what is missing; exit code 1 if something is
        #[arg(long)]
        check: bool,
    },
    /// Compile the eBPF programs to target/bpf
    BuildEbpf {
        /// As shipped: no debugging features, whatever FOOBAR_BPF_FEATURES says
        #[arg(long)]
        release: bool,
    },
    /// Build everything: the eBPF programs, and the foobar binary with them embedded
    Build,
    /// Start the lab, or bring a running one to other numbers; returns when everything is healthy
    Up {
        /// Web servers (1 to 9; two in a new lab)
        #[arg(long)]
        web: Option<u8>,
        /// App servers (1 to 9; two in a new lab)
        #[arg(long)]
        app: Option<u8>,
        /// Open the site on this machine's loopback, for instance 127.0.0.1:8443
        #[arg(long, value_name = "ADDR:PORT")]
        publish: Option<SocketAddr>,
        /// How many seconds a server that leaves may keep its connections
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        drain: u64,
        /// Start what is built already, without set-up and build
        #[arg(long)]
        no_build: bool,
        #[command(flatten)]
        lab: LabName,
    },
    /// Stop the lab; nothing is left of it
    Down {
        #[command(flatten)]
        lab: LabName,
    },
    /// Say what runs in the lab and what has died; exit code 1 if something has, or there is no lab
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        lab: LabName,
    },
    /// Run a command on a lab host, with the lab's names and certificate authority
    Exec {
        #[command(flatten)]
        lab: LabName,
        /// client, dns1, lb1, lb2, web1.., app1.., db1
        host: lab::Host,
        /// The command and its words
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Format, lints, documentation, and all tests; needs root
    Test {
        /// Only these steps
        #[arg(long, value_enum, value_name = "STEP", value_delimiter = ',')]
        only: Vec<test::Step>,
    },
    /// Measure the balancer's program, in nanoseconds a packet; needs root
    #[command(disable_help_flag = true)]
    Bench {
        /// --help says which ones there are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Send live frames through the balancer's program on a veth pair and account for each; needs root
    #[command(disable_help_flag = true)]
    Pktgen {
        /// --help says which ones there are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Kill, stop and return balancers while streams run through them, and count what breaks; needs root
    #[command(disable_help_flag = true)]
    Chaos {
        /// --help says which ones there are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Compare the balancer's program with its reference model, packet by packet; needs root
    Fuzz(fuzz::FuzzArgs),
    /// Boot another kernel in a virtual machine, load every program there, and run tests
    VmTest(vm::VmArgs),
    /// Relay one address into the lab (what `up --publish` starts)
    #[command(hide = true)]
    Relay(lab::publish::RelayArgs),
}

/// Which lab
#[derive(Debug, clap::Args)]
struct LabName {
    /// The lab's name: several can run side by side
    #[arg(long, value_name = "RUN", default_value = lab::DEFAULT_RUN)]
    name: lab::Run,
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Setup { check } => {
                setup::run(if check {
                    setup::Mode::Check
                } else {
                    setup::Mode::Install
                })?;
            }
            Self::BuildEbpf { release } => {
                ebpf::build(if release {
                    ebpf::Variant::Release
                } else {
                    ebpf::Variant::Dev
                })?;
            }
            Self::Build => build::build()?,
            Self::Up {
                web,
                app,
                publish,
                drain,
                no_build,
                lab,
            } => {
                let prepare = if no_build {
                    Prepare::Nothing
                } else {
                    Prepare::SetupAndBuild
                };
                let drain = Duration::from_secs(drain);
                lab::up(&lab::Request {
                    run: lab.name,
                    web,
                    app,
                    publish,
                    drain,
                    prepare,
                })?;
            }
            Self::Down { lab } => lab::down(&lab.name)?,
            Self::Status { json, lab } => return lab::status(&lab.name, json),
            Self::Exec { lab, host, command } => lab::enter(&lab.name, host, &command)?,
            Self::Test { only } => test::run(&only)?,
            Self::Bench { options } => return bench::run(&options),
            Self::Pktgen { options } => return pktgen::run(&options),
            Self::Chaos { options } => return chaos::run(&options),
            Self::Fuzz(args) => fuzz::run(&args)?,
            Self::VmTest(args) => return vm::run(&args),
            Self::Relay(args) => lab::publish::relay(&args)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn main() -> ExitCode {
    match Command::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
