//! TLS 1.3 between balancers: both show a certificate, and each believes those that its operator has pinned.
//!
//! No chain is built and no name is looked at: a certificate is one of a peer's or it is refused. The proof that the
//! other side has its key is rustls's. A certificate whose time is over is refused too, so that a forgotten key does
//! not live for ever; `foobar cluster status` and the log say so a month before.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use sha2::{Digest as _, Sha256};

use super::identity::Identity;
use crate::cluster::agreement::Node;

/// The SHA-256 of a certificate.
pub(super) type Fingerprint = [u8; 32];

/// Whose certificates are believed.
#[derive(Debug, Default)]
pub(super) struct Pins(RwLock<HashMap<Fingerprint, Node>>);

impl Pins {
    /// Believes the certificates of these peers, and no others.
    pub(super) fn set(&self, identity: &Identity) {
        let mut pins = HashMap::new();
        for peer in &identity.peers {
            for certificate in &peer.certificates {
                pins.insert(fingerprint(certificate), peer.name.clone());
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pins;
    }

    /// Whose certificate it is.
    pub(super) fn owner(&self, certificate: &CertificateDer<'_>) -> Option<Node> {
        let pins = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pins.get(&fingerprint(certificate)).cloned()
    }

    fn judge(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        if self.owner(certificate).is_none() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let expiry = expiry(certificate).map_err(|_| CertificateError::BadEncoding)?;
        let expiry = expiry
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if now.as_secs() > expiry {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }
}

/// The SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

/// When a certificate's time is over.
///
/// # Errors
/// Where it is no certificate.
pub fn expiry(certificate: &CertificateDer<'_>) -> Result<SystemTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("not an X.509 certificate")?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// Believes what is pinned.
#[derive(Debug)]
struct Verifier {
    pins: Arc<Pins>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Only TLS 1.3 is offered: nobody comes here.
fn no_tls12() -> Error {
    Error::General("balancers speak TLS 1.3 only".to_owned())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.pins.judge(end_entity, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.pins.judge(end_entity, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// Both sides' settings: this balancer calls some peers, and others call it.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

impl Tls {
    /// For a balancer that believes what is pinned in `pins`, now and later.
    pub(super) fn new(identity: &Identity, pins: &Arc<Pins>) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Verifier {
            pins: Arc::clone(pins),
            provider: Arc::clone(&provider),
        });
        let chain = vec![identity.certificate.clone()];
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(chain.clone(), identity.key()?)
            .context("the cluster's key is not the certificate's")?;
        // Each session proves both keys anew: a certificate that is expelled must not live on in a ticket.
        client.resumption = rustls::client::Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, identity.key()?)
            .context("the cluster's key is not the certificate's")?;
        server.send_tls13_tickets = 0;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }
}
