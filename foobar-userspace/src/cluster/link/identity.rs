//! What a balancer is in its cluster, as the files of one directory: its key and certificate, the cluster's seed, and
//! the peers with the certificates by which they are known.
//!
//! Trust is by pinning: a certificate is believed because an operator has carried it here (`foobar cluster invite`,
//! `join`, `admit`), never because somebody signed it. The directory is 0700; the seed and keys are 0600, and are
//! refused when others may read them.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

use super::tls::{expiry, fingerprint};
use crate::cluster::agreement::Node;
use crate::files;

/// How long a certificate is good for.
const VALID: Duration = Duration::from_secs(730 * 86_400);
/// Certificates begin so long before they are made: clocks differ.
const BEFORE: Duration = Duration::from_secs(86_400);
/// Peers at most, as many as `peer_macs` has room for.
pub const PEERS_MAX: usize = 8;

const FILE: &str = "cluster.toml";
const SEED: &str = "seed";
const KEY: &str = "key.pem";
const CERTIFICATE: &str = "certificate.pem";
const NEXT_KEY: &str = "next-key.pem";
const NEXT_CERTIFICATE: &str = "next-certificate.pem";

/// What a balancer says of itself, for others to know it by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The cluster's id.
    pub cluster: String,
    /// Its name in the cluster.
    pub name: Node,
    /// Where it listens for its peers.
    pub address: SocketAddr,
    /// Its certificates as PEM; two while they are being renewed.
    pub certificates: Vec<String>,
}

/// What a balancer needs to become a member of a cluster. It has the seed: it is secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The cluster's id.
    pub cluster: String,
    /// The seed of the flow hash, 32 hex digits.
    pub seed: String,
    /// Those who are in it.
    pub member: Vec<Card>,
}

/// The public part of the directory.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: String,
    name: Node,
    address: SocketAddr,
    #[serde(default)]
    peer: Vec<PeerEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerEntry {
    name: Node,
    address: SocketAddr,
    certificates: Vec<String>,
}

/// Another member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: Node,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificates by which it is known.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// A balancer in its cluster.
#[derive(Debug)]
pub struct Identity {
    directory: PathBuf,
    /// The cluster's id.
    pub cluster: String,
    /// Its name.
    pub name: Node,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate that it shows.
    pub certificate: CertificateDer<'static>,
    /// The one that it will show when the renewal is finished.
    pub next: Option<CertificateDer<'static>>,
    /// The others.
    pub peers: Vec<Peer>,
}

/// A directory that a cluster can't be read from or written to.
fn at(path: &Path) -> String {
    format!("{}", path.display())
}

impl Identity {
    /// Founds a cluster of one, in a directory that is not there or empty.
    ///
    /// # Errors
    /// Where there is a cluster already, the name is none, or files can't be written.
    pub fn found(directory: &Path, name: &str, address: SocketAddr) -> Result<Self> {
        let cluster = format!("{:016x}", rand::random::<u64>());
        let seed = format!("{:016x}{:016x}", rand::random::<u64>() | 1, rand::random::<u64>());
        Self::create(directory, cluster, name, address, &seed, Vec::new())
    }

    /// Becomes a member of a cluster, in a directory that is not there or empty.
    ///
    /// # Errors
    /// As [`Self::found`]; where a member has that name or address already; or the invitation is damaged.
    pub fn join(directory: &Path, name: &str, address: SocketAddr, invitation: &Invitation) -> Result<Self> {
        parse_seed(&invitation.seed).context("the invitation's seed")?;
        let mut peers: Vec<Peer> = Vec::new();
        for card in &invitation.member {
            ensure!(
                card.cluster == invitation.cluster,
                "the invitation names members of two clusters"
            );
            let peer = Peer::of(&card.name, card.address, &card.certificates)?;
            free_for(&peers, &peer)?;
            peers.push(peer);
        }
        ensure!(!peers.is_empty(), "the invitation names no member of the cluster");
        ensure!(
            peers.len() <= PEERS_MAX,
            "a cluster has at most {} balancers",
            PEERS_MAX + 1
        );
        for peer in &peers {
            ensure!(
                peer.name != name,
                "the cluster has a balancer named {name} already: choose another --name, or expel it there"
            );
            ensure!(
                peer.address != address,
                "{address} is {}'s address: choose another --address",
                peer.name
            );
        }
        Self::create(
            directory,
            invitation.cluster.clone(),
            name,
            address,
            &invitation.seed,
            peers,
        )
    }

    fn create(
        directory: &Path,
        cluster: String,
        name: &str,
        address: SocketAddr,
        seed: &str,
        peers: Vec<Peer>,
    ) -> Result<Self> {
        check_name(name)?;
        ensure!(
            !address.ip().is_unspecified() && address.port() != 0,
            "{address} can't be an address that peers connect to: give this balancer's own address and a port"
        );
        if directory.join(FILE).exists() {
            bail!(
                "{} holds a cluster already; to leave it, stop the daemon and remove the directory",
                at(directory)
            );
        }
        if !directory.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .with_context(|| at(directory))?;
        }
        let (key, certificate) = make(name)?;
        write(&directory.join(SEED), &format!("{seed}\n"), 0o600)?;
        write(&directory.join(KEY), &key, 0o600)?;
        write(&directory.join(CERTIFICATE), &certificate, 0o644)?;
        let identity = Self {
            directory: directory.to_owned(),
            cluster,
            name: name.to_owned(),
            address,
            certificate: parse_certificate(&certificate)?,
            next: None,
            peers,
        };
        // Last: a directory without it is no cluster's.
        identity.save()?;
        Ok(identity)
    }

    /// Reads a directory.
    ///
    /// # Errors
    /// Where there is no cluster in it, a file is damaged, or a secret may be read by others.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
                "{} holds no cluster: `foobar cluster init` makes one, `foobar cluster join` enters one",
                at(directory)
            ),
            Err(error) => return Err(error).with_context(|| at(&path)),
        };
        let file: File = toml::from_str(&text).with_context(|| at(&path))?;
        check_name(&file.name).with_context(|| at(&path))?;
        let mut peers = Vec::new();
        for entry in &file.peer {
            let peer =
                Peer::of(&entry.name, entry.address, &entry.certificates).with_context(|| at(&path))?;
            free_for(&peers, &peer).with_context(|| at(&path))?;
            ensure!(
                peer.name != file.name,
                "{}: a peer has this balancer's name",
                at(&path)
            );
            peers.push(peer);
        }
        ensure!(
            peers.len() <= PEERS_MAX,
            "{}: more than {PEERS_MAX} peers",
            at(&path)
        );
        for secret in [SEED, KEY, NEXT_KEY] {
            is_secret(&directory.join(secret))?;
        }
        Ok(Self {
            certificate: read_certificate(&directory.join(CERTIFICATE))?,
            next: match directory.join(NEXT_CERTIFICATE) {
                path if path.exists() => Some(read_certificate(&path)?),
                _ => None,
            },
            directory: directory.to_owned(),
            cluster: file.cluster,
            name: file.name,
            address: file.address,
            peers,
        })
    }

    /// The private key of [`Self::certificate`].
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn key(&self) -> Result<PrivateKeyDer<'static>> {
        let path = self.directory.join(KEY);
        PrivateKeyDer::from_pem_file(&path).with_context(|| at(&path))
    }

    /// The seed of the flow hash.
    ///
    /// # Errors
    /// Where it can't be read, or is none.
    pub fn seed(&self) -> Result<[u64; 2]> {
        let path = self.directory.join(SEED);
        let text = fs::read_to_string(&path).with_context(|| at(&path))?;
        parse_seed(&text).with_context(|| at(&path))
    }

    /// What to let a new balancer join with.
    ///
    /// # Errors
    /// Where the seed can't be read.
    pub fn invitation(&self) -> Result<Invitation> {
        let [first, second] = self.seed()?;
        let card = |peer: &Peer| Card {
            cluster: self.cluster.clone(),
            name: peer.name.clone(),
            address: peer.address,
            certificates: peer.certificates.iter().map(pem).collect(),
        };
        Ok(Invitation {
            cluster: self.cluster.clone(),
            seed: format!("{first:016x}{second:016x}"),
            member: std::iter::once(self.card())
                .chain(self.peers.iter().map(card))
                .collect(),
        })
    }

    /// What others know this balancer by.
    #[must_use]
    pub fn card(&self) -> Card {
        Card {
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            address: self.address,
            certificates: std::iter::once(&self.certificate)
                .chain(&self.next)
                .map(pem)
                .collect(),
        }
    }

    /// Takes a balancer in, or learns its new certificates and address; whether it is a new one.
    ///
    /// # Errors
    /// Where it is of another cluster, this balancer itself, has another's address, or there are too many.
    pub fn admit(&mut self, card: &Card) -> Result<bool> {
        ensure!(
            card.cluster == self.cluster,
            "{} is of cluster {}, and this balancer of {}: it has to join by an invitation of this one",
            card.name,
            card.cluster,
            self.cluster
        );
        ensure!(card.name != self.name, "{} is this balancer itself", card.name);
        let peer = Peer::of(&card.name, card.address, &card.certificates)?;
        let known = self.peers.iter().position(|have| have.name == peer.name);
        let others: Vec<Peer> = self
            .peers
            .iter()
            .filter(|have| have.name != peer.name)
            .cloned()
            .collect();
        free_for(&others, &peer)?;
        ensure!(
            peer.address != self.address,
            "{} is this balancer's own address",
            peer.address
        );
        match known {
            Some(place) => self.peers[place] = peer,
            None => {
                ensure!(
                    self.peers.len() < PEERS_MAX,
                    "a cluster has at most {} balancers",
                    PEERS_MAX + 1
                );
                self.peers.push(peer);
                self.peers.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
        self.save()?;
        Ok(known.is_none())
    }

    /// Forgets a balancer.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn expel(&mut self, name: &str) -> Result<()> {
        let before = self.peers.len();
        self.peers.retain(|peer| peer.name != name);
        ensure!(
            self.peers.len() < before,
            "there is no peer named {name}; there are: {}",
            self.peers
                .iter()
                .map(|peer| peer.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
        self.save()
    }

    /// Makes a key and a certificate that are to take the place of those in use; the ones that were made by an
    /// earlier call and not taken into use yet stay.
    ///
    /// # Errors
    /// Where files can't be written.
    pub fn begin_rotation(&mut self) -> Result<()> {
        if self.next.is_none() {
            let (key, certificate) = make(&self.name)?;
            write(&self.directory.join(NEXT_KEY), &key, 0o600)?;
            write(&self.directory.join(NEXT_CERTIFICATE), &certificate, 0o644)?;
            self.next = Some(parse_certificate(&certificate)?);
        }
        Ok(())
    }

    /// Takes the new key and certificate into use.
    ///
    /// # Errors
    /// Where there are none.
    pub fn finish_rotation(&mut self) -> Result<()> {
        let Some(next) = self.next.clone() else {
            bail!("no renewal has begun: `foobar cluster rotate` begins one");
        };
        let file = |name: &str| self.directory.join(name);
        // The certificate follows the key: a daemon that reads between the two is told that they don't match, and
        // goes on with what it has.
        fs::rename(file(NEXT_KEY), file(KEY)).with_context(|| at(&file(KEY)))?;
        fs::rename(file(NEXT_CERTIFICATE), file(CERTIFICATE)).with_context(|| at(&file(CERTIFICATE)))?;
        self.certificate = next;
        self.next = None;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        let file = File {
            cluster: self.cluster.clone(),
            name: self.name.clone(),
            address: self.address,
            peer: self
                .peers
                .iter()
                .map(|peer| PeerEntry {
                    name: peer.name.clone(),
                    address: peer.address,
                    certificates: peer.certificates.iter().map(pem).collect(),
                })
                .collect(),
        };
        write(&self.directory.join(FILE), &toml::to_string(&file)?, 0o644)
    }
}

impl Peer {
    fn of(name: &str, address: SocketAddr, certificates: &[String]) -> Result<Self> {
        check_name(name)?;
        ensure!(!certificates.is_empty(), "{name} has no certificate");
        Ok(Self {
            name: name.to_owned(),
            address,
            certificates: certificates
                .iter()
                .map(|text| parse_certificate(text))
                .collect::<Result<_>>()
                .with_context(|| format!("a certificate of {name}"))?,
        })
    }
}

/// No two may be taken for one another.
fn free_for(peers: &[Peer], new: &Peer) -> Result<()> {
    for peer in peers {
        ensure!(
            peer.name != new.name,
            "there are two balancers named {}",
            new.name
        );
        ensure!(
            peer.address != new.address,
            "{} and {} have the same address, {}",
            peer.name,
            new.name,
            new.address
        );
        ensure!(
            peer.certificates
                .iter()
                .all(|have| !new.certificates.contains(have)),
            "{} and {} have the same certificate",
            peer.name,
            new.name
        );
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    ensure!(
        !name.is_empty() && name.len() <= 63 && name.chars().all(is_allowed),
        "{name:?} can't be a balancer's name: lower-case letters, digits, dots and hyphens, at most 63"
    );
    Ok(())
}

/// 32 hexadecimal digits, not all of them 0.
///
/// # Errors
/// Where it is something else.
pub fn parse_seed(text: &str) -> Result<[u64; 2]> {
    let text = text.trim();
    let word = |range: std::ops::Range<usize>| {
        let digits = text
            .get(range)
            .filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()));
        digits
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .context("32 hexadecimal digits are wanted (openssl rand -hex 16)")
    };
    ensure!(
        text.len() == 32,
        "32 hexadecimal digits are wanted (openssl rand -hex 16)"
    );
    match [word(0..16)?, word(16..32)?] {
        [0, 0] => bail!("the seed must not be all zeros"),
        seed => Ok(seed),
    }
}

/// A new key and its self-signed certificate, as PEM.
fn make(name: &str) -> Result<(String, String)> {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock is before 1970")?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()])?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    parameters.not_before = epoch + now.saturating_sub(BEFORE);
    parameters.not_after = epoch + now + VALID;
    let key = rcgen::KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?;
    Ok((key.serialize_pem(), certificate.pem()))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let lines = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new("CERTIFICATE", certificate.to_vec()), lines)
}

fn parse_certificate(text: &str) -> Result<CertificateDer<'static>> {
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).context("not a certificate in PEM")?;
    expiry(&certificate)?;
    Ok(certificate)
}

fn read_certificate(path: &Path) -> Result<CertificateDer<'static>> {
    let text = fs::read_to_string(path).with_context(|| at(path))?;
    parse_certificate(&text).with_context(|| at(path))
}

/// Refuses a secret that others than its owner may read; one that is not there is none.
fn is_secret(path: &Path) -> Result<()> {
    match fs::metadata(path) {
        Ok(metadata) => {
            ensure!(
                metadata.mode() & 0o077 == 0,
                "{} may be read by others (mode {:o}): `chmod 600` it, and if others are on this machine, make a new one",
                at(path),
                metadata.mode() & 0o777
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| at(path)),
    }
}

/// Writes a file as a whole: a reader sees the old one or the new one.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    files::replace(path, text, mode).with_context(|| at(path))
}

/// How a certificate is told to people: the first bytes of its SHA-256, in hex.
#[must_use]
pub fn short_fingerprint(certificate: &CertificateDer<'_>) -> String {
    fingerprint(certificate)[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
