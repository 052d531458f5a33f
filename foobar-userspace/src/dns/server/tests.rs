//! The name server over real loopback sockets: UDP, TCP, EDNS, and packets that are no messages.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{NameServer, Openness};
use crate::dns::Config;

const PATIENCE: Duration = Duration::from_secs(10);

async fn start() -> NameServer {
    start_with("", "").await
}

/// With further lines at the top, and of the first name.
async fn start_with(top: &str, of_name: &str) -> NameServer {
    let text = format!(
        r#"
        {top}
        listen = ["127.0.0.1:0"]
        zone = "wwwfoobar.com"
        primary = "dns1.wwwfoobar.com"
        contact = "hostmaster.wwwfoobar.com"
        [[name]]
        name = "wwwfoobar.com"
        addresses = ["192.0.2.101", "192.0.2.102"]
        {of_name}
        [[name]]
        name = "dns1.wwwfoobar.com"
        addresses = ["192.0.2.53"]
        "#
    );
    let config: Config = toml::from_str(&text).unwrap();
    let openness = Openness {
        nsid: config.nsid.clone(),
        status_clients: config.status_clients.clone(),
    };
    NameServer::bind(&config.listen, config.zone().unwrap(), openness)
        .await
        .unwrap()
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    message
}

async fn exchange(server: SocketAddr, bytes: &[u8]) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut reply = [0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut reply))
        .await
        .expect("no reply")
        .unwrap();
    Message::from_vec(&reply[..length]).unwrap()
}

async fn ask(server: SocketAddr, message: &Message) -> Message {
    let reply = exchange(server, &message.to_vec().unwrap()).await;
    assert_eq!(reply.metadata.id, message.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(!reply.metadata.recursion_available);
    reply
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(a.0.to_string()),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn successive_answers_begin_with_successive_addresses_whatever_is_asked_between() {
    let server = start().await;
    let at = server.addresses()[0];
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let reply = ask(at, &query("wwwfoobar.com.", RecordType::A)).await;
        assert!(reply.metadata.authoritative);
        assert_eq!(reply.answers.len(), 2);
        assert!(reply.answers.iter().all(|record| record.ttl == 10));
        firsts.push(addresses(&reply)[0].clone());
        // A browser asks for AAAA along with A; that must not spoil the rotation.
        let none = ask(at, &query("wwwfoobar.com.", RecordType::AAAA)).await;
        assert_eq!(none.metadata.response_code, ResponseCode::NoError);
        assert!(none.answers.is_empty());
        assert_eq!(none.authorities[0].record_type(), RecordType::SOA);
    }
    assert_eq!(
        firsts,
        ["192.0.2.101", "192.0.2.102", "192.0.2.101", "192.0.2.102"]
    );
}

#[tokio::test]
async fn names_match_in_any_case_and_the_question_comes_back_as_it_was_written() {
    let server = start().await;
    let reply = ask(server.addresses()[0], &query("WwWfOObar.cOm.", RecordType::A)).await;
    assert_eq!(addresses(&reply).len(), 2);
    assert_eq!(reply.queries[0].name().to_ascii(), "WwWfOObar.cOm.");
}

#[tokio::test]
async fn unknown_names_and_other_zones_are_told_apart() {
    let server = start().await;
    let at = server.addresses()[0];
    let unknown = ask(at, &query("nobody.wwwfoobar.com.", RecordType::A)).await;
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    assert!(unknown.metadata.authoritative);
    assert_eq!(unknown.authorities[0].record_type(), RecordType::SOA);
    let other = ask(at, &query("example.com.", RecordType::A)).await;
    assert_eq!(other.metadata.response_code, ResponseCode::Refused);
    assert!(!other.metadata.authoritative && other.authorities.is_empty());
    let mut chaos = query("wwwfoobar.com.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        ask(at, &chaos).await.metadata.response_code,
        ResponseCode::Refused
    );
    let mut update = query("wwwfoobar.com.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(
        ask(at, &update).await.metadata.response_code,
        ResponseCode::NotImp
    );
}

#[tokio::test]
async fn edns_is_answered_with_edns_and_an_unknown_version_is_refused() {
    let server = start().await;
    let at = server.addresses()[0];
    let plain = ask(at, &query("wwwfoobar.com.", RecordType::A)).await;
    assert!(plain.edns.is_none());
    let mut with = query("wwwfoobar.com.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    with.set_edns(edns.clone());
    let reply = ask(at, &with).await;
    assert_eq!(reply.edns.as_ref().map(Edns::max_payload), Some(1232));
    assert_eq!(addresses(&reply).len(), 2);
    edns.set_version(1);
    with.set_edns(edns);
    let refused = ask(at, &with).await;
    // By number: TSIG's BADSIG shares it.
    assert_eq!(
        u16::from(refused.metadata.response_code),
        u16::from(ResponseCode::BADVERS)
    );
    assert!(refused.answers.is_empty());
}

#[tokio::test]
async fn tcp_answers_several_queries_on_one_connection() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    for (record_type, count) in [(RecordType::A, 2), (RecordType::NS, 1), (RecordType::SOA, 1)] {
        let bytes = query("wwwfoobar.com.", record_type).to_vec().unwrap();
        stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let length = timeout(PATIENCE, stream.read_u16())
            .await
            .expect("no reply")
            .unwrap();
        let mut reply = vec![0; length.into()];
        stream.read_exact(&mut reply).await.unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.answers.len(), count, "{record_type}");
        assert!(reply.metadata.authoritative);
    }
}

#[tokio::test]
async fn packets_that_are_no_queries_do_no_harm() {
    let server = start().await;
    let at = server.addresses()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let whole = query("wwwfoobar.com.", RecordType::A).to_vec().unwrap();
    for length in 0..whole.len() {
        socket.send_to(&whole[..length], at).await.unwrap();
    }
    for filler in [0x00, 0x3f, 0xc0, 0xff] {
        socket.send_to(&[filler; 600], at).await.unwrap();
    }
    // A name that points to itself.
    let mut looped = whole.clone();
    looped.splice(12.., [0xc0, 12, 0, 1, 0, 1]);
    socket.send_to(&looped, at).await.unwrap();
    let mut garbage = TcpStream::connect(at).await.unwrap();
    garbage.write_all(&[0xff; 200]).await.unwrap();
    let reply = ask(at, &query("wwwfoobar.com.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 2);
}

#[tokio::test]
async fn a_stopped_server_has_left_its_sockets() {
    let mut server = start().await;
    let at = server.addresses()[0];
    server.stop().await.unwrap();
    UdpSocket::bind(at).await.unwrap();
}

fn chaos(name: &str) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    let mut question = Query::query(Name::from_ascii(name).unwrap(), RecordType::TXT);
    question.set_query_class(DNSClass::CH);
    message.add_query(question);
    message
}

fn texts(reply: &Message) -> Vec<String> {
    let mut texts: Vec<String> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn it_says_who_it_is_and_what_it_knows_to_those_who_may_ask() {
    let closed = start().await;
    for name in ["id.server.", "hostname.bind.", "status.wwwfoobar.com."] {
        let reply = ask(closed.addresses()[0], &chaos(name)).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    let open = start_with(
        "nsid = \"dns1\"\nstatus_clients = [\"127.0.0.0/8\"]",
        "check = { kind = \"tcp\", port = 9, timeout = \"1m\" }",
    )
    .await;
    let server = open.addresses()[0];
    assert_eq!(texts(&ask(server, &chaos("ID.server.")).await), ["dns1"]);
    assert_eq!(
        texts(&ask(server, &chaos("status.wwwfoobar.com.")).await),
        [
            "wwwfoobar.com. 192.0.2.101 unchecked",
            "wwwfoobar.com. 192.0.2.102 unchecked"
        ]
    );
    let mut message = query("wwwfoobar.com.", RecordType::A);
    let mut edns = Edns::new();
    edns.options_mut()
        .insert(EdnsOption::NSID(NSIDPayload::new(b"".as_slice()).unwrap()));
    message.edns = Some(edns);
    let reply = ask(server, &message).await;
    let nsid = reply.edns.as_ref().and_then(|edns| edns.option(EdnsCode::NSID));
    assert_eq!(
        nsid,
        Some(&EdnsOption::NSID(NSIDPayload::new(b"dns1".as_slice()).unwrap()))
    );
    assert_eq!(reply.answers.len(), 2);
}
