//! The seed of the flow hash, which a running data plane never changes.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::cluster::link::identity::parse_seed;
use crate::dataplane::DataPlane;

/// The seed of the flow hash: the file's, else the one in the pinned map, else a new one.
pub(super) fn set_seed(plane: &DataPlane, wanted: Option<[u64; 2]>) -> Result<()> {
    let have = plane.flow_seed();
    match wanted {
        Some(seed) if have == [0, 0] => plane.set_flow_seed(seed),
        Some(seed) if have == seed => (),
        Some(_) => bail!(
            "the seed file differs from the seed that the running data plane steers by: another seed would move every flow. Restore the file, or detach first (`foobar lb detach`)"
        ),
        None if have == [0, 0] => plane.set_flow_seed([rand::random(), rand::random()]),
        None => (),
    }
    Ok(())
}

/// The seed in a file.
pub(super) fn read_seed(path: &Path) -> Result<[u64; 2]> {
    let text = std::fs::read_to_string(path).with_context(|| format!("seed_file {}", path.display()))?;
    parse_seed(&text).with_context(|| format!("seed_file {}", path.display()))
}
