//! The contract between the eBPF programs and the daemon.
#![no_std]
