//! What the daemon needs of the machine, checked before anything is touched, in words that say how to mend it.

use anyhow::{Result, bail};
use caps::{CapSet, Capability};

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (6, 1);

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
