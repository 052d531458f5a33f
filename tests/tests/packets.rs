//! The balancer's program on one packet at a time (BPF_PROG_TEST_RUN): for each path and each refusal the
//! verdict, every byte, and every counter that moved. Needs root, and no network.

#[path = "packets/admission.rs"]
mod admission;
#[path = "packets/agent/mod.rs"]
mod agent;
#[path = "packets/answers.rs"]
mod answers;
#[path = "packets/features.rs"]
mod features;
#[path = "packets/forwarding.rs"]
mod forwarding;
#[path = "packets/malformed.rs"]
mod malformed;
#[path = "packets/note_events.rs"]
mod note_events;
#[path = "packets/notes.rs"]
mod notes;
#[path = "packets/quic.rs"]
mod quic;
#[path = "packets/ranges.rs"]
mod ranges;
#[path = "packets/refusals.rs"]
mod refusals;
#[path = "packets/sharing.rs"]
mod sharing;
#[path = "packets/slots.rs"]
mod slots;
#[path = "packets/solicitations.rs"]
mod solicitations;
#[path = "packets/too_big.rs"]
mod too_big;
#[path = "packets/tunnels.rs"]
mod tunnels;
#[path = "packets/vips.rs"]
mod vips;
