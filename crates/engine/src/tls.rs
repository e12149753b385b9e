//! TLS for connections: whom to trust, and what went wrong.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};

use crate::outcome::Kind;
use crate::plan::{Target, TlsText};

/// What every new TLS connection to a target starts from. One per worker: sessions are resumed within a worker.
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates to trust and the one to show. The error is a sentence.
    pub fn new(target: &Target, options: &TlsText) -> Result<Self, String> {
        let name = target.sni.as_ref().unwrap_or(&target.host);
        let roots = || match &options.ca {
            Some(text) => trusted(CertificateDer::pem_slice_iter(text.as_bytes()), "tls.ca"),
            None => roots(target.ca_file.as_deref()),
        };
        Self::from(name, target.insecure, roots, options)
    }

    /// For a server of this name, with the certificates of a file or of the system, or without asking for any.
    pub fn with(name: &str, insecure: bool, ca_file: Option<&str>) -> Result<Self, String> {
        Self::from(name, insecure, || roots(ca_file), &TlsText::default())
    }

    fn from(
        name: &str,
        insecure: bool,
        roots: impl FnOnce() -> Result<RootCertStore, String>,
        options: &TlsText,
    ) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions(&options.versions)?)
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = if insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        } else {
            builder.with_root_certificates(roots()?)
        };
        let mut config = match &options.certificate {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let (chain, key) = shown(certificate, options.key.as_deref().unwrap_or(certificate))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("tls.certificate and tls.key do not go together: {error}"))?
            }
        };
        if !options.resumption {
            config.resumption = Resumption::disabled();
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = name.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(name.clone())
            .map_err(|_| format!("'{name}' is neither a host name nor an address, TLS cannot ask for it"))?;
        Ok(Self { config: Arc::new(config), name })
    }

    /// Asks for HTTP/2 instead of HTTP/1.1.
    pub fn speak_http2(&mut self) {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![b"h2".to_vec()];
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
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => Kind::NoHttp2,
        _ => Kind::TlsHandshake,
    }
}

/// Why a handshake failed, as a clause in a user's words. What a server may have put into it is left out.
pub fn reason(error: &rustls::Error) -> String {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    let clause = match error {
        Error::InvalidCertificate(wrong) => match wrong {
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                "nobody who is trusted has signed the server's certificate"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => "the server's certificate has expired",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the server's certificate is for another name"
            }
            Certificate::Revoked => "the server's certificate was revoked",
            _ => "the server's certificate is not valid",
        },
        Error::NoCertificatesPresented => "the server shows no certificate",
        Error::InvalidMessage(_) => "what answers does not speak TLS",
        Error::PeerIncompatible(_) => "the server and the plan have no version of TLS, or no cipher, in common",
        Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => "the server wants a client certificate",
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied => "the server does not accept the client certificate",
            Alert::ProtocolVersion => "the server speaks no version of TLS that the plan allows",
            Alert::HandshakeFailure => {
                "the server breaks the handshake off: a cipher, or a client certificate, is missing"
            }
            Alert::NoApplicationProtocol => "the server does not speak HTTP/1.1 over TLS",
            Alert::UnrecognisedName => "the server does not know the name it is asked for",
            _ => return format!("the server breaks the handshake off: {alert:?}"),
        },
        other => return other.to_string(),
    };
    clause.to_owned()
}

fn versions(texts: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let named = |text: &String| match text.as_str() {
        "1.2" => Ok(&version::TLS12),
        "1.3" => Ok(&version::TLS13),
        other => Err(format!("tls.versions: '{other}' must be 1.2 or 1.3")),
    };
    if texts.is_empty() { Ok(vec![&version::TLS13, &version::TLS12]) } else { texts.iter().map(named).collect() }
}

/// The certificate to show, with those that vouch for it, and its key.
fn shown(certificate: &str, key: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("tls.certificate cannot be read as PEM: {error}"))?;
    if chain.is_empty() {
        return Err("tls.certificate contains no certificate".into());
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("tls.key contains no private key that can be used: {error}"))?;
    Ok((chain, key))
}

fn roots(ca_file: Option<&str>) -> Result<RootCertStore, String> {
    let Some(path) = ca_file else {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let name = format!("ca_file {path}");
    match CertificateDer::pem_file_iter(path) {
        Ok(certificates) => trusted(certificates, &name),
        Err(error) => Err(format!("{name} cannot be read as PEM: {error}")),
    }
}

fn trusted(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
    name: &str,
) -> Result<RootCertStore, String> {
    let read = certificates.collect::<Result<Vec<_>, _>>();
    let certificates = read.map_err(|error| format!("{name} cannot be read as PEM: {error}"))?;
    let mut store = RootCertStore::empty();
    if store.add_parsable_certificates(certificates).0 == 0 {
        return Err(format!("{name} contains no certificate"));
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
