//! What outer headers are made with.

use std::mem::offset_of;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;

use foobar_common::gue;
use foobar_common::settings::Settings;

use super::load::DataPlane;

/// Where outer headers come from: of each family an address, and how many bits of it stay the same for every
/// flow. The other bits vary by flow, so that a receiver that knows no ports spreads flows over its queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterSource {
    /// Of IPv4 headers.
    pub v4: (Ipv4Addr, u8),
    /// Of IPv6 headers.
    pub v6: (Ipv6Addr, u8),
    /// The destination port of GUE.
    pub gue_port: u16,
}

impl Default for OuterSource {
    fn default() -> Self {
        Self {
            v4: (Ipv4Addr::UNSPECIFIED, 32),
            v6: (Ipv6Addr::UNSPECIFIED, 128),
            gue_port: gue::PORT,
        }
    }
}

impl DataPlane {
    /// Sets what outer headers are made with, before any target is reached through a tunnel.
    pub fn set_outer_source(&self, source: &OuterSource) {
        let vary_v4 = u32::MAX.checked_shr(u32::from(source.v4.1)).unwrap_or(0);
        let vary_v6 = u128::MAX.checked_shr(u32::from(source.v6.1)).unwrap_or(0);
        let v4 = (u32::from(source.v4.0) & !vary_v4).to_be();
        let v6 = (u128::from(source.v6.0) & !vary_v6).to_be_bytes();
        let words = |bytes: [u8; 16]| {
            let (high, low) = bytes.split_at(8);
            [high, low].map(|half| u64::from_ne_bytes(half.try_into().expect("half of 16 bytes")))
        };
        let u32s = [
            (offset_of!(Settings, tunnel_source_v4), v4),
            (offset_of!(Settings, tunnel_vary_v4), vary_v4.to_be()),
        ];
        for (offset, word) in u32s {
            self.settings.u32(0, offset).store(word, Ordering::Release);
        }
        let u64s = [
            (offset_of!(Settings, tunnel_source_v6), words(v6)),
            (offset_of!(Settings, tunnel_vary_v6), words(vary_v6.to_be_bytes())),
        ];
        for (offset, [high, low]) in u64s {
            self.settings.u64(0, offset).store(high, Ordering::Release);
            self.settings.u64(0, offset + 8).store(low, Ordering::Release);
        }
        self.settings
            .u16(0, offset_of!(Settings, gue_port_be))
            .store(source.gue_port.to_be(), Ordering::Release);
    }
}
