//! What the daemon needs of the machine, checked before anything is touched, in words that say how to mend it.

use anyhow::{Result, bail};
use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (6, 1);

/// What a process may open where nobody says otherwise.
const FEW_FILES: u64 = 1024;
/// Fewer than there are ports to check one VIP from.
const MOST_CHECKS: usize = 16_384;

const NEEDED: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_PERFMON,
];

/// Checks kernel and capabilities.
///
/// # Errors
/// What is missing.
pub(crate) fn check() -> Result<()> {
    let release = nix::sys::utsname::uname()?;
    let release = release.release().to_string_lossy();
    if let Some(version) = version(&release)
        && version < OLDEST
    {
        bail!(
            "kernel {release} is too old: foobar needs {}.{} or newer",
            OLDEST.0,
            OLDEST.1
        );
    }
    let held = caps::read(None, CapSet::Effective)?;
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|capability| !held.contains(capability))
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        bail!(
            "missing capabilities: {}. Run as root, or grant them (AmbientCapabilities= in the unit, or setcap)",
            missing.join(", ")
        );
    }
    Ok(())
}

/// How many health checks may run at once: half of the files that the daemon may open, as each has a socket. As many
/// are allowed as this machine lets the daemon ask for.
pub(crate) fn checks_at_once() -> usize {
    let (allowed, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((FEW_FILES, FEW_FILES));
    let raised = allowed < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok();
    let files = if raised { most } else { allowed };
    usize::try_from(files / 2)
        .unwrap_or(usize::MAX)
        .clamp(1, MOST_CHECKS)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.1.0-37-amd64"), Some((6, 1)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version("6.18.44-x"), Some((6, 18)));
        assert!(version("5.10.0") < Some(OLDEST) && version("6.10") > Some(OLDEST));
        assert_eq!(version("weird"), None);
    }
}
