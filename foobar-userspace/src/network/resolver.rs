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
            leftovers: true,
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
    /// Entries of a killed daemon may still be there that nobody wants: removed with the first set.
    leftovers: bool,
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
            let mut complete = true;
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return self;
                    }
                    complete = self.apply_set().await;
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
                    complete = self.reread().await;
                }
                _ = tick.tick() => self.ask().await,
            }
            if !complete {
                reread_at = Some(tokio::time::Instant::now() + ASK_EVERY);
            }
            for event in self.book.changes(Instant::now()) {
                if self.events.send(event).await.is_err() {
                    return self;
                }
            }
        }
    }

    async fn apply_set(&mut self) -> bool {
        let wanted = self.wanted.borrow_and_update().clone();
        let (_, removed) = self.book.set(&wanted);
        self.release(&removed).await;
        self.reread().await
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

    /// Reads links, routes and neighbours anew, then asks for whatever is missing. Returns whether all could
    /// be read.
    async fn reread(&mut self) -> bool {
        let read = self.try_reread().await;
        if let Err(error) = &read {
            tracing::warn!(%error, "cannot read routes and neighbours; trying again");
        }
        self.ask().await;
        read.is_ok()
    }

    async fn try_reread(&mut self) -> Result<(), NetworkError> {
        let links = links(&self.requests).await?;
        self.book.links(
            links
                .iter()
                .filter_map(|link| Some((link.header.index, mac_of(link)?)))
                .collect(),
        );
        let mut left = Vec::new();
        for address in self.book.addresses() {
            let path = path_to(&self.requests, address).await?;
            left.extend(self.book.path(address, path).map(|ifindex| (ifindex, address)));
        }
        self.release(&left).await;
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
        if self.leftovers && !self.book.addresses().is_empty() {
            self.leftovers = false;
            for entry in entries
                .values()
                .filter(|entry| entry.ours && !self.kept.contains_key(&key(entry)))
            {
                drop_entry(&self.requests, entry).await;
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

    /// Lets go of neighbours. The table is read for it: a notification may still be on its way.
    async fn release(&mut self, keys: &[(u32, IpAddr)]) {
        let keys: BTreeSet<_> = keys.iter().copied().collect();
        if keys.is_empty() {
            return;
        }
        self.kept.retain(|key, _| !keys.contains(key));
        match neighbours::list(&self.requests).await {
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| keys.contains(&key(entry))) {
                    drop_entry(&self.requests, entry).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot release neighbours"),
        }
    }

    async fn release_all(&mut self) {
        let keys: Vec<_> = self
            .book
            .on_link()
            .map(|(ifindex, address, _)| (ifindex, address))
            .collect();
        self.release(&keys).await;
    }
}

fn key(entry: &Entry) -> (u32, IpAddr) {
    (entry.ifindex, entry.address)
}

async fn drop_entry(handle: &Handle, entry: &Entry) {
    if let Err(error) = neighbours::release(handle, entry).await {
        tracing::debug!(address = %entry.address, %error, "cannot release a neighbour");
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

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::super::next_hops::Resolution;
    use super::super::testnet::{DEADLINE, address, on_a_cable};
    use super::*;

    /// A resolver that hears only what the test tells it.
    #[test]
    fn an_overrun_makes_it_read_everything_anew() {
        on_a_cable(async |cable| {
            let backend = address("192.0.2.21");
            let (tell, told) = mpsc::channel(1);
            let told = stream::unfold(told, async |mut told| Some((told.recv().await?, told)));
            let (addresses, mut wanted) = watch::channel(BTreeSet::from([backend]));
            wanted.mark_changed();
            let (events, mut received) = mpsc::channel(EVENTS);
            tokio::spawn(
                Task {
                    requests: connect().unwrap(),
                    messages: told.boxed(),
                    wanted,
                    events,
                    book: Book::new(BTreeSet::new()),
                    kept: BTreeMap::new(),
                    leftovers: true,
                }
                .run(),
            );
            let first = tokio::time::timeout(DEADLINE, received.recv())
                .await
                .unwrap()
                .unwrap();
            assert!(matches!(first.state, Resolution::Unresolved { .. }), "{first:?}");
            let known =
                async {
                    let handle = cable.lb.clone();
                    while !neighbours::list(&handle).await.unwrap().iter().any(|entry| {
                        entry.address == backend && matches!(entry.neighbour, Neighbour::Known(_))
                    }) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
            tokio::time::timeout(DEADLINE, known).await.unwrap();
            assert!(received.try_recv().is_err(), "nothing told it yet");
            tell.send(NetlinkPayload::Overrun(Vec::new())).await.unwrap();
            let second = tokio::time::timeout(DEADLINE, received.recv())
                .await
                .unwrap()
                .unwrap();
            assert!(matches!(second.state, Resolution::Resolved(_)), "{second:?}");
            drop(addresses);
        });
    }
}
