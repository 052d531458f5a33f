//! `foobar cluster`: founds a cluster, lets balancers in and out, renews certificates, and shows how it stands.
//!
//! What goes from one balancer to another goes by the operator's hands, over a way that is trusted (SSH): an
//! invitation, which has the seed and is secret, and cards, which are not.
//! `ssh lb1 foobar cluster invite | ssh lb2 foobar cluster join --name lb2 --address ... | ssh lb1 foobar cluster admit`

use std::io::{IsTerminal as _, Read as _, stdin};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::client::SocketArgs;
use crate::admin::{ClusterStatus, PeerStatus};
use crate::cluster::link::identity::{Card, Identity, Invitation, short_fingerprint};

/// Where the cluster is kept unless it is said otherwise.
const DIRECTORY: &str = "/var/lib/foobar/cluster";
/// More than any invitation needs.
const LONGEST: u64 = 1 << 20;

/// Makes and shows a cluster of balancers
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Found a cluster with this balancer as its first: makes its key, its certificate and the shared seed
    Init {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        own: Own,
    },
    /// Print an invitation for another balancer; it has the seed: secret
    Invite {
        #[command(flatten)]
        place: Place,
    },
    /// Enter the cluster whose invitation is on stdin; prints this balancer's card, which the others have to admit
    Join {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        own: Own,
    },
    /// Let the balancer in whose card is on stdin, or learn its new certificate
    Admit {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Print this balancer's card
    Card {
        #[command(flatten)]
        place: Place,
    },
    /// Know a balancer no longer
    Expel {
        /// Its name
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Renew this balancer's certificate: make a new one and print the card with both, for the others to admit; then,
    /// with --finish, show the new one
    Rotate {
        /// The others have admitted the card: show the new certificate from now on
        #[arg(long)]
        finish: bool,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Show how the cluster stands, as this balancer sees it; exit code 1 where something is wrong
    Status {
        #[command(flatten)]
        socket: SocketArgs,
        /// Print the API's JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the cluster's files are.
#[derive(Debug, clap::Args)]
pub struct Place {
    /// The cluster's directory, as `cluster` in the configuration
    #[arg(long, value_name = "DIRECTORY", env = "FOOBAR_CLUSTER", default_value = DIRECTORY)]
    dir: PathBuf,
}

/// Who this balancer is.
#[derive(Debug, clap::Args)]
pub struct Own {
    /// This balancer's name in the cluster
    #[arg(long)]
    name: String,
    /// Where it listens for the others: an address of its own and a port
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: SocketAddr,
}

impl Command {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// What stopped it, in words for a person.
    pub async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Init { place, own } => {
                let identity = Identity::found(&place.dir, &own.name, own.address)?;
                eprintln!(
                    "cluster {} founded in {}; the certificate of {} is {}",
                    identity.cluster,
                    place.dir.display(),
                    identity.name,
                    short_fingerprint(&identity.certificate)
                );
                // It has just been made.
                let directory = place.dir.canonicalize().unwrap_or(place.dir);
                eprintln!("next: `cluster = {directory:?}` in this balancer's configuration");
            }
            Self::Invite { place } => {
                ensure!(
                    !std::io::stdout().is_terminal(),
                    "an invitation has the cluster's seed, which is secret: pipe it to `foobar cluster join` on the other \
                     balancer, by SSH"
                );
                print!("{}", toml::to_string(&Identity::load(&place.dir)?.invitation()?)?);
            }
            Self::Join { place, own } => {
                let invitation: Invitation = read("an invitation, as `foobar cluster invite` prints it")?;
                let identity = Identity::join(&place.dir, &own.name, own.address, &invitation)?;
                eprintln!(
                    "{} has joined cluster {} in {}; the others have to admit the card that follows: {}",
                    identity.name,
                    identity.cluster,
                    place.dir.display(),
                    names(&identity)
                );
                print!("{}", toml::to_string(&identity.card())?);
            }
            Self::Admit { place, socket } => {
                let card: Card = read("a card, as `foobar cluster join` prints it")?;
                let mut identity = Identity::load(&place.dir)?;
                let is_new = identity.admit(&card)?;
                let verb = if is_new {
                    "is a peer now"
                } else {
                    "has its new card"
                };
                eprintln!("{} {verb}, at {}", card.name, card.address);
                tell(&socket).await?;
            }
            Self::Card { place } => print!("{}", toml::to_string(&Identity::load(&place.dir)?.card())?),
            Self::Expel { name, place, socket } => {
                Identity::load(&place.dir)?.expel(&name)?;
                eprintln!("{name} is no peer of this balancer any more; do the same on the others");
                tell(&socket).await?;
            }
            Self::Rotate {
                finish: false, place, ..
            } => {
                let mut identity = Identity::load(&place.dir)?;
                identity.begin_rotation()?;
                eprintln!(
                    "the card that follows has the certificate in use and the new one. When these have admitted it, \
                     `foobar cluster rotate --finish` here: {}",
                    names(&identity)
                );
                print!("{}", toml::to_string(&identity.card())?);
            }
            Self::Rotate {
                finish: true,
                place,
                socket,
            } => {
                let mut identity = Identity::load(&place.dir)?;
                identity.finish_rotation()?;
                eprintln!(
                    "the new certificate is {}; the others may admit the card of now (`foobar cluster card`) to forget \
                     the old one",
                    short_fingerprint(&identity.certificate)
                );
                tell(&socket).await?;
            }
            Self::Status { socket, json } => return status(&socket, json).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Those who are to be told.
fn names(identity: &Identity) -> String {
    let names: Vec<&str> = identity.peers.iter().map(|peer| peer.name.as_str()).collect();
    names.join(", ")
}

/// Reads TOML from stdin.
fn read<T: serde::de::DeserializeOwned>(what: &str) -> Result<T> {
    ensure!(!stdin().is_terminal(), "{what} is wanted on stdin");
    let mut text = String::new();
    stdin().take(LONGEST).read_to_string(&mut text)?;
    ensure!(
        !text.trim().is_empty(),
        "{what} is wanted on stdin, and nothing came: did the command before it fail?"
    );
    // What is wrong is told without what is there: it may be a secret.
    toml::from_str(&text).map_err(|error| anyhow::anyhow!("this is not {what}: {}", error.message()))
}

/// Lets the daemon know, if one runs.
async fn tell(socket: &SocketArgs) -> Result<()> {
    if !socket.is_there() {
        eprintln!("no daemon runs here: it will know when it starts");
        return Ok(());
    }
    socket
        .call(Method::POST, "/v1/cluster/reload")
        .await
        .context("the directory was changed, but the daemon has not taken it over")?;
    eprintln!("the daemon has taken it over");
    Ok(())
}

async fn status(socket: &SocketArgs, as_json: bool) -> Result<ExitCode> {
    let mut value = socket.call(Method::GET, "/v1/status").await?;
    let cluster = value["cluster"].take();
    ensure!(
        cluster != Value::Null,
        "this balancer is in no cluster: `foobar cluster init` or `join`, then `cluster = \"DIRECTORY\"` in its \
         configuration"
    );
    let cluster: ClusterStatus = serde_json::from_value(cluster)?;
    let is_well = cluster.ready && cluster.peers.iter().all(is_well);
    if as_json {
        println!("{:#}", json!(cluster));
    } else {
        print!("{}", shown(&cluster));
    }
    Ok(if is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn is_well(peer: &PeerStatus) -> bool {
    peer.connected && peer.complete && peer.same_configuration == Some(true) && peer.differing.is_empty()
}

/// How a cluster is shown to people.
pub(super) fn shown(cluster: &ClusterStatus) -> String {
    let mut text = format!(
        "cluster {}: {} at {}, {}\n  certificate {}, good for {} days{}\n",
        cluster.cluster,
        cluster.name,
        cluster.address,
        match &cluster.waits_for {
            None => "ready".to_owned(),
            Some(reason) => format!("NOT READY: {reason}"),
        },
        cluster.certificate,
        cluster.certificate_days,
        if cluster.renewing {
            "; a renewal has begun (`foobar cluster rotate --finish`)"
        } else {
            ""
        }
    );
    if cluster.peers.is_empty() {
        text += "  no other balancer: `foobar cluster invite` lets one in\n";
    }
    for peer in &cluster.peers {
        let standing = match (peer.connected, peer.complete, peer.same_configuration) {
            (false, ..) => match &peer.trouble {
                Some(trouble) => format!("NOT CONNECTED: {trouble}"),
                None => "NOT CONNECTED: it has not called".to_owned(),
            },
            (true, false, _) => "its tables and notes are coming".to_owned(),
            (true, true, Some(false)) => "ITS CONFIGURATION IS ANOTHER".to_owned(),
            (true, true, _) if !peer.differing.is_empty() => "ITS TABLES DIFFER".to_owned(),
            (true, true, _) => "agrees".to_owned(),
        };
        text += &format!("  {:<16} {:<24} {standing}\n", peer.name, peer.address);
        if let (Some(release), Some(protocol)) = (&peer.release, peer.protocol) {
            text += &format!(
                "    release {release}, protocol {protocol}; messages sent {}, received {}\n",
                peer.sent, peer.received
            );
        }
        for difference in &peer.differing {
            let slots: Vec<String> = difference.first_slots.iter().map(u32::to_string).collect();
            let more = if difference.slots > slots.len() {
                ", ..."
            } else {
                ""
            };
            text += &format!(
                "    {}: {} slots had another owner when its table came last: {}{more}\n",
                difference.service,
                difference.slots,
                slots.join(", ")
            );
        }
        text += &format!(
            "    certificate {}, good for {} days\n",
            peer.certificate, peer.certificate_days
        );
    }
    if cluster.refused_callers > 0 {
        text += &format!(
            "  callers refused {}, the last: {}\n",
            cluster.refused_callers,
            cluster.last_refusal.as_deref().unwrap_or_default()
        );
    }
    if cluster.refused_notes > 0 {
        text += &format!("  peers' notes not taken in: {}\n", cluster.refused_notes);
    }
    text
}
