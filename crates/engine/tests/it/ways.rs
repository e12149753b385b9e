//! Connections: how many requests each serves, who keeps it, and which way it goes.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use surgeline_engine::run::Running;

use crate::reading::{MS, open, plan, run};
use crate::server::{answer, ok, serve};

/// A closed load of so many users.
fn users(count: i64, ms: i64) -> Value {
    json!({"model": "closed", "stages": [{"duration_ns": ms * MS, "from": count, "to": count}]})
}

/// Reads a head; None at the end.
fn head(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).ok()
}

/// Where nothing is said, a connection serves for ever; with a number, so many requests and then a new one does.
#[test]
fn a_connection_serves_as_often_as_the_plan_says() {
    for (most, per_connection) in [(None, usize::MAX), (Some(1), 1), (Some(3), 3)] {
        let (port, ledger) = serve(|_| vec![ok("x")]);
        let mut plan = plan(port, "/", 150);
        plan["scenarios"][0]["think_time_ns"] = json!([5 * MS, 5 * MS]);
        plan["connection"] = json!({"requests": most});
        let written = run(&plan);
        assert_eq!(written.only_error(), "");
        let requests = written.rows.len();
        assert_eq!(ledger.requests(), requests);
        assert_eq!(ledger.connections(), requests.div_ceil(per_connection.min(requests)));
        let fresh = written.rows.iter().filter(|row| row["connect_ns"].int() >= 0).count();
        assert_eq!(fresh, ledger.connections(), "each new connection has its connect phase");
    }
}

/// Users of one pool have as few connections as they have requests in flight; arrivals that keep their own have one each,
/// and close it when they leave.
#[test]
fn connections_belong_to_a_pool_or_to_their_user() {
    let (port, ledger) = serve(|_| vec![ok("x")]);
    let mut pooled = plan(port, "/", 300);
    pooled["workload"] = users(20, 300);
    pooled["scenarios"][0]["think_time_ns"] = json!([50 * MS, 60 * MS]);
    pooled["connection"] = json!({"share": "pool"});
    let written = run(&pooled);
    assert_eq!(written.only_error(), "");
    assert!(written.rows.len() > 60);
    // All 20 begin at once; afterwards they come one by one and take what was used last.
    let reused = written.rows.iter().skip(20).filter(|row| row["reused"].int() == 1).count();
    assert!(ledger.connections() <= 20 && reused >= written.rows.len() - 25, "{}", ledger.connections());

    let (port, ledger) = serve(|_| vec![ok("x")]);
    let mut own = plan(port, "/", 10);
    own["workload"] = open(30, 300);
    let step = own["scenarios"][0]["steps"][0].clone();
    own["scenarios"][0]["steps"] = json!([step, step]);
    own["connection"] = json!({"share": "user"});
    let written = run(&own);
    assert_eq!(written.only_error(), "");
    assert!(written.rows.len() > 55, "the last may end before its second step is due");
    assert_eq!(ledger.connections(), 30, "an arrival's second step goes over its own connection");
    assert!(written.reading("connections").iter().all(|open| *open <= 3.0), "they are closed when their user leaves");
}

/// As many requests are in flight as the plan allows, whoever sends them: what could not be sent is a sample.
#[test]
fn users_are_bounded_in_flight_too() {
    let (port, ledger) = serve(|_| vec![crate::server::Act::Pause(40), ok("x")]);
    let mut plan = plan(port, "/", 400);
    plan["workload"] = users(6, 400);
    plan["max_in_flight"] = json!(4);
    let written = run(&plan);
    assert_eq!(ledger.most_busy.load(Ordering::SeqCst), 4);
    let errors = written.errors();
    assert!(errors["in_flight_limit"] >= 2 && errors["in_flight_limit"] < 30, "a refused user waits: {errors:?}");
    assert_eq!(errors.len(), 2, "{errors:?}");
}

/// No more connections are opened than the process has descriptors for: what finds none is not sent, and is nobody's
/// error but the generator's.
#[test]
fn descriptors_are_left_for_others() {
    let (port, ledger) = serve(|_| vec![ok("x")]);
    let mut plan = plan(port, "/", 200);
    plan["workload"] = users(6, 200);
    plan["scenarios"][0]["think_time_ns"] = json!([5 * MS, 5 * MS]);
    plan["connection"] = json!({"most_open": 4});
    let written = run(&plan);
    assert_eq!(ledger.connections(), 4);
    let errors = written.errors();
    assert!(errors.len() == 2 && (2..20).contains(&errors["client_fds"]), "{errors:?}");
    assert_eq!(written.outcomes()[&4] as usize, errors["client_fds"]);
}

/// What an HTTP proxy is asked, and what became of it: absolute form for http, with its password and the cookies and
/// redirects of a plan, and the URL in the rows is the target's.
#[test]
fn http_goes_through_a_proxy_in_absolute_form() {
    let (port, ledger) = serve(|incoming| match incoming.path.as_str() {
        "http://shop.test:81/a" => vec![answer(302, "Location: /b\r\nSet-Cookie: k=v\r\n", "")],
        "http://shop.test:81/b" | "http://shop.test:81/c/1" => vec![ok("x")],
        _ => vec![answer(500, "", "")],
    });
    let mut plan = plan(port, "/a", 10);
    plan["target"] = json!({
        "scheme": "http", "host": "shop.test", "port": 81, "host_header": "shop.test:81", "addresses": [],
        "sni": null, "insecure": false, "ca_file": null
    });
    plan["headers"] = json!([["Proxy-Authorization", "Basic c2VjcmV0"]]);
    plan["connection"] =
        json!({"proxy": {"addresses": ["127.0.0.1"], "port": port, "authorization": "Basic c2VjcmV0"}});
    let step = |path: &str| json!({"endpoint": 0, "method": "GET", "path": path});
    plan["scenarios"][0]["steps"] = json!([step("/a"), step("/c/{{int(1,1)}}")]);
    plan["workload"] = open(5, 50);
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    let heads = ledger.heads.lock().unwrap();
    assert!(heads.iter().all(|head| head.contains("Host: shop.test:81\r\n") && head.contains("Basic c2VjcmV0")));
    assert!(heads.iter().filter(|head| head.contains("/b ")).all(|head| head.contains("Cookie: k=v")));
    assert_eq!(heads.len() as i64, written.count("sent") + written.count("hops"));
    let urls: BTreeSet<&str> = written.rows.iter().map(|row| row["url"].text()).collect();
    assert_eq!(urls, BTreeSet::from(["http://shop.test:81/a", "http://shop.test:81/c/1"]));
    assert!(!written.exchanges.iter().any(|kept| kept.to_string().contains("c2VjcmV0")), "a password is not evidence");
}

/// A proxy that answers CONNECT, in pieces, and then carries bytes to `to`; what it was asked.
pub fn tunnel_proxy(answer: &'static [&'static str], to: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            let seen = seen.clone();
            thread::spawn(move || {
                seen.lock().unwrap().push(head(&mut near)?);
                for piece in answer {
                    near.write_all(piece.as_bytes()).ok()?;
                    thread::sleep(Duration::from_millis(5));
                }
                let mut far = TcpStream::connect(("127.0.0.1", to)).ok()?;
                let (mut from, mut into) = (near.try_clone().ok()?, far.try_clone().ok()?);
                thread::spawn(move || std::io::copy(&mut from, &mut into));
                std::io::copy(&mut far, &mut near).ok()
            });
        }
    });
    (port, asked)
}

/// https goes through CONNECT: asked once per connection, with the password, and the time is in the connect phase.
#[test]
fn https_goes_through_a_tunnel() {
    let server = crate::tls::shop();
    let opened: &[&str] = &["HTTP/1.1 100 wait\r\n\r\n", "HTTP/1.1 200 Connection est", "ablished\r\nX: y\r\n\r\n"];
    let (port, asked) = tunnel_proxy(opened, server.port);
    let mut plan = plan(server.port, "/", 150);
    crate::tls::target(&mut plan, &server, "shop.test");
    plan["target"]["addresses"] = json!([]);
    plan["target"]["host"] = json!("shop.test");
    plan["connection"] = json!({"proxy": {"addresses": ["127.0.0.1"], "port": port, "authorization": "Basic dTpw"}});
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    assert!(written.rows.len() > 5);
    let asked = asked.lock().unwrap();
    let wanted = format!("CONNECT shop.test:{0} HTTP/1.1\r\nHost: shop.test:{0}\r\n", server.port);
    assert_eq!(*asked, [format!("{wanted}Proxy-Authorization: Basic dTpw\r\n\r\n")]);
    let first = &written.rows[0];
    assert!(first["connect_ns"].int() > 10 * MS && first["tls_ns"].int() > 0, "{first:?}");
}

/// A proxy that does not open the way is an outcome of its own, and the run says what the proxy said.
#[test]
fn a_proxy_may_refuse() {
    let server = crate::tls::shop();
    for (answer, said) in [
        (&["HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"][..], "answered 407"),
        (&["HTTP/1.1 502 no\r\n\r\nbody"], "answered 502"),
        (&["HTTP/1.1 200 ok\r\n\r\nunasked"], "answered 200"),
        (&["SSH-2.0-OpenSSH_9.2\r\n"], "not HTTP"),
        (&[], "closed the connection"),
    ] {
        let (port, _) = tunnel_proxy(answer, 1);
        let mut plan = plan(server.port, "/", 10);
        crate::tls::target(&mut plan, &server, "shop.test");
        plan["connection"] = json!({"proxy": {"addresses": ["127.0.0.1"], "port": port}});
        plan["workload"] = open(5, 50);
        let written = run(&plan);
        assert_eq!(written.only_error(), "proxy_refused");
        assert!(written.rows.iter().all(|row| row["connect_ns"].int() > 0 && row["tls_ns"].int() == -1));
        let notes: Vec<&str> = written.events.iter().filter_map(|event| event["reason"].as_str()).collect();
        assert!(notes.len() == 1 && notes[0].contains(said), "{notes:?}");
    }
}

fn socket_path() -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    std::env::temp_dir().join(format!("surgeline-{}-{number}.sock", std::process::id()))
}

fn over_socket(path: &PathBuf, ms: i64) -> Value {
    let mut plan = plan(80, "/", ms);
    plan["target"]["host"] = json!("app.local");
    plan["target"]["host_header"] = json!("app.local");
    plan["target"]["addresses"] = json!([]);
    plan["connection"] = json!({"unix_socket": path});
    plan
}

/// A Unix socket carries the same requests; a path without a listener is one that refuses.
#[test]
fn unix_sockets_carry_requests() {
    let path = socket_path();
    let listener = UnixListener::bind(&path).unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some(head) = head(&mut stream) {
                seen.lock().unwrap().push(head);
                stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\nx").unwrap();
            }
        }
    });
    let written = run(&over_socket(&path, 100));
    assert_eq!(written.only_error(), "");
    assert_eq!(written.rows.len(), heads.lock().unwrap().len());
    assert!(heads.lock().unwrap().iter().all(|head| head.contains("Host: app.local\r\n")));
    assert_eq!(written.rows.iter().filter(|row| row["connect_ns"].int() >= 0).count(), 1);
    std::fs::remove_file(&path).unwrap();
    let mut gone = over_socket(&path, 10);
    gone["workload"] = open(5, 50);
    assert_eq!(run(&gone).only_error(), "connect_refused");
}

/// Where the listener's queue is full, connections wait for room, as they do over TCP, and not longer than their timeout.
#[test]
fn a_full_queue_is_waited_for() {
    for room_comes in [true, false] {
        let path = socket_path();
        let listener = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
        let listener = listener.unwrap();
        rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = UnixStream::connect(&path).unwrap();
        let listener = UnixListener::from(listener);
        if room_comes {
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                let _held = listener.accept();
                for mut stream in listener.incoming().flatten() {
                    thread::spawn(move || {
                        head(&mut stream)?;
                        stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()
                    });
                }
            });
        }
        let mut plan = over_socket(&path, 10);
        plan["workload"] = open(4, 20);
        plan["timeout_ns"] = json!(if room_comes { 2_000 } else { 120 } * MS);
        let written = run(&plan);
        assert_eq!(written.only_error(), if room_comes { "" } else { "connect_timeout" });
        let connect = written.column("connect_ns");
        assert!(connect.iter().all(|ns| (20 * MS..2_000 * MS).contains(ns)), "{connect:?}");
        drop(first);
        std::fs::remove_file(&path).unwrap();
    }
}

/// What a server remembers: its port, from where it was asked, and what.
type Remembering = (u16, Arc<Mutex<BTreeSet<String>>>, Arc<Mutex<Vec<String>>>);

/// A server on `address` that answers everything.
fn remembering(address: &str) -> Option<Remembering> {
    let listener = TcpListener::bind((address, 0)).ok()?;
    let port = listener.local_addr().unwrap().port();
    let (from, heads) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(Mutex::new(Vec::new())));
    let (seen, told) = (from.clone(), heads.clone());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (seen, told) = (seen.clone(), told.clone());
            thread::spawn(move || {
                seen.lock().unwrap().insert(stream.peer_addr().ok()?.ip().to_string());
                while let Some(head) = head(&mut stream) {
                    told.lock().unwrap().push(head);
                    stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n").ok()?;
                }
                Some(())
            });
        }
    });
    Some((port, from, heads))
}

/// Connections begin from each source address in turn.
#[test]
fn connections_begin_from_the_source_addresses() {
    let (port, from, _) = remembering("127.0.0.1").unwrap();
    let mut plan = plan(port, "/", 60);
    plan["workload"] = users(6, 60);
    plan["connection"] = json!({"source_addresses": ["127.0.0.2", "127.0.0.3", "127.0.0.77"]});
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    let from = from.lock().unwrap();
    assert_eq!(*from, BTreeSet::from(["127.0.0.2", "127.0.0.3", "127.0.0.77"].map(str::to_owned)));
}

/// An address that is not this machine's, or of another family than the target's, is the plan's fault.
#[test]
fn source_addresses_are_checked_first() {
    for (source, said) in [("192.0.2.7", "cannot begin from 192.0.2.7"), ("::1", "127.0.0.1 needs")] {
        let mut plan = plan(9, "/", 10);
        plan["connection"] = json!({"source_addresses": [source]});
        let error = Running::start(&plan.to_string()).err().expect("refused");
        assert!(error.contains(said), "{error}");
    }
}

/// IPv6 goes the same way, with the address in brackets wherever a host and a port stand together.
#[test]
fn ipv6_is_spoken() {
    let Some((port, from, heads)) = remembering("::1") else {
        eprintln!("skipped: this machine has no ::1");
        return;
    };
    let mut plan = plan(port, "/", 50);
    plan["target"]["host"] = json!("::1");
    plan["target"]["host_header"] = json!(format!("[::1]:{port}"));
    plan["target"]["addresses"] = json!(["::1"]);
    plan["connection"] = json!({"source_addresses": ["::1"]});
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    assert_eq!(*from.lock().unwrap(), BTreeSet::from(["::1".to_owned()]));
    assert!(heads.lock().unwrap()[0].contains(&format!("Host: [::1]:{port}\r\n")));
    assert_eq!(written.rows[0]["url"].text(), format!("http://[::1]:{port}/"));
}

/// Addresses of a name are taken in turn.
#[test]
fn addresses_are_taken_in_turn() {
    let (port, _, first) = remembering("127.0.0.1").unwrap();
    let second = TcpListener::bind(SocketAddr::from(([127, 0, 0, 5], port))).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        for mut stream in second.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                while head(&mut stream).is_some() {
                    stream.write_all(b"HTTP/1.1 200 x\r\nContent-Length: 0\r\n\r\n").ok()?;
                }
                Some(())
            });
        }
    });
    let mut plan = plan(port, "/", 60);
    plan["workload"] = users(6, 60);
    plan["target"]["addresses"] = json!(["127.0.0.1", "127.0.0.5"]);
    assert_eq!(run(&plan).only_error(), "");
    assert_eq!(count.load(Ordering::SeqCst), 3);
    assert!(!first.lock().unwrap().is_empty());
}
