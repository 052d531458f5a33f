//! Maps of one element that the balancer's program reaches by their place in memory.
//!
//! The program has an instruction that loads a mark, 64 bits. Before the program is loaded, each becomes one that
//! loads the address of its map's element.

/// Stands for the settings.
pub const SETTINGS: u64 = 0x5e77_1465_f0ba_0001;
/// Stands for the VIP table.
pub const VIPS: u64 = 0x5e77_1465_f0ba_0002;
/// Stands for the targets' hot words.
pub const HOT_TARGETS: u64 = 0x5e77_1465_f0ba_0003;
/// Stands for the targets' tunnels.
pub const HOT_TUNNELS: u64 = 0x5e77_1465_f0ba_0004;

/// Each map that is reached so, by its name, and its mark.
pub const ALL: [(&str, u64); 4] = [
    ("SETTINGS", SETTINGS),
    ("VIPS", VIPS),
    ("HOT_TARGETS", HOT_TARGETS),
    ("HOT_TUNNELS", HOT_TUNNELS),
];
