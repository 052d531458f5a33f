//! Streams whose every byte is checked on both ends: a [`server`] on each backend, a [`client`] that holds
//! many streams and opens and closes others all the time, a [`report`] of what both saw, and, where it is asked for, a
//! [`record`] of when.
//!
//! A stream is a TCP connection on which the client sends a [`block`] now and then and the server answers
//! each with one. They know nothing about what lies between them.

pub mod block;
pub mod client;
pub mod record;
pub mod report;
pub mod server;
