//! Follows the way to every backend: asks the kernel for routes and neighbours, listens for their changes and
//! has the kernel keep the neighbours resolved. Relies on netlink; what a change means is decided in
//! `next_hops`. Knows nothing of VIPs, weights or health.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::interface::{links, mac_of};
use super::neighbours::{self, Entry, Presence};
use super::next_hops::{Book, Neighbour, NextHopEvent, Path};
use super::{MacAddress, NetworkError, connect, into_io};

/// How often an address that is not resolved, or that the kernel does not keep resolved, is asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Route and link changes come in bursts: they are read once, this long after the first of them.
const SETTLE: Duration = Duration::from_millis(20);
/// Events that the receiver has not taken yet; more wait in the resolver, so that none is lost.
const EVENTS: usize = 256;

type Messages = BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>;

/// Starts the resolution of backend addresses.
#[derive(Debug)]
pub struct Resolver;

impl Resolver {
    /// Starts with an empty set. A backend that resolves to the MAC of this host or to one of `peers`, the
    /// other balancers', is reported as [`Resolution::Balancer`](super::Resolution::Balancer). Events come
    /// for every address of the set once its route is known, then for every change.
    ///
    /// # Errors
    /// The netlink sockets cannot be opened.
    pub fn start(
        peers: BTreeSet<MacAddress>,
    ) -> Result<(ResolverHandle, mpsc::Receiver<NextHopEvent>), NetworkError> {
        let requests = connect()?;
        let messages = subscribe()?;
        let (addresses, wanted) = watch::channel(BTreeSet::new());
        let (events, receiver) = mpsc::channel(EVENTS);
        let task = Task {
            requests,
            messages,
            wanted,
            events,
            book: Book::new(peers),
            kept: BTreeMap::new(),
        };
        let task = tokio::spawn(task.run());
        Ok((ResolverHandle { addresses, task }, receiver))
    }
}

/// Changes what is resolved. Dropping it ends the resolver and leaves the kernel's entries as they are, for
/// the next daemon to adopt; [`stop`](Self::stop) releases them.
pub struct ResolverHandle {
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    task: JoinHandle<Task>,
}

impl ResolverHandle {
    /// Replaces the set of addresses; those that stay are not disturbed and not reported again.
    pub fn set(&self, addresses: BTreeSet<IpAddr>) {
        self.addresses.send_replace(addresses);
    }

    /// Ends the resolver and removes the neighbour entries that it made.
    pub async fn stop(self) {
        drop(self.addresses);
        match self.task.await {
            Ok(mut task) => task.release_all().await,
            Err(error) => tracing::error!(%error, "the resolver has failed"),
        }
    }
}

struct Task {
    requests: Handle,
    messages: Messages,
    wanted: watch::Receiver<BTreeSet<IpAddr>>,
    events: mpsc::Sender<NextHopEvent>,
    book: Book,
    /// The neighbour entries of wanted addresses, as last seen.
    kept: BTreeMap<(u32, IpAddr), Entry>,
}

/// What a netlink message calls for.
enum Call {
    Nothing,
    Report,
    Reread,
}

impl Task {
    /// Runs until the handle or the receiver of events is dropped.
    async fn run(mut self) -> Self {
        let mut tick = tokio::time::interval(ASK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reread_at: Option<tokio::time::Instant> = None;
        loop {
            let due = reread_at;
            let reread = async move {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return self;
                    }
                    self.apply_set().await;
                }
                message = self.messages.next() => {
                    let call = match message {
                        Some(payload) => self.take(&payload),
                        None => self.resubscribe().await,
                    };
                    match call {
                        Call::Nothing => continue,
                        Call::Report => {}
                        Call::Reread => {
                            reread_at.get_or_insert_with(|| tokio::time::Instant::now() + SETTLE);
                            continue;
                        }
                    }
                }
                () = reread => {
                    reread_at = None;
                    self.reread().await;
                }
                _ = tick.tick() => self.ask().await,
            }
            for event in self.book.changes(Instant::now()) {
                if self.events.send(event).await.is_err() {
                    return self;
                }
            }
        }
    }

    async fn apply_set(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        let (_, removed) = self.book.set(&wanted);
        for key in removed {
            self.release(key).await;
        }
        self.reread().await;
    }

    /// Takes one notification; only neighbours are used as they come, anything else is read anew.
    fn take(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> Call {
        use RouteNetlinkMessage::{DelLink, DelNeighbour, DelRoute, NewLink, NewNeighbour, NewRoute};
        match payload {
            NetlinkPayload::Overrun(_) => Call::Reread,
            NetlinkPayload::InnerMessage(NewNeighbour(message)) => {
                let Some(entry) = Entry::parse(message) else {
                    return Call::Nothing;
                };
                if !self
                    .book
                    .neighbour(entry.ifindex, entry.address, Some(entry.neighbour))
                {
                    return Call::Nothing;
                }
                self.kept.insert((entry.ifindex, entry.address), entry);
                Call::Report
            }
            NetlinkPayload::InnerMessage(DelNeighbour(message)) => {
                let Some(entry) = Entry::parse(message) else {
                    return Call::Nothing;
                };
                self.kept.remove(&(entry.ifindex, entry.address));
                match self.book.neighbour(entry.ifindex, entry.address, None) {
                    true => Call::Report,
                    false => Call::Nothing,
                }
            }
            NetlinkPayload::InnerMessage(NewRoute(_) | DelRoute(_) | NewLink(_) | DelLink(_)) => Call::Reread,
            _ => Call::Nothing,
        }
    }

    async fn resubscribe(&mut self) -> Call {
        tokio::time::sleep(ASK_EVERY).await;
        match subscribe() {
            Ok(messages) => self.messages = messages,
            Err(error) => tracing::error!(%error, "cannot follow routes and neighbours"),
        }
        Call::Reread
    }

    /// Reads links, routes and neighbours anew, then asks for whatever is missing.
    async fn reread(&mut self) {
        if let Err(error) = self.try_reread().await {
            tracing::warn!(%error, "cannot read routes and neighbours");
        }
        self.ask().await;
    }

    async fn try_reread(&mut self) -> Result<(), NetworkError> {
        let links = links(&self.requests).await?;
        self.book.links(
            links
                .iter()
                .filter_map(|link| Some((link.header.index, mac_of(link)?)))
                .collect(),
        );
        for address in self.book.addresses() {
            let path = path_to(&self.requests, address).await?;
            if let Some(ifindex) = self.book.path(address, path) {
                self.release((ifindex, address)).await;
            }
        }
        let entries = neighbours::list(&self.requests)
            .await
            .map_err(|error| NetworkError::kernel("list the neighbours", error))?;
        let entries: BTreeMap<_, _> = entries
            .into_iter()
            .map(|entry| ((entry.ifindex, entry.address), entry))
            .collect();
        let keys: Vec<_> = self
            .book
            .on_link()
            .map(|(ifindex, address, _)| (ifindex, address))
            .collect();
        self.kept.clear();
        for key in keys {
            let entry = entries.get(&key).copied();
            self.book
                .neighbour(key.0, key.1, entry.map(|entry| entry.neighbour));
            self.kept.extend(entry.map(|entry| (key, entry)));
        }
        // What a killed daemon kept and nobody wants any more. An empty set is one that is not known yet.
        for (key, entry) in entries {
            if entry.ours && !self.kept.contains_key(&key) && !self.book.addresses().is_empty() {
                self.drop_entry(&entry).await;
            }
        }
        Ok(())
    }

    /// Has the kernel look for what is not resolved, or what it does not keep resolved by itself.
    async fn ask(&mut self) {
        let needy: Vec<_> = self
            .book
            .on_link()
            .filter(
                |(ifindex, address, neighbour)| match self.kept.get(&(*ifindex, *address)) {
                    Some(entry) if entry.fixed => false,
                    Some(entry) => !(entry.managed && matches!(neighbour, Some(Neighbour::Known(_)))),
                    None => true,
                },
            )
            .map(|(ifindex, address, _)| (ifindex, address))
            .collect();
        for (ifindex, address) in needy {
            let presence = match self.kept.contains_key(&(ifindex, address)) {
                true => Presence::Present,
                false => Presence::Absent,
            };
            // The interface may be down at the moment; the next tick asks again.
            if let Err(error) = neighbours::keep_resolved(&self.requests, ifindex, address, presence).await {
                tracing::debug!(%address, ifindex, %error, "cannot ask for a neighbour");
            }
        }
    }

    async fn release(&mut self, key: (u32, IpAddr)) {
        if let Some(entry) = self.kept.remove(&key) {
            self.drop_entry(&entry).await;
        }
    }

    async fn release_all(&mut self) {
        for entry in std::mem::take(&mut self.kept).into_values() {
            self.drop_entry(&entry).await;
        }
    }

    async fn drop_entry(&mut self, entry: &Entry) {
        if let Err(error) = neighbours::release(&self.requests, entry).await {
            tracing::debug!(address = %entry.address, %error, "cannot release a neighbour");
        }
    }
}

fn subscribe() -> Result<Messages, NetworkError> {
    let groups = [
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Link,
    ];
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&groups)
        .map_err(|error| NetworkError::kernel("follow routes and neighbours", error))?;
    tokio::spawn(connection);
    Ok(messages.map(|(message, _)| message.payload).boxed())
}

/// Asks the kernel which way a packet to `address` would go.
async fn path_to(handle: &Handle, address: IpAddr) -> Result<Path, NetworkError> {
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let what = || format!("look up the route to {address}");
    let request = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, whole)
        .map_err(|error| NetworkError::kernel(what(), std::io::Error::other(error)))?;
    match handle
        .route()
        .get(request.build())
        .execute()
        .try_next()
        .await
        .map_err(into_io)
    {
        Ok(Some(route)) => Ok(path_of(&route)),
        Ok(None) => Ok(Path::NoRoute),
        Err(error) => match error.raw_os_error() {
            // No route, or one of type unreachable, prohibit or blackhole.
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(Path::NoRoute),
            _ => Err(NetworkError::kernel(what(), error)),
        },
    }
}

fn path_of(route: &RouteMessage) -> Path {
    let mut interface = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => {
                return Path::Gateway(IpAddr::V4(*gateway));
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => {
                return Path::Gateway(IpAddr::V6(*gateway));
            }
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => return Path::Gateway(IpAddr::V6(*gateway)),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    match (route.header.kind, interface) {
        (RouteType::Unicast, Some(index)) => Path::OnLink(index),
        (RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast, _) => {
            Path::Local
        }
        _ => Path::NoRoute,
    }
}
