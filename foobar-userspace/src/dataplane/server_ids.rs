//! QUIC server ids: whose they are.

use std::collections::HashMap;
use std::io;

use aya::Pod;
use foobar_common::quic::{ServerId, ServerIdKey};
use foobar_common::slot::Member;

use super::counters::Value;
use super::load::DataPlane;

// SAFETY: no padding: 4 + 4 + 8 bytes.
unsafe impl Pod for Value<ServerIdKey> {}
// SAFETY: no padding: 2 + 2 bytes.
unsafe impl Pod for Value<ServerId> {}

/// The member of each server id.
pub type ServerIds = HashMap<ServerIdKey, Member>;

impl DataPlane {
    /// The server ids in force.
    ///
    /// # Errors
    /// Where the map can't be read.
    pub fn server_ids(&self) -> io::Result<ServerIds> {
        self.server_ids
            .iter()
            .map(|entry| {
                let (key, id) = entry.map_err(io::Error::other)?;
                Ok((key.0, id.0.member))
            })
            .collect()
    }

    /// Puts these server ids in force, and no others. One that stays is not touched.
    ///
    /// # Errors
    /// Where the map can't be read or has no room.
    pub fn set_server_ids(&mut self, wanted: &ServerIds) -> io::Result<()> {
        let have = self.server_ids()?;
        for key in have.keys().filter(|key| !wanted.contains_key(key)) {
            self.server_ids.remove(&Value(*key)).map_err(io::Error::other)?;
        }
        for (key, &member) in wanted {
            if have.get(key) != Some(&member) {
                let id = ServerId { member, reserved: 0 };
                self.server_ids
                    .insert(Value(*key), Value(id), 0)
                    .map_err(io::Error::other)?;
            }
        }
        Ok(())
    }
}
