//! The `foobar` binary: parse the command line, start the role, wait, drain, exit code. No logic.

use std::process::ExitCode;

use clap::Parser as _;
use foobar::cli::Command;

fn main() -> ExitCode {
    let command = Command::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("foobar: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("foobar: {error:#}");
            ExitCode::FAILURE
        }
    }
}
