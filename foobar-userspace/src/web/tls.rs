//! The server's side of TLS: certificate and key from PEM, TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`.
//!
//! Knows no socket. A reload makes a new [`ServerConfig`]; connections keep the one they began with.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// ALPN's name of HTTP/2 over TLS (RFC 9113, section 3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN's name of HTTP/1.1 (RFC 7301, section 6).
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Reads a certificate chain and its key.
///
/// # Errors
/// Where a file cannot be read, holds no such PEM section, or the key is not the certificate's.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("certificate {}", certificate.display()))?;
    ensure!(
        !chain.is_empty(),
        "certificate {}: no certificate in it",
        certificate.display()
    );
    let private = PrivateKeyDer::from_pem_file(key).with_context(|| format!("key {}", key.display()))?;

    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} with {}", certificate.display(), key.display()))?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.ticketer = ring::Ticketer::new().context("TLS session tickets")?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let directory = tempdir();
        let make =
            || rcgen::generate_simple_self_signed(vec!["wwwfoobar.com".to_owned()]).expect("generated");
        let (one, other) = (make(), make());
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let certificate = write("c.pem", one.cert.pem());
        let key = write("k.pem", one.signing_key.serialize_pem());
        let foreign = write("f.pem", other.signing_key.serialize_pem());

        assert!(server_config(&certificate, &key).is_ok());
        let complaint = format!(
            "{:#}",
            server_config(&certificate, &foreign).expect_err("refused")
        );
        assert!(complaint.contains("f.pem"), "{complaint}");
        let complaint = format!("{:#}", server_config(&key, &key).expect_err("refused"));
        assert!(complaint.contains("no certificate"), "{complaint}");
        std::fs::remove_dir_all(directory).expect("removed");
    }

    fn tempdir() -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("foobar-web-tls-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("made");
        path
    }
}
