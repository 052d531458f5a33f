//! Single entries of the kernel's neighbour table: read, kept resolved, released. Relies on netlink. An entry
//! that somebody else made is never removed: those made here carry [`PROTOCOL`](super::PROTOCOL).

use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::next_hops::Neighbour;
use super::{MacAddress, into_io, protocol};

/// One entry as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
    pub(super) neighbour: Neighbour,
    /// An administrator's: not learnt, so not to be touched.
    pub(super) fixed: bool,
    /// The kernel keeps it resolved by itself (NTF_EXT_MANAGED, since 5.16).
    pub(super) managed: bool,
    /// It was made here, perhaps by a daemon that was killed.
    pub(super) ours: bool,
}

impl Entry {
    /// The entry of an IPv4 or IPv6 neighbour; `None` for proxies, bridges' and others.
    pub(super) fn parse(message: &NeighbourMessage) -> Option<Self> {
        if message.header.flags.contains(NeighbourFlags::Proxy) {
            return None;
        }
        let mut address = None;
        let mut mac = None;
        let mut managed = false;
        let mut ours = false;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    address = Some(IpAddr::V4(*v4))
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    address = Some(IpAddr::V6(*v6))
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = MacAddress::try_from(bytes.as_slice()).ok()
                }
                NeighbourAttribute::ExtFlags(flags) => managed = flags.contains(NeighbourExtFlags::Managed),
                NeighbourAttribute::Protocol(made_by) => ours = *made_by == protocol(),
                _ => {}
            }
        }
        let state = message.header.state;
        let neighbour = match (state, mac) {
            (NeighbourState::Failed, _) => Neighbour::Failed,
            (NeighbourState::Incomplete | NeighbourState::None, _) | (_, None) => Neighbour::Asking,
            (_, Some(mac)) => Neighbour::Known(mac),
        };
        let fixed = matches!(state, NeighbourState::Permanent | NeighbourState::Noarp);
        Some(Self {
            ifindex: message.header.ifindex,
            address: address?,
            neighbour,
            fixed,
            managed,
            ours,
        })
    }
}

/// The whole table.
pub(super) async fn list(handle: &Handle) -> io::Result<Vec<Entry>> {
    let messages: Vec<_> = handle
        .neighbours()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(into_io)?;
    Ok(messages.iter().filter_map(Entry::parse).collect())
}

/// Whether an entry is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is to be made, and then is ours.
    Absent,
    /// It is there, whoever made it.
    Present,
}

/// Has the kernel look for the neighbour now and, where it can, keep it resolved from now on. Kernels before
/// 5.16 do not know the flag and ignore it: they look once, so that this is to be repeated.
pub(super) async fn keep_resolved(
    handle: &Handle,
    ifindex: u32,
    address: IpAddr,
    presence: Presence,
) -> io::Result<()> {
    let mut request = handle
        .neighbours()
        .add(ifindex, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use);
    let attributes = &mut request.message_mut().attributes;
    attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    match presence {
        Presence::Absent => {
            attributes.push(NeighbourAttribute::Protocol(protocol()));
            match request.execute().await.map_err(into_io) {
                // The kernel or somebody else made it meanwhile: then it is theirs.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                    Box::pin(keep_resolved(handle, ifindex, address, Presence::Present)).await
                }
                other => other,
            }
        }
        Presence::Present => request.replace().execute().await.map_err(into_io),
    }
}

/// Undoes [`keep_resolved`]: an entry made here is removed, any other only left to its own fate again.
pub(super) async fn release(handle: &Handle, entry: &Entry) -> io::Result<()> {
    if entry.fixed {
        return Ok(());
    }
    let mut request = handle
        .neighbours()
        .add(entry.ifindex, entry.address)
        .state(NeighbourState::None);
    if entry.ours {
        let message = request.message_mut().clone();
        return handle.neighbours().del(message).execute().await.map_err(into_io);
    }
    if entry.managed {
        // A request without the flag takes it off; `Use` leaves state and MAC as they are.
        return request
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(into_io);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: NeighbourState, attributes: Vec<NeighbourAttribute>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 7;
        message.header.state = state;
        message.attributes = attributes;
        message.attributes.push(NeighbourAttribute::Destination(
            IpAddr::from([192, 0, 2, 21]).into(),
        ));
        message
    }

    #[test]
    fn a_stale_mac_is_usable_and_a_failed_one_is_not() {
        let mac = NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 5]);
        for (state, expected) in [
            (NeighbourState::Reachable, Neighbour::Known([2, 0, 0, 0, 0, 5])),
            (NeighbourState::Stale, Neighbour::Known([2, 0, 0, 0, 0, 5])),
            (NeighbourState::Probe, Neighbour::Known([2, 0, 0, 0, 0, 5])),
            (NeighbourState::Permanent, Neighbour::Known([2, 0, 0, 0, 0, 5])),
            (NeighbourState::Incomplete, Neighbour::Asking),
            (NeighbourState::Failed, Neighbour::Failed),
        ] {
            let entry = Entry::parse(&message(state, vec![mac.clone()])).unwrap();
            assert_eq!(entry.neighbour, expected, "{state}");
        }
        let entry = Entry::parse(&message(NeighbourState::Stale, vec![])).unwrap();
        assert_eq!(
            entry.neighbour,
            Neighbour::Asking,
            "without a MAC there is nothing to use"
        );
    }

    #[test]
    fn who_made_an_entry_is_read_from_its_protocol() {
        let ours = Entry::parse(&message(
            NeighbourState::Stale,
            vec![NeighbourAttribute::Protocol(protocol())],
        ));
        assert!(ours.unwrap().ours);
        let theirs = Entry::parse(&message(NeighbourState::Permanent, vec![])).unwrap();
        assert!(!theirs.ours && theirs.fixed);
    }

    #[test]
    fn a_proxy_entry_is_no_neighbour() {
        let mut proxy = message(NeighbourState::Permanent, vec![]);
        proxy.header.flags = NeighbourFlags::Proxy;
        assert_eq!(Entry::parse(&proxy), None);
    }
}
