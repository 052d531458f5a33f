//! What the program has to be loaded with: nothing that no VIP and no target asks for.

use foobar_common::admission::{
    FEATURE_LISTS, FEATURE_NOTE_EVENTS, FEATURE_QUIC, FEATURE_SYN_LIMITS, FEATURE_TRACKING, FEATURE_TUNNELS,
    Features,
};
use foobar_common::target::{TARGET_GUE, TARGET_IPIP};
use foobar_common::vip::{VIP_CANDIDATES, VIP_LIST, VIP_QUIC, VIP_SYN_LIMIT, VIP_TRACK_ALL, VIP_TRACK_NONE};

use super::entry;
use super::steering::Steering;
use crate::config::Config;
use crate::dataplane::{Error, GRACE};

/// What a configuration's VIPs ask for.
pub(super) fn of_config(config: &Config) -> Features {
    let told = if config.cluster.is_some() {
        FEATURE_NOTE_EVENTS
    } else {
        0
    };
    config
        .vips
        .iter()
        .fold(told, |features, vip| features | of_vip(entry::flags(vip)))
}

/// What a VIP's flags ask for.
fn of_vip(flags: u32) -> Features {
    let when = |bits: u32, feature: Features| if flags & bits == 0 { 0 } else { feature };
    when(VIP_LIST, FEATURE_LISTS)
        | when(VIP_SYN_LIMIT, FEATURE_SYN_LIMITS)
        | when(VIP_QUIC, FEATURE_QUIC)
        | when(VIP_CANDIDATES | VIP_TRACK_ALL | VIP_TRACK_NONE, FEATURE_TRACKING)
}

/// What a target's flags ask for.
fn of_target(flags: u16) -> Features {
    if flags & (TARGET_IPIP | TARGET_GUE) == 0 {
        0
    } else {
        FEATURE_TUNNELS
    }
}

impl Steering {
    /// Loads the program with what is to come besides what it has, before anything asks for it.
    ///
    /// # Errors
    /// Where the kernel refuses it: the old one stays.
    pub(super) fn gain_features(&mut self, config: &Config) -> Result<(), Error> {
        self.plane.set_features(self.plane.features() | of_config(config))
    }

    /// Loads the program without what nothing asks for any more. Where that can't be done it goes on as it is.
    pub(super) fn shed_features(&mut self) {
        let vips = self.vips.iter().map(|vip| of_vip(entry::flags(&vip.config)));
        let targets = self
            .vips
            .iter()
            .flat_map(|vip| &vip.members)
            .map(|member| of_target(self.plane.target(member.id).flags));
        // Whether peers hear of notes is no VIP's wish.
        let told = self.plane.features() & FEATURE_NOTE_EVENTS;
        let needed = vips.chain(targets).fold(told, |features, one| features | one);
        if needed == self.plane.features() {
            return;
        }
        // A program that began before the last change of the VIPs may still need it.
        std::thread::sleep(GRACE);
        if let Err(error) = self.plane.set_features(needed) {
            tracing::warn!(%error, "the program keeps features that nothing needs any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foobar_common::admission::FEATURES_ALL;
    use foobar_common::vip::VIP_RESET;

    #[test]
    fn a_plain_vip_needs_nothing_and_all_bits_together_everything() {
        assert_eq!(of_vip(VIP_RESET) | of_target(!(TARGET_IPIP | TARGET_GUE)), 0);
        assert_eq!(of_vip(u32::MAX) | of_target(u16::MAX), FEATURES_ALL);
        assert_eq!(of_vip(VIP_LIST | VIP_QUIC), FEATURE_LISTS | FEATURE_QUIC);
        assert_eq!(of_target(TARGET_GUE), FEATURE_TUNNELS);
    }
}
