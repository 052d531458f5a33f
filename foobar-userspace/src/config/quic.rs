//! `quic` of a VIP and `server_id` of its backends: what connection ids say whose they are.

use std::fmt;
use std::net::IpAddr;

use foobar_common::quic::{CONFIG_NONE, MAX_SERVER_ID};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::report::Problems;
use super::walk::Section;
use super::{Backend, Protocol};

const QUIC_KEYS: [&str; 2] = ["server_id_length", "config"];

/// How connection ids of a VIP name the server (QUIC-LB, plaintext).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quic {
    /// Length of a server id in bytes, 1 to 8.
    pub server_id_length: u8,
    /// The configuration's number in the connection ids' first three bits, 0 to 6.
    pub config: u8,
}

/// The server id of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServerId {
    bytes: [u8; MAX_SERVER_ID],
    length: u8,
}

impl ServerId {
    /// The id with these bytes, of which the first `length` count.
    pub(crate) fn new(bytes: [u8; MAX_SERVER_ID], length: u8) -> Self {
        let mut id = Self { bytes, length };
        id.bytes[usize::from(length)..].fill(0);
        id
    }

    /// The id that a backend has unless the file gives it another: the first bytes of the SHA-256 of its address
    /// as text (IPv6 as in RFC 5952).
    #[must_use]
    pub fn of_backend(address: IpAddr, length: u8) -> Self {
        let digest = Sha256::digest(address.to_string().as_bytes());
        let mut bytes = [0; MAX_SERVER_ID];
        bytes.copy_from_slice(&digest[..MAX_SERVER_ID]);
        Self::new(bytes, length)
    }

    fn parse(text: &str, length: u8) -> Option<Self> {
        let mut bytes = [0; MAX_SERVER_ID];
        let digits = text.as_bytes();
        if digits.len() != usize::from(length) * 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self::new(bytes, length))
    }

    /// Its bytes, followed by zeros.
    #[must_use]
    pub const fn bytes(self) -> [u8; MAX_SERVER_ID] {
        self.bytes
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes[..usize::from(self.length)]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Reads `quic`; what it leaves out has its default.
pub(super) fn read(
    section: &Section<'_, '_>,
    protocol: Protocol,
    problems: &mut Problems<'_>,
) -> Option<Quic> {
    let place = section.key("quic")?;
    let quic = section.table("quic", &QUIC_KEYS, problems)?;
    if protocol != Protocol::Udp {
        problems.add(place, "quic needs protocol = \"udp\"", "QUIC is carried by UDP");
    }
    let longest = MAX_SERVER_ID as u8;
    let length = quic.integer("server_id_length", 1..=longest, problems);
    let config = quic.integer("config", 0..=CONFIG_NONE - 1, problems);
    Some(Quic {
        server_id_length: length.map_or(longest, Spanned::into_inner),
        config: config.map_or(0, Spanned::into_inner),
    })
}

/// Reads a backend's `server_id`, or gives it its own; `others` are the VIP's backends before it.
pub(super) fn server_id(
    backend: &Section<'_, '_>,
    address: &Spanned<IpAddr>,
    quic: Option<Quic>,
    others: &[Spanned<Backend>],
    problems: &mut Problems<'_>,
) -> Option<ServerId> {
    let text = backend.string("server_id", problems);
    let Some(Quic { server_id_length, .. }) = quic else {
        if let Some(text) = text {
            let hint = "give the VIP quic = {}, or remove the key";
            problems.add(text.span(), "server_id is for a VIP with `quic`", hint);
        }
        return None;
    };
    let (id, place) = match text {
        None => (
            ServerId::of_backend(*address.get_ref(), server_id_length),
            address.span(),
        ),
        Some(text) => match ServerId::parse(text.get_ref(), server_id_length) {
            Some(id) => (id, text.span()),
            None => {
                let message = format!("{:?} is no server id of {server_id_length} bytes", text.get_ref());
                let hint = format!("{} hex digits", u16::from(server_id_length) * 2);
                problems.add(text.span(), message, hint);
                return None;
            }
        },
    };
    let twin = others
        .iter()
        .find(|other| other.get_ref().server_id == Some(id) && other.get_ref().address != *address.get_ref());
    if let Some(twin) = twin {
        let line = problems.line(&twin.span());
        let message = format!("the server id {id} is that of {} too", twin.get_ref().address);
        let hint =
            format!("on line {line}; give one of them a server_id of its own, or make all of them longer");
        problems.add(place, message, hint);
    }
    Some(id)
}
