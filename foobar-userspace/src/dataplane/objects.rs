//! The embedded eBPF objects.

include!(concat!(env!("OUT_DIR"), "/objects.rs"));
