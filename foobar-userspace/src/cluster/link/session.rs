//! One session with a peer: the greeting, and messages as frames of a TLS stream.
//!
//! A frame is a length of 4 bytes, most significant first, and so many bytes of CBOR. The first frame of each side is
//! its [`Hello`]; both sides judge it alike, so that a refusal is said on both.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use minicbor::bytes::ByteArray;
use minicbor::{CborLen, Decode, Encode};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::identity::Identity;
use crate::cluster::agreement::Node;
use crate::cluster::message::{self, Envelope};

/// The longest frame: the slots of a VIP, all of them unsettled, have room several times over.
const LONGEST_FRAME: usize = 16 << 20;
/// The longest greeting.
const LONGEST_HELLO: usize = 4096;
/// This release, for people.
const RELEASE: &str = if cfg!(feature = "next-release") {
    concat!(env!("CARGO_PKG_VERSION"), "-next")
} else {
    env!("CARGO_PKG_VERSION")
};
/// Handshake and greeting together may take so long.
pub(super) const GREETING: Duration = Duration::from_secs(5);

/// What each side says first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, CborLen)]
pub(super) struct Hello {
    /// The newest protocol that it speaks.
    #[n(0)]
    newest: u16,
    /// The oldest one that it understands.
    #[n(1)]
    oldest: u16,
    /// The cluster's id.
    #[n(2)]
    cluster: String,
    /// Stands for the seed, without telling it.
    #[n(3)]
    seed: ByteArray<16>,
    /// Its name.
    #[n(4)]
    name: Node,
    /// Its release, for people.
    #[n(5)]
    release: String,
}

/// What is known of the other side of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeted {
    /// Its release.
    pub release: String,
    /// The protocol that both speak.
    pub protocol: u16,
}

impl Hello {
    /// This balancer's.
    pub(super) fn new(identity: &Identity, seed: [u64; 2]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"foobar: the seed of a cluster's flow hash\0");
        hash.update(identity.cluster.as_bytes());
        hash.update(seed[0].to_le_bytes());
        hash.update(seed[1].to_le_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        Self {
            newest: message::VERSION,
            oldest: message::OLDEST_VERSION,
            cluster: identity.cluster.clone(),
            seed: ByteArray::from(short),
            name: identity.name.clone(),
            release: RELEASE.to_owned(),
        }
    }

    /// Whether two may talk.
    fn agrees(&self, other: &Self) -> Result<Greeted> {
        let protocol = self.newest.min(other.newest);
        ensure!(
            protocol >= self.oldest.max(other.oldest),
            "no protocol that both understand: {} {} speaks {} to {}, this release {} speaks {} to {}: update the older \
             one first, release by release",
            other.name,
            other.release,
            other.oldest,
            other.newest,
            self.release,
            self.oldest,
            self.newest
        );
        ensure!(
            other.cluster == self.cluster,
            "it is of cluster {}, this balancer of {}",
            other.cluster,
            self.cluster
        );
        ensure!(
            other.seed == self.seed,
            "its seed is another: it would steer flows elsewhere. Let it join anew, with an invitation of this cluster"
        );
        Ok(Greeted {
            release: other
                .release
                .chars()
                .take(40)
                .filter(|c| !c.is_control())
                .collect(),
            protocol,
        })
    }
}

/// A session whose sides have agreed to talk.
pub(super) struct Session<S> {
    frames: Framed<S, LengthDelimitedCodec>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Greets the other side of a stream, who is known to be `peer` by its certificate.
    pub(super) async fn greet(stream: S, own: &Hello, peer: &str) -> Result<(Self, Greeted)> {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(LONGEST_HELLO)
            .new_codec();
        let mut frames = Framed::new(stream, codec);
        frames
            .send(Bytes::from(minicbor::to_vec(own).map_err(io::Error::other)?))
            .await?;
        let Some(frame) = frames.next().await else {
            bail!("it hung up instead of greeting: its log says why");
        };
        let hello: Hello = minicbor::decode(&frame?).context("its greeting is none of this protocol")?;
        ensure!(
            hello.name == peer,
            "it calls itself {:?}, and its certificate is {peer}'s",
            hello.name
        );
        let greeted = own.agrees(&hello)?;
        frames.codec_mut().set_max_frame_length(LONGEST_FRAME);
        Ok((Self { frames }, greeted))
    }

    /// The two directions of the session, each to be driven by itself: one that waits does not hold up the other.
    pub(super) fn split(self) -> (Sender<S>, Receiver<S>) {
        let (sink, stream) = self.frames.split();
        (Sender(sink), Receiver(stream))
    }
}

/// The way to the peer.
pub(super) struct Sender<S>(SplitSink<Framed<S, LengthDelimitedCodec>, Bytes>);

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Hands a message to the stream; [`Self::flush`] sends what was handed over.
    pub(super) async fn feed(&mut self, envelope: &Envelope) -> Result<()> {
        Ok(self.0.feed(Bytes::from(message::encode(envelope))).await?)
    }

    /// Sends what was handed over.
    pub(super) async fn flush(&mut self) -> Result<()> {
        Ok(self.0.flush().await?)
    }

    /// Ends the stream in an orderly way.
    pub(super) async fn close(&mut self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

/// The way from the peer.
pub(super) struct Receiver<S>(SplitStream<Framed<S, LengthDelimitedCodec>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// The next message; none where the other side has hung up.
    pub(super) async fn receive(&mut self) -> Result<Option<Envelope>> {
        match self.0.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(message::decode(&frame?)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str) -> Hello {
        Hello {
            newest: 4,
            oldest: 3,
            cluster: "c".to_owned(),
            seed: ByteArray::from([7; 16]),
            name: name.to_owned(),
            release: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn adjacent_releases_speak_the_older_ones_protocol_and_others_are_told_apart() {
        let older = Hello {
            newest: 3,
            oldest: 2,
            ..hello("lb2")
        };
        assert_eq!(hello("lb1").agrees(&older).expect("adjacent").protocol, 3);
        assert_eq!(older.agrees(&hello("lb1")).expect("adjacent").protocol, 3);
        let oldest = Hello {
            newest: 2,
            oldest: 1,
            ..hello("lb2")
        };
        for (one, other) in [(hello("lb1"), oldest.clone()), (oldest, hello("lb1"))] {
            let refusal = one.agrees(&other).expect_err("two apart").to_string();
            assert!(refusal.contains("no protocol"), "{refusal}");
        }
    }

    #[test]
    fn another_seed_or_cluster_is_refused_by_name() {
        let seed = Hello {
            seed: ByteArray::from([8; 16]),
            ..hello("lb2")
        };
        let refusal = hello("lb1").agrees(&seed).expect_err("another seed").to_string();
        assert!(refusal.contains("seed"), "{refusal}");
        let cluster = Hello {
            cluster: "d".to_owned(),
            ..hello("lb2")
        };
        let refusal = hello("lb1")
            .agrees(&cluster)
            .expect_err("another cluster")
            .to_string();
        assert!(refusal.contains("cluster d"), "{refusal}");
    }

    #[tokio::test]
    async fn a_greeting_that_is_too_long_or_of_another_name_ends_the_session() {
        let (one, mut other) = tokio::io::duplex(1 << 16);
        let length = (LONGEST_HELLO as u32 + 1).to_be_bytes();
        tokio::io::AsyncWriteExt::write_all(&mut other, &length)
            .await
            .expect("written");
        assert!(Session::greet(one, &hello("lb1"), "lb2").await.is_err());

        let (one, other) = tokio::io::duplex(1 << 16);
        let (lb1, lb3) = (hello("lb1"), hello("lb3"));
        let (one, _) = tokio::join!(
            Session::greet(one, &lb1, "lb2"),
            Session::greet(other, &lb3, "lb1")
        );
        let refusal = one.err().expect("another name").to_string();
        assert!(refusal.contains("lb3"), "{refusal}");
    }
}
