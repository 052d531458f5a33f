//! Log lines from the eBPF programs, where they were compiled with the feature `bpf-log`: for debugging only.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Follows the object's log in a task, as events of `tracing`; an object without one is none the worse.
pub(super) fn follow(object: &mut Ebpf) {
    let logger = match EbpfLogger::init(object) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "the eBPF objects don't log: build them with FOOBAR_BPF_FEATURES=bpf-log");
            return;
        }
    };
    #[expect(
        deprecated,
        reason = "the logger has a raw descriptor only; it lives as long as the task"
    )]
    let registered = AsyncFd::with_interest(logger, Interest::READABLE);
    let mut logger = match registered {
        Ok(logger) => logger,
        Err(error) => {
            tracing::warn!(%error, "the eBPF programs' log can't be followed");
            return;
        }
    };
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
}
