//! A session with one of etcd's members: connect, log in, get the key, watch it. The client is `etcdv3client` on a
//! channel of our own, for it has no certificates of clients and no keepalives of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use etcdv3client::grpc::{CredentialInterceptor, TonicClient};
use etcdv3client::{Client, KvClient, WatchClient, pb};
use futures_util::{StreamExt as _, stream};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::Kept;
use crate::config::Etcd;
use crate::config::etcd::{Endpoint, Login};
use crate::files;

/// A member that has sent nothing for so long is asked whether it lives. etcd cuts off clients that ask more often
/// than every five seconds.
const KEEPALIVE: Duration = Duration::from_secs(6);
/// So long it may take to answer that.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(3);

/// A member that answers.
pub(super) struct Session {
    service: CredentialInterceptor<TonicClient>,
}

/// What a watched key has become.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has this value.
    Put(Kept),
    /// It is deleted.
    Deleted,
}

/// The changes of a key.
pub(super) struct Changes {
    stream: Streaming<pb::WatchResponse>,
}

impl Session {
    /// Connects and, where the configuration says so, logs in. Files of certificates and passwords are read each time:
    /// they may be renewed.
    pub(super) async fn open(endpoint: &Endpoint, etcd: &Etcd) -> Result<Self> {
        let tls = if endpoint.tls { Some(tls(etcd)?) } else { None };
        let channel = channel(endpoint, tls).await?;
        let token = match &etcd.login {
            Some(login) => token(channel.clone(), login).await?,
            None => None,
        };
        Ok(Self {
            service: CredentialInterceptor::new(None, token, TonicClient::new(channel)),
        })
    }

    /// The key's value, and the revision of the store that it is as of.
    pub(super) async fn get(&self, key: &str) -> Result<(i64, Option<Kept>)> {
        let mut client = KvClient::new(self.service.clone());
        let answer = client.range(pb::RangeRequest::new(key)).await.map_err(refusal)?;
        let header = answer.header.context("an answer without a header")?;
        let kept = answer.kvs.into_iter().next().map(kept).transpose()?;
        Ok((header.revision, kept))
    }

    /// What happens to the key from this revision on.
    pub(super) async fn watch(&self, key: &str, revision: i64) -> Result<Changes> {
        let create = pb::WatchCreateRequest {
            start_revision: revision,
            ..pb::WatchCreateRequest::new(key)
        };
        let asked = stream::iter([pb::WatchRequest::from(create)]).chain(stream::pending());
        let mut request = Request::new(asked);
        // A member that has lost its leader ends the watch, so that another one is asked.
        request
            .metadata_mut()
            .insert("hasleader", AsciiMetadataValue::from_static("true"));
        let mut client = WatchClient::new(self.service.clone());
        let stream = client.watch(request).await.map_err(refusal)?;
        let mut changes = Changes { stream };
        let first = changes.response().await?;
        ensure!(first.created, "the watch has not begun");
        Ok(changes)
    }
}

impl Changes {
    /// The last change of those that come together. Does not end while nothing changes; may be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Change> {
        loop {
            if let Some(event) = self.response().await?.events.pop() {
                let is_put = event.r#type() == pb::event::EventType::Put;
                return match event.kv {
                    Some(pair) if is_put => Ok(Change::Put(kept(pair)?)),
                    _ => Ok(Change::Deleted),
                };
            }
        }
    }

    async fn response(&mut self) -> Result<pb::WatchResponse> {
        let response = self
            .stream
            .message()
            .await
            .map_err(|status| anyhow!("{}", status.message()))?;
        let response = response.context("the watch has ended")?;
        if response.compact_revision > 0 {
            bail!("the changes since the last one are compacted");
        }
        if response.canceled {
            bail!("the watch was ended: {}", response.cancel_reason);
        }
        Ok(response)
    }
}

fn kept(pair: pb::KeyValue) -> Result<Kept> {
    let text = String::from_utf8(pair.value);
    Ok(Kept {
        revision: pair.mod_revision,
        text: text.map_err(|error| {
            anyhow!(
                "the value is not UTF-8, from byte {} on",
                error.utf8_error().valid_up_to()
            )
        })?,
    })
}

/// What the channel says when the other side has ended the connection.
const ENDED: [&str; 2] = ["operation was canceled", "transport error"];

/// What etcd has said: the client tells it as the insides of a status.
fn refusal(error: etcdv3client::Error) -> anyhow::Error {
    let text = error.to_string();
    let said = text
        .split_once("message: \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    match said {
        // With TLS 1.3 a client hears only then that its certificate is not wanted.
        Some((said, _)) if ENDED.contains(&said) => anyhow!(
            "the member has ended the connection: that is what one does that wants another certificate, or any, from its \
             clients"
        ),
        Some((said, _)) => anyhow!("{said}"),
        None => anyhow!("{text}"),
    }
}

async fn token(channel: Channel, login: &Login) -> Result<Option<AsciiMetadataValue>> {
    let password = password(&login.password_file)
        .with_context(|| format!("etcd.password_file {}", login.password_file.display()))?;
    let mut client = Client::with_service(TonicClient::new(channel));
    let request = pb::AuthenticateRequest {
        name: login.username.clone(),
        password,
    };
    match client.auth.authenticate(request).await {
        Ok(answer) => {
            let mut token = AsciiMetadataValue::try_from(answer.token).context("etcd's token")?;
            token.set_sensitive(true);
            Ok(Some(token))
        }
        // Who need not log in may read all.
        Err(error) if error.is_auth_not_enabled() => Ok(None),
        Err(error) => Err(refusal(error).context("log in")),
    }
}

fn password(file: &Path) -> Result<String> {
    files::check_secret(file)?;
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "its first line is empty");
    Ok(line.to_owned())
}

async fn channel(endpoint: &Endpoint, tls: Option<TlsConnector>) -> Result<Channel> {
    let authority = endpoint.authority();
    let dial = {
        let (endpoint, authority) = (endpoint.clone(), authority.clone());
        move |_: Uri| dial(endpoint.clone(), authority.clone(), tls.clone())
    };
    // The connector speaks TLS: the channel takes it for a plain one.
    let channel = Channel::from_shared(format!("http://{authority}"))?
        .origin(endpoint.to_string().parse()?)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_ANSWER)
        .keep_alive_while_idle(true);
    let connected = channel.connect_with_connector(tower::service_fn(dial)).await;
    connected.map_err(|error| anyhow!("{}", innermost(&error)))
}

async fn dial(
    endpoint: Endpoint,
    authority: String,
    tls: Option<TlsConnector>,
) -> io::Result<TokioIo<Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>>> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let stream = match tls {
        None => Either::Left(stream),
        Some(tls) => {
            let name = ServerName::try_from(endpoint.host).map_err(io::Error::other)?;
            Either::Right(tls.connect(name, stream).await?)
        }
    };
    Ok(TokioIo::new(stream))
}

/// What is at the bottom of a transport's error, which itself says no more than that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What is needed to speak TLS with the members.
fn tls(etcd: &Etcd) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for ca in etcd.ca.iter() {
        for certificate in chain(ca).with_context(|| format!("etcd.ca {}", ca.display()))? {
            roots
                .add(certificate)
                .with_context(|| format!("etcd.ca {}", ca.display()))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &etcd.identity {
        None => config.with_no_client_auth(),
        Some(identity) => {
            let at = |what: &str, path: &Path| format!("etcd.{what} {}", path.display());
            let certificate = at("certificate", &identity.certificate);
            let private_key = at("private_key", &identity.private_key);
            let chain = chain(&identity.certificate).with_context(|| certificate.clone())?;
            files::check_secret(&identity.private_key).with_context(|| private_key.clone())?;
            let key = PrivateKeyDer::from_pem_file(&identity.private_key).context(private_key)?;
            config.with_client_auth_cert(chain, key).context(certificate)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    ensure!(!chain.is_empty(), "no certificate in it");
    Ok(chain)
}
