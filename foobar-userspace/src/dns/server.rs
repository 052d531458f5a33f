//! Sockets and messages of the name server: each query is checked, put to the [`Zone`] and answered.
//!
//! Relies on hickory's server for reading, writing and malformed packets. What the zone holds and how it
//! answers is not known here; the turns of the rotation are, and what the server says of itself (RFC 5001, RFC 4892).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::{DNSClass, LowerName, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket};

use super::checks::{Checks, Knowledge};
use super::zone::{Answer, Question, Zone};

/// A TCP connection without a query for so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Replies that may wait on one TCP connection.
const TCP_REPLIES: usize = 32;
/// The largest UDP reply: what passes a usual path without fragments (DNS Flag Day 2020).
const MAX_UDP_PAYLOAD: u16 = 1232;
/// How long a stop waits for queries in hand.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// What the server tells of itself, and to whom.
#[derive(Debug, Clone, Default)]
pub struct Openness {
    /// Its name, for NSID (RFC 5001) and `id.server` in class CH (RFC 4892)
    pub nsid: Option<String>,
    /// Who may ask for `status.<zone>` in class CH: what the checks have found
    pub status_clients: Vec<IpNet>,
}

/// A running name server. Dropping it stops it.
pub struct NameServer {
    server: Server<Handler>,
    _checks: Checks,
    addresses: Vec<SocketAddr>,
}

impl NameServer {
    /// Binds each address for UDP and TCP and starts to answer. Port 0 takes a free port, the same for
    /// both.
    ///
    /// # Errors
    /// Where an address cannot be bound.
    pub async fn bind(listen: &[SocketAddr], zone: Zone, openness: Openness) -> Result<Self> {
        let turns = (0..zone.len()).map(|_| AtomicUsize::new(0)).collect();
        let checks = Checks::start(zone.checked());
        let mut server = Server::new(Handler {
            zone,
            turns,
            known: checks.knowledge(),
            openness,
        });
        let mut addresses = Vec::with_capacity(listen.len());
        for address in listen {
            let (udp, tcp) = bind_both(*address).await?;
            addresses.push(udp.local_addr()?);
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_REPLIES);
        }
        Ok(Self {
            server,
            _checks: checks,
            addresses,
        })
    }

    /// The addresses answered on, in the order given.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Completes when the server can no longer answer.
    ///
    /// # Errors
    /// What ended it.
    pub async fn ended(&mut self) -> Result<()> {
        Ok(self.server.block_until_done().await?)
    }

    /// Stops taking queries and waits a short while for those in hand.
    ///
    /// # Errors
    /// Where a task of the server had failed.
    pub async fn stop(&mut self) -> Result<()> {
        match tokio::time::timeout(STOP_TIMEOUT, self.server.shutdown_gracefully()).await {
            Ok(stopped) => Ok(stopped?),
            Err(_) => {
                tracing::warn!("stopping with queries in hand");
                Ok(())
            }
        }
    }
}

async fn bind_both(address: SocketAddr) -> Result<(UdpSocket, TcpListener)> {
    /// With port 0 the port that UDP got may be taken for TCP: try a few.
    const TRIES: usize = 10;
    let mut tried = 0;
    loop {
        let udp = UdpSocket::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (UDP)"))?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && tried < TRIES => tried += 1,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot listen on {address} (TCP)"));
            }
        }
    }
}

struct Handler {
    zone: Zone,
    /// One a name: the address that its next answer begins with.
    turns: Vec<AtomicUsize>,
    known: Knowledge,
    openness: Openness,
}

impl Handler {
    fn answer(&self, request: &Request) -> Result<Answer, ResponseCode> {
        if request.metadata.message_type != MessageType::Query {
            return Err(ResponseCode::FormErr);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(ResponseCode::BADVERS);
        }
        if request.metadata.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        let [query] = request.queries.queries() else {
            return Err(ResponseCode::FormErr);
        };
        let question = Question {
            name: query.name().clone(),
            record_type: query.query_type(),
            class: query.query_class(),
        };
        let answer = match question.class {
            DNSClass::CH => self.tell(&question, request.src()),
            _ => self.zone.answer(
                &question,
                |name| self.turns[name].fetch_add(1, Ordering::Relaxed),
                |place| self.known.serves(place),
            ),
        };
        tracing::debug!(
            source = %request.src(),
            name = %question.name,
            record_type = %question.record_type,
            code = %answer.code,
            "answered"
        );
        Ok(answer)
    }

    /// What the server says of itself, in class CH.
    fn tell(&self, question: &Question, client: SocketAddr) -> Answer {
        let mut lines = Vec::new();
        if question.record_type == RecordType::TXT {
            let is_server = ["id.server.", "hostname.bind."]
                .iter()
                .any(|name| Name::from_ascii(name).is_ok_and(|name| LowerName::new(&name) == question.name));
            let is_status = Name::from_ascii("status")
                .and_then(|label| label.append_domain(self.zone.origin()))
                .is_ok_and(|name| LowerName::new(&name) == question.name);
            let address = client.ip().to_canonical();
            if is_server {
                lines.extend(self.openness.nsid.clone());
            } else if is_status
                && self
                    .openness
                    .status_clients
                    .iter()
                    .any(|net| net.contains(&address))
            {
                let checked = self.zone.checked().iter().enumerate();
                lines.extend(checked.map(|(place, checked)| {
                    format!("{} {} {}", checked.name, checked.address, self.known.word(place))
                }));
            }
        }
        let code = if lines.is_empty() {
            ResponseCode::Refused
        } else {
            ResponseCode::NoError
        };
        let record = |line| {
            let mut record =
                Record::from_rdata(Name::from(&question.name), 0, RData::TXT(TXT::new(vec![line])));
            record.dns_class = DNSClass::CH;
            record
        };
        Answer {
            code,
            authoritative: code == ResponseCode::NoError,
            answers: lines.into_iter().map(record).collect(),
            soa: None,
            additionals: Vec::new(),
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response_handle: R,
    ) -> ResponseInfo {
        // A reply to a query with EDNS carries EDNS (RFC 6891 section 6.1.1).
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, MAX_UDP_PAYLOAD));
            if asked.option(EdnsCode::NSID).is_some()
                && let Some(nsid) = &self.openness.nsid
                && let Ok(payload) = NSIDPayload::new(nsid.as_bytes())
            {
                edns.options_mut().insert(EdnsOption::NSID(payload));
            }
            edns
        });
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.recursion_available = false;
        metadata.authentic_data = false;
        let sent = match self.answer(request) {
            Ok(answer) => {
                metadata.response_code = answer.code;
                metadata.authoritative = answer.authoritative;
                let response = builder.build(
                    metadata,
                    &answer.answers,
                    [],
                    answer.soa.as_ref(),
                    &answer.additionals,
                );
                response_handle.send_response(response).await
            }
            Err(code) => {
                metadata.response_code = code;
                metadata.authoritative = false;
                response_handle
                    .send_response(builder.build_no_records(metadata))
                    .await
            }
        };
        sent.unwrap_or_else(|error| {
            tracing::debug!(source = %request.src(), %error, "cannot reply");
            metadata.response_code = ResponseCode::ServFail;
            ResponseInfo::from(Header {
                metadata,
                counts: HeaderCounts::default(),
            })
        })
    }
}

#[cfg(test)]
mod tests;
