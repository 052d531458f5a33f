//! Fragment notes, seen from user space.

use std::io;

use aya::Pod;
use aya::maps::MapError;
use foobar_common::fragment::{FragmentKey, FragmentNote};

use super::counters::Value;
use super::load::DataPlane;

// SAFETY: no padding: 16 + 16 + 4 + 4 bytes.
unsafe impl Pod for Value<FragmentKey> {}
// SAFETY: no padding: 8 + 4 + 4 bytes.
unsafe impl Pod for Value<FragmentNote> {}

impl DataPlane {
    /// Where first fragments went.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn fragments(&self) -> io::Result<Vec<(FragmentKey, FragmentNote)>> {
        self.fragments
            .iter()
            .map(|entry| entry.map(|(key, note)| (key.0, note.0)).map_err(io::Error::other))
            .collect()
    }

    /// Forgets all of it: fragments still on their way are dropped.
    ///
    /// # Errors
    /// Where the map can't be read or written.
    pub fn forget_fragments(&mut self) -> io::Result<()> {
        for (key, _) in self.fragments()? {
            match self.fragments.remove(&Value(key)) {
                // The data plane was faster in throwing it out.
                Ok(()) | Err(MapError::KeyNotFound) => (),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(())
    }
}
