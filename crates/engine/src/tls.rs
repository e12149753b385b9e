//! TLS for connections: whom to trust, and what went wrong.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::outcome::Kind;
use crate::plan::Target;

/// What every new TLS connection to a target starts from. One per worker: sessions are resumed within a worker.
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates to trust. The error is a sentence.
    pub fn new(target: &Target) -> Result<Self, String> {
        let name = target.sni.as_ref().unwrap_or(&target.host);
        Self::with(name, target.insecure, target.ca_file.as_deref())
    }

    /// For a server of this name, with the certificates of a file or of the system, or without asking for any.
    pub fn with(name: &str, insecure: bool, ca_file: Option<&str>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = if insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else {
            builder.with_root_certificates(roots(ca_file)?)
        };
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = name.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name.clone())
            .map_err(|_| format!("'{name}' is neither a host name nor an address, TLS cannot ask for it"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// A connection that has not said anything yet.
    pub fn connect(&self) -> Result<Box<ClientConnection>, Kind> {
        let connection = ClientConnection::new(self.config.clone(), self.name.clone());
        connection.map(Box::new).map_err(|_| Kind::TlsHandshake)
    }
}

/// The kind of a failure during the handshake.
pub fn handshake_kind(error: &rustls::Error) -> Kind {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Kind::TlsCertificate,
        _ => Kind::TlsHandshake,
    }
}

fn roots(ca_file: Option<&str>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let Some(path) = ca_file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| format!("ca_file {path} cannot be read as PEM: {error}"))?;
    if store.add_parsable_certificates(certificates).0 == 0 {
        return Err(format!("ca_file {path} contains no certificate"));
    }
    Ok(store)
}

/// Accepts any certificate (the user said `--insecure`); signatures are still checked, as a handshake without them
/// would prove nothing about the connection at all.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
