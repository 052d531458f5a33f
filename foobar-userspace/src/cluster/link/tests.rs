//! The link between real sockets on the loopback interface.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::identity::tests::Scratch;
use super::*;
use crate::cluster::message::Message;

const LIMIT: Duration = Duration::from_secs(10);

/// An address that nobody listens on.
fn address() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// Two balancers that know each other.
fn pair(scratch: &Scratch) -> [Identity; 2] {
    let mut one = Identity::found(&scratch.path("lb1"), "lb1", address()).expect("founded");
    let invitation = one.invitation().expect("an invitation");
    let other = Identity::join(&scratch.path("lb2"), "lb2", address(), &invitation).expect("joined");
    one.admit(&other.card()).expect("admitted");
    [one, other]
}

fn reload(path: &Path) -> Identity {
    Identity::load(path).expect("loaded")
}

async fn next(link: &mut Link) -> Event {
    timeout(LIMIT, link.next()).await.expect("nothing happens")
}

async fn connected(link: &mut Link, peer: &str) {
    loop {
        match next(link).await {
            Event::Connected(node, greeted) => {
                assert_eq!((node.as_str(), greeted.protocol), (peer, 1));
                return;
            }
            Event::Lost(..) => (),
            other @ Event::Received(..) => panic!("{other:?}"),
        }
    }
}

async fn lost(link: &mut Link) -> String {
    loop {
        if let Event::Lost(_, why) = next(link).await {
            return why;
        }
    }
}

fn numbered(sequence: u64) -> Envelope {
    Envelope {
        sequence,
        message: Message::Pull,
    }
}

#[tokio::test]
async fn messages_go_both_ways_in_order_and_a_flood_from_both_sides_at_once_does_not_stall() {
    const COUNT: u64 = 20_000;
    let scratch = Scratch::new("both-ways");
    let [one, other] = pair(&scratch);
    let (mut one, mut other) = (
        Link::start(&one).await.expect("up"),
        Link::start(&other).await.expect("up"),
    );
    connected(&mut one, "lb2").await;
    connected(&mut other, "lb1").await;
    for sequence in 0..COUNT {
        one.send("lb2", numbered(sequence));
        other.send("lb1", numbered(sequence));
    }
    for link in [&mut one, &mut other] {
        for sequence in 0..COUNT {
            let Event::Received(_, envelope) = next(link).await else {
                panic!("a session ended");
            };
            assert_eq!(envelope, numbered(sequence));
        }
    }
}

#[tokio::test]
async fn what_was_said_last_arrives_though_the_link_stops_and_the_peer_is_called_again() {
    let scratch = Scratch::new("last-words");
    let [one, other] = pair(&scratch);
    let (mut first, mut second) = (
        Link::start(&one).await.expect("up"),
        Link::start(&other).await.expect("up"),
    );
    connected(&mut first, "lb2").await;
    connected(&mut second, "lb1").await;
    second.send("lb1", numbered(0));
    second.stop().await;
    assert!(matches!(next(&mut first).await, Event::Received(..)));
    lost(&mut first).await;
    let mut second = Link::start(&other).await.expect("up again");
    connected(&mut second, "lb1").await;
    connected(&mut first, "lb2").await;
}

#[tokio::test]
async fn who_is_not_pinned_is_refused_and_counted() {
    let scratch = Scratch::new("stranger");
    let [one, _] = pair(&scratch);
    // Another balancer under the same name, with a key that nobody has admitted.
    let invitation = one.invitation().expect("an invitation");
    let stranger = Identity::join(&scratch.path("lb0"), "lb0", address(), &invitation).expect("joined");
    let mut link = Link::start(&one).await.expect("up");
    let mut caller = Link::start(&stranger).await.expect("up");
    let refused = async {
        while link.troubles().refused == 0 {
            tokio::select! {
                event = link.next() => panic!("{event:?}"),
                event = caller.next() => panic!("{event:?}"),
                () = sleep(Duration::from_millis(20)) => (),
            }
        }
    };
    timeout(LIMIT, refused).await.expect("not refused");
}

#[tokio::test]
async fn who_speaks_no_tls_or_says_nothing_gets_nothing() {
    let scratch = Scratch::new("plain");
    let [one, _] = pair(&scratch);
    let link = Link::start(&one).await.expect("up");
    let mut plain = TcpStream::connect(one.address).await.expect("connected");
    plain
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("written");
    let mut said = Vec::new();
    // A TLS alert at most.
    drop(
        timeout(LIMIT, plain.read_to_end(&mut said))
            .await
            .expect("still open"),
    );
    assert!(said.len() <= 7, "{said:?}");
    let silent = TcpStream::connect(one.address).await.expect("connected");
    let closed = async {
        let mut byte = [0];
        silent.readable().await.expect("an end");
        silent.try_read(&mut byte)
    };
    assert!(matches!(timeout(LIMIT, closed).await, Ok(Ok(0) | Err(_))));
    assert_eq!(link.troubles().refused, 2);
}

#[tokio::test]
async fn an_expelled_peers_session_ends_and_it_does_not_come_back() {
    let scratch = Scratch::new("expelled");
    let [mut one, other] = pair(&scratch);
    let (mut first, mut second) = (
        Link::start(&one).await.expect("up"),
        Link::start(&other).await.expect("up"),
    );
    connected(&mut first, "lb2").await;
    connected(&mut second, "lb1").await;
    one.expel("lb2").expect("expelled");
    first.set(&reload(&scratch.path("lb1"))).await.expect("set");
    assert_eq!(lost(&mut first).await, "it is no longer a peer");
    lost(&mut second).await;
    assert!(timeout(Duration::from_millis(700), second.next()).await.is_err());
}

#[tokio::test]
async fn certificates_are_renewed_without_a_lost_session() {
    let scratch = Scratch::new("rotate");
    let [mut one, mut other] = pair(&scratch);
    let (mut first, mut second) = (
        Link::start(&one).await.expect("up"),
        Link::start(&other).await.expect("up"),
    );
    connected(&mut first, "lb2").await;
    connected(&mut second, "lb1").await;
    let old = one.certificate.clone();
    one.begin_rotation().expect("begun");
    other.admit(&one.card()).expect("learnt");
    second.set(&reload(&scratch.path("lb2"))).await.expect("set");
    one.finish_rotation().expect("finished");
    assert_ne!(one.certificate, old);
    first.set(&reload(&scratch.path("lb1"))).await.expect("set");
    second.send("lb1", numbered(0));
    assert!(
        matches!(next(&mut first).await, Event::Received(..)),
        "the same session"
    );
    // And the next one shows the new certificate.
    first.cut("lb2", "a test");
    lost(&mut first).await;
    connected(&mut first, "lb2").await;
    other.admit(&one.card()).expect("learnt");
    assert_eq!(other.peers[0].certificates, [one.certificate.clone()]);
}

#[tokio::test]
async fn another_seed_is_told_to_both() {
    let scratch = Scratch::new("seed");
    let [one, other] = pair(&scratch);
    std::fs::write(
        scratch.path("lb2").join("seed"),
        "00000000000000000000000000000001\n",
    )
    .expect("written");
    let (link, _caller) = (
        Link::start(&one).await.expect("up"),
        Link::start(&other).await.expect("up"),
    );
    let told = async {
        loop {
            if let Some(why) = link.troubles().peers.get("lb2")
                && why.contains("seed")
            {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, told).await.expect("not told");
    assert_eq!(one.address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
}
