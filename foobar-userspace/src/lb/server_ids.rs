//! Which member's each QUIC server id is. Whether it counts at the moment is the data plane's to say, by the
//! member's flags.

use foobar_common::quic::ServerIdKey;

use super::steering::{Steering, Vip};
use crate::dataplane::ServerIds;

impl Steering {
    /// Brings the data plane's server ids to the members that there are.
    pub(super) fn name_members(&mut self) {
        let mut wanted = ServerIds::new();
        for vip in &self.vips {
            add(&mut wanted, vip);
        }
        if self.server_ids.as_ref() == Some(&wanted) {
            return;
        }
        match self.plane.set_server_ids(&wanted) {
            Ok(()) => self.server_ids = Some(wanted),
            Err(error) => {
                tracing::error!(%error, "QUIC server ids can't be written: connections may be led by their slots");
                self.server_ids = None;
            }
        }
    }
}

/// Adds a VIP's server ids. One that a new backend has taken over from a removed one is the new one's.
fn add(ids: &mut ServerIds, vip: &Vip) {
    let Some(quic) = vip.config.quic else {
        return;
    };
    let (removed, listed): (Vec<_>, Vec<_>) = vip.members.iter().partition(|member| member.removed);
    for member in removed.into_iter().chain(listed) {
        let id = member.server_id.filter(|id| id.length() == quic.server_id_length);
        if let Some(id) = id
            && !member.cut
        {
            let key = ServerIdKey {
                vip: vip.id,
                reserved: 0,
                id: id.bytes(),
            };
            ids.insert(key, member.id);
        }
    }
}
