//! TLS: who is trusted, and what a broken handshake is called.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::reading::{MS, Written, open, plan, run};

pub struct Server {
    pub port: u16,
    /// The certificate, to be trusted.
    ca_file: PathBuf,
    handshakes: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A server for `shop.test` that speaks both versions.
pub fn shop() -> Server {
    serve("shop.test", &BOTH, 5, usize::MAX, true)
}

/// A server for `name` that answers with `size` bytes and closes after `most` requests, politely or not.
fn serve(name: &str, versions: &[&'static SupportedProtocolVersion], size: usize, most: usize, polite: bool) -> Server {
    serve_with(named(name), versions, None, size, most, polite)
}

/// A certificate for this name, by an issuer of this name.
fn named(name: &str) -> CertificateParams {
    let mut certificate = CertificateParams::new(vec![name.to_owned()]).unwrap();
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let issuer = format!("{name} {}", NUMBER.fetch_add(1, Ordering::SeqCst));
    certificate.distinguished_name.push(DnType::CommonName, issuer);
    certificate
}

/// The same with a certificate that a test has made, to clients who show one that `clients` has signed.
fn serve_with(
    certificate: CertificateParams,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<CertificateDer<'static>>,
    size: usize,
    most: usize,
    polite: bool,
) -> Server {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let (config, pem) = server_config(certificate, versions, clients);
    let ca_file = std::env::temp_dir().join(format!(
        "surgeline-{}-{}.pem",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::SeqCst)
    ));
    std::fs::write(&ca_file, pem).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let new = Arc::<AtomicUsize>::default;
    let server = Server { port, ca_file, handshakes: new(), resumed: new(), requests: new() };
    let counts = (server.handshakes.clone(), server.resumed.clone(), server.requests.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, counts) = (config.clone(), counts.clone());
            thread::spawn(move || talk(stream, config, &counts, size, most, polite));
        }
    });
    server
}

/// What a server with this certificate needs, and the certificate.
fn server_config(
    certificate: CertificateParams,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<CertificateDer<'static>>,
) -> (ServerConfig, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(signer) => {
            let mut roots = RootCertStore::empty();
            roots.add(signer).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    (builder.with_single_cert(vec![certificate.der().clone()], key).unwrap(), certificate.pem())
}

type Counts = (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>);

fn talk(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    (handshakes, resumed, requests): &Counts,
    size: usize,
    most: usize,
    polite: bool,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut tls = rustls::StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    let mut unread = Vec::new();
    let mut buffer = [0; 4096];
    for number in 0..most {
        while !unread.windows(4).any(|window| window == b"\r\n\r\n") {
            let Some(size) = tls.read(&mut buffer).ok().filter(|size| *size > 0) else {
                // A socket that is closed with something unread is reset, and an alert may be lost with it.
                let _ = tls.sock.shutdown(std::net::Shutdown::Write);
                let _ = tls.sock.read_to_end(&mut Vec::new());
                return None;
            };
            unread.extend_from_slice(&buffer[..size]);
        }
        unread.clear();
        handshakes.fetch_add(usize::from(number == 0), Ordering::SeqCst);
        let again = tls.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        resumed.fetch_add(usize::from(number == 0 && again), Ordering::SeqCst);
        requests.fetch_add(1, Ordering::SeqCst);
        let head = format!("HTTP/1.1 200 x\r\nContent-Length: {size}\r\n\r\n");
        tls.write_all(&[head.as_bytes(), &vec![b't'; size]].concat()).ok()?;
        tls.flush().ok()?;
    }
    if polite {
        tls.conn.send_close_notify();
        tls.flush().ok()?;
    }
    Some(())
}

pub fn target(plan: &mut Value, server: &Server, sni: &str) {
    plan["target"]["scheme"] = json!("https");
    plan["target"]["sni"] = json!(sni);
    plan["target"]["ca_file"] = json!(server.ca_file);
    plan["target"]["port"] = json!(server.port);
}

fn run_for(server: &Server, change: impl Fn(&mut Value)) -> Written {
    let mut plan = plan(server.port, "/", 100);
    target(&mut plan, server, "shop.test");
    change(&mut plan);
    run(&plan)
}

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Connections are kept, bytes are those of HTTP, and the handshake has a phase of its own, in both versions.
#[test]
fn https_is_http_inside() {
    for version in BOTH {
        for size in [5, 300_000] {
            let server = serve("shop.test", &[version], size, usize::MAX, true);
            let written = run_for(&server, |_| {});
            assert_eq!(written.only_error(), "");
            assert!(written.rows.len() > 3, "{}", written.rows.len());
            assert_eq!(server.handshakes.load(Ordering::SeqCst), 1);
            assert_eq!(server.requests.load(Ordering::SeqCst), written.rows.len());
            let first = &written.rows[0];
            assert!(first["connect_ns"].int() > 0 && first["tls_ns"].int() > 100_000, "{first:?}");
            assert_eq!(written.rows[1]["tls_ns"].int(), -1);
            let head = format!("HTTP/1.1 200 x\r\nContent-Length: {size}\r\n\r\n").len() + size;
            assert!(written.rows.iter().all(|row| row["bytes_in"].int() == head as i64));
            assert!(first["url"].text().starts_with("https://"));
        }
    }
}

/// Only who is trusted is talked to: another name and an unknown issuer are refused, unless the user says otherwise.
#[test]
fn certificates_are_verified() {
    let server = serve("shop.test", &BOTH, 5, usize::MAX, true);
    let wrong_name = run_for(&server, |plan| plan["target"]["sni"] = json!("other.test"));
    assert_eq!(wrong_name.only_error(), "tls_certificate");
    let unknown = serve("shop.test", &BOTH, 5, usize::MAX, true);
    let untrusted = run_for(&server, |plan| plan["target"]["ca_file"] = json!(unknown.ca_file));
    assert_eq!(untrusted.only_error(), "tls_certificate");
    assert!(untrusted.rows.iter().all(|row| row["tls_ns"].int() > 0 && row["send_ns"].int() == -1));
    assert_eq!(server.requests.load(Ordering::SeqCst), 0);
    let insecure = run_for(&server, |plan| {
        plan["target"]["ca_file"] = Value::Null;
        plan["target"]["insecure"] = json!(true);
    });
    assert_eq!(insecure.only_error(), "");
}

/// What is not TLS, breaks off, or stalls is a matter of the handshake.
#[test]
fn broken_handshakes() {
    let bytes = |bytes: &'static [u8], stall: bool| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(bytes);
                if stall {
                    thread::spawn(move || stream.read_to_end(&mut Vec::new()));
                }
            }
        });
        port
    };
    let trusted = serve("shop.test", &BOTH, 5, 1, true);
    for (port, kind) in [
        (bytes(b"HTTP/1.1 400 x\r\n\r\n", false), "tls_handshake"),
        (bytes(b"", false), "tls_handshake"),
        (bytes(b"\x15\x03\x03\x00\x02\x02\x28", false), "tls_handshake"),
        (bytes(b"", true), "connect_timeout"),
    ] {
        let written = run_for(&trusted, |plan| {
            plan["target"]["port"] = json!(port);
            plan["workload"] = open(5, 50);
            plan["timeout_ns"] = json!(if kind == "connect_timeout" { 150 } else { 3_000 } * MS);
        });
        assert_eq!(written.only_error(), kind);
        assert!(written.rows.iter().all(|row| row["tls_ns"].int() >= 0 && row["wait_ns"].int() == -1));
    }
}

/// A server that closes after each answer costs a handshake each time, resumed or not, and no error.
#[test]
fn closed_sessions_are_opened_again() {
    for polite in [true, false] {
        let server = serve("shop.test", &BOTH, 5, 1, polite);
        let written = run_for(&server, |plan| plan["scenarios"][0]["think_time_ns"] = json!([10 * MS, 10 * MS]));
        assert_eq!(written.only_error(), "");
        assert_eq!(server.handshakes.load(Ordering::SeqCst), written.rows.len());
    }
}

/// A file that holds no certificate is the plan's fault, said before anything is sent.
#[test]
fn unusable_certificates_are_refused() {
    let server = serve("shop.test", &BOTH, 5, 1, true);
    let empty = std::env::temp_dir().join(format!("surgeline-{}-empty.pem", std::process::id()));
    std::fs::write(&empty, "nothing").unwrap();
    for path in [&empty, &PathBuf::from("/nowhere.pem")] {
        let mut plan = plan(server.port, "/", 10);
        target(&mut plan, &server, "shop.test");
        plan["target"]["ca_file"] = json!(path);
        let error = surgeline_engine::run::Running::start(&plan.to_string()).err().expect("refused");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

/// A later connection resumes the session of an earlier one, in both versions, unless the plan does not want that.
#[test]
fn sessions_are_resumed() {
    for version in BOTH {
        for wanted in [true, false] {
            let server = serve("shop.test", &[version], 5, 1, true);
            let written = run_for(&server, |plan| {
                plan["scenarios"][0]["think_time_ns"] = json!([5 * MS, 5 * MS]);
                plan["tls"] = json!({"resumption": wanted});
            });
            assert_eq!(written.only_error(), "");
            let (all, resumed) = (server.handshakes.load(Ordering::SeqCst), server.resumed.load(Ordering::SeqCst));
            assert!(all >= 2, "{all}");
            assert_eq!(resumed, if wanted { all - 1 } else { 0 }, "{version:?}");
        }
    }
}

/// A version that only one side speaks is none; the plan's choice is held to.
#[test]
fn versions_are_chosen() {
    let [tls13, tls12] = BOTH;
    for (server, wanted, error) in [
        (tls12, json!(["1.2"]), ""),
        (tls13, json!(["1.3"]), ""),
        (tls12, json!(["1.3"]), "tls_handshake"),
        (tls13, json!(["1.2"]), "tls_handshake"),
    ] {
        let server = serve("shop.test", &[server], 5, usize::MAX, true);
        let written = run_for(&server, |plan| {
            plan["workload"] = open(5, 50);
            plan["tls"] = json!({"versions": wanted});
        });
        assert_eq!(written.only_error(), error);
        assert_eq!(note(&written).contains("version"), !error.is_empty(), "{}", note(&written));
    }
}

/// The one note of a run; empty without one.
fn note(written: &Written) -> String {
    let notes: Vec<&str> = written.events.iter().filter_map(|event| event["reason"].as_str()).collect();
    assert!(notes.len() <= 1, "{notes:?}");
    notes.concat()
}

/// A client certificate is shown to a server that asks for one; without it, or with another's, the handshake fails, also
/// where the server says so only after the client's last word, as in TLS 1.3.
#[test]
fn clients_show_their_certificate() {
    let sign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        (named(name).self_signed(&key).unwrap(), key.serialize_pem())
    };
    let (known, key) = sign("client.test");
    let (unknown, other_key) = sign("other.test");
    let together = json!({"certificate": known.pem() + &key});
    for version in BOTH {
        let server = serve_with(named("shop.test"), &[version], Some(known.der().clone()), 5, usize::MAX, true);
        for (tls, error) in [
            (json!({"certificate": known.pem(), "key": key}), ""),
            (together.clone(), ""),
            (json!({}), "tls_handshake"),
            (json!({"certificate": unknown.pem(), "key": other_key}), "tls_handshake"),
        ] {
            let written = run_for(&server, |plan| {
                plan["workload"] = open(5, 50);
                plan["tls"] = tls.clone();
            });
            assert_eq!(written.only_error(), error, "{version:?} {tls}");
            assert_eq!(note(&written).contains("certificate"), !error.is_empty(), "{}", note(&written));
        }
        assert!(server.requests.load(Ordering::SeqCst) == 10, "{}", server.requests.load(Ordering::SeqCst));
    }
    let mut wrong = plan(1, "/", 10);
    target(&mut wrong, &shop(), "shop.test");
    for (tls, said) in [
        (json!({"certificate": known.pem(), "key": other_key}), "do not go together"),
        (json!({"certificate": known.pem(), "key": "nothing"}), "tls.key"),
        (json!({"certificate": "nothing", "key": key}), "tls.certificate"),
        (json!({"ca": "nothing"}), "tls.ca"),
    ] {
        wrong["tls"] = tls;
        let error = surgeline_engine::run::Running::start(&wrong.to_string()).err().expect("refused");
        assert!(error.contains(said), "{error}");
    }
}

/// What is wrong with a certificate is told once in a run, in words.
#[test]
fn the_reason_is_told() {
    let mut expired = named("shop.test");
    expired.not_before = rcgen::date_time_ymd(2001, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let server = serve_with(expired, &BOTH, None, 5, usize::MAX, true);
    let written = run_for(&server, |plan| plan["workload"] = open(9, 90));
    assert_eq!(written.only_error(), "tls_certificate");
    assert_eq!(note(&written), "the server's certificate has expired");
    let server = shop();
    let wrong_name = run_for(&server, |plan| plan["target"]["sni"] = json!("other.test"));
    assert_eq!(note(&wrong_name), "the server's certificate is for another name");
    let untrusted =
        run_for(&server, |plan| plan["tls"] = json!({"ca": std::fs::read_to_string(shop().ca_file).unwrap()}));
    assert_eq!(untrusted.only_error(), "tls_certificate");
    assert_eq!(note(&untrusted), "nobody who is trusted has signed the server's certificate");
    let (port, _) = crate::server::serve(|_| vec![]);
    let plain = run_for(&server, |plan| {
        plan["target"]["port"] = json!(port);
        plan["workload"] = open(3, 30);
        plan["timeout_ns"] = json!(300 * MS);
    });
    assert_eq!(plain.only_error(), "connect_timeout");
}

/// A server that refuses the client's certificate and hangs up at once, with the request unread, resets the connection
/// behind its alert: that is still a matter of TLS, with HTTP/1.1 and with HTTP/2.
#[test]
fn an_alert_is_read_before_the_reset_behind_it() {
    let key = KeyPair::generate().unwrap();
    let known = named("client.test").self_signed(&key).unwrap();
    let mut config = server_config(named("shop.test"), &BOTH, Some(known.der().clone())).0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let config = config.clone();
            thread::spawn(move || {
                let mut tls = ServerConnection::new(config).ok()?;
                while tls.is_handshaking() {
                    if tls.complete_io(&mut stream).is_err() {
                        break;
                    }
                }
                // The alert is on its way; so, perhaps, is the request, which nobody reads.
                thread::sleep(std::time::Duration::from_millis(5));
                rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).ok()
            });
        }
    });
    for streams in [0, 10] {
        let mut plan = plan(port, "/", 10);
        plan["target"]["scheme"] = json!("https");
        plan["target"]["sni"] = json!("shop.test");
        plan["target"]["insecure"] = json!(true);
        plan["connection"] = json!({"streams": streams});
        plan["workload"] = open(40, 120);
        let written = run(&plan);
        assert_eq!(written.only_error(), "tls_handshake", "{streams} streams");
        assert!(note(&written).contains("certificate"), "{}", note(&written));
    }
}
