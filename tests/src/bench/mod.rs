//! What `cargo xtask bench` measures: nanoseconds a packet of the balancer's program, by BPF_PROG_TEST_RUN.
//!
//! A wrapper (foobar-ebpf/src/bench/) makes the packets of a rotating set of flows and tail-calls the
//! program; calling an empty one instead gives the wrapper's own cost, which is subtracted. Beside it runs
//! the floor, a minimal program of the same design. All of them take turns within each round, so that
//! whatever slows the machine slows all alike.
//!
//! [`case`] says what is measured, [`traffic`] makes its frames, [`plane`] the balancer's tables for it;
//! [`programs`] runs, [`measure`] judges: a row counts only if the balancer's own counters show that every
//! packet took the way that the case claims. [`report`] and [`compare`] tell people. [`restart`] is of its own: what
//! becomes of all that while backends come and go.

pub mod case;
pub mod compare;
pub mod measure;
pub mod plane;
pub mod programs;
pub mod report;
pub mod restart;
pub mod targets;
pub mod traffic;
