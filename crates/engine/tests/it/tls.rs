//! TLS: who is trusted, and what a broken handshake is called.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use serde_json::{Value, json};

use crate::reading::{MS, Written, open, plan, run};

struct Server {
    port: u16,
    /// The certificate, to be trusted.
    ca_file: PathBuf,
    handshakes: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

/// A server for `name` that answers with `size` bytes and closes after `most` requests, politely or not.
fn serve(name: &str, versions: &[&'static SupportedProtocolVersion], size: usize, most: usize, polite: bool) -> Server {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let ca_file = std::env::temp_dir().join(format!(
        "surgeline-{}-{}.pem",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::SeqCst)
    ));
    std::fs::write(&ca_file, certificate.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (handshakes, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let server = Server { port, ca_file, handshakes: handshakes.clone(), requests: requests.clone() };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, handshakes, requests) = (config.clone(), handshakes.clone(), requests.clone());
            thread::spawn(move || talk(stream, config, &handshakes, &requests, size, most, polite));
        }
    });
    server
}

fn talk(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    handshakes: &AtomicUsize,
    requests: &AtomicUsize,
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
            let size = tls.read(&mut buffer).ok().filter(|size| *size > 0)?;
            unread.extend_from_slice(&buffer[..size]);
        }
        unread.clear();
        handshakes.fetch_add(usize::from(number == 0), Ordering::SeqCst);
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

fn target(plan: &mut Value, server: &Server, sni: &str) {
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
