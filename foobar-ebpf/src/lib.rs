//! foobar's data plane: what the eBPF programs share.
//!
//! A packet's path is a chain of functions that each return `Result<Action, Refusal>`; the program's entry
//! point turns the end of it into a verdict and a counter, in one exhaustive match. `packet` knows headers
//! and bounds, `steer` knows which target a flow belongs to, `forward` knows how a frame gets there (or is
//! answered). The agent has its own maps and modules (`agent/`), and shares `packet`. The crate compiles on the host too, for lints and unit tests; its maps do nothing there.
#![cfg_attr(
    all(target_arch = "bpf", feature = "balancer"),
    feature(asm_experimental_arch)
)]
#![cfg_attr(target_arch = "bpf", no_std)]

#[cfg(feature = "balancer")]
pub mod forward;
#[cfg(feature = "balancer")]
pub mod maps;
#[cfg(feature = "balancer")]
pub mod outcome;
pub mod packet;
#[cfg(feature = "balancer")]
pub mod path;
#[cfg(feature = "balancer")]
pub mod steer;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The license that the kernel asks for: some helpers are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
