//! Answers of all kinds, good and bad, become outcomes of their own kind; the run goes on.

use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde_json::{Value, json};

use crate::reading::{MS, Written, open, plan, run, run_until};
use crate::server::{Act, Incoming, Ledger, answer, ok, serve, text};

/// `count` requests, spread over 60 ms, to a server that follows `script`; a request for `/good` after each bad one
/// must come through unharmed.
fn against(
    count: i64,
    script: impl Fn(&Incoming) -> Vec<Act> + Send + Sync + 'static,
) -> (Written, std::sync::Arc<Ledger>) {
    let (port, ledger) = serve(script);
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(count, 60);
    plan["timeout_ns"] = json!(3_000 * MS);
    (run(&plan), ledger)
}

fn kind_of(script: impl Fn(&Incoming) -> Vec<Act> + Send + Sync + 'static) -> String {
    let (written, ledger) = against(20, script);
    assert_eq!((written.rows.len(), ledger.requests()), (20, 20));
    written.only_error().to_owned()
}

fn raw(bytes: &'static str) -> impl Fn(&Incoming) -> Vec<Act> + Send + Sync {
    move |_| vec![text(bytes), Act::Close]
}

/// One connection serves all requests of a closed user, and only the first row is not marked reused.
#[test]
fn keep_alive_reuses_the_connection() {
    let (port, ledger) = serve(|_| vec![ok("hello")]);
    let written = run_until(&plan(port, "/x", 0), || ledger.requests() > 50);
    assert_eq!((written.only_error(), ledger.connections()), ("", 1));
    assert_eq!(written.rows.len(), ledger.requests());
    let reused = written.column("reused");
    assert_eq!((reused[0], reused[1..].iter().sum::<i64>()), (0, reused.len() as i64 - 1));
    assert!(written.rows[0]["connect_ns"].int() > 0 && written.rows[1]["connect_ns"].int() == -1);
    assert!(written.rows.iter().all(|row| row["dns_ns"].int() == -1), "no request looks a name up");
    let row = &written.rows[1];
    assert_eq!(row["url"].text(), format!("http://127.0.0.1:{port}/x"));
    assert_eq!((row["protocol"].text(), row["method"].text(), row["status"].int()), ("HTTP/1.1", "GET", 200));
    let sent = ledger.heads.lock().unwrap()[1].len() as i64;
    assert_eq!(
        (row["bytes_out"].int(), row["bytes_in"].int()),
        (sent, "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhello".len() as i64)
    );
}

/// A chunked body comes through whole however it is cut, and the connection is kept.
#[test]
fn chunked_bodies_are_read_however_they_are_cut() {
    let whole =
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n6\r\n world\r\n0\r\nT: x\r\n\r\n";
    let (port, ledger) = serve(move |incoming| {
        let cut = 1 + incoming.nth * 7 % (whole.len() - 2);
        vec![text(&whole[..cut]), Act::Pause(1), text(&whole[cut..])]
    });
    let mut plan = plan(port, "/", 0);
    plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["hello world"]});
    let written = run_until(&plan, || ledger.requests() > whole.len());
    assert_eq!((written.only_error(), ledger.connections()), ("", 1));
    assert!(written.rows.iter().all(|row| row["bytes_in"].int() == whole.len() as i64));
}

/// A body that ends with the connection is whole; the next request takes a new connection.
#[test]
fn a_body_may_end_with_the_connection() {
    let (written, ledger) = against(10, raw("HTTP/1.0 200 x\r\n\r\nhello"));
    assert_eq!((written.only_error(), ledger.connections()), ("", 10));
    assert!(written.rows.iter().all(|row| row["protocol"].text() == "HTTP/1.0" && row["bytes_in"].int() == 23));
}

/// Resets have a kind by how far the answer had come.
#[test]
fn resets_are_told_apart() {
    assert_eq!(kind_of(|_| vec![Act::Reset]), "reset_before_headers");
    assert_eq!(kind_of(|_| vec![text("H"), Act::Pause(2), Act::Reset]), "reset_before_headers");
    let half = "HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\nhello";
    assert_eq!(kind_of(move |_| vec![text(half), Act::Pause(2), Act::Reset]), "reset_mid_body");
    assert_eq!(kind_of(|_| vec![Act::Close]), "reset_before_headers");
    assert_eq!(kind_of(raw("HTTP/1.1 200 x\r\nContent-Le")), "short_head");
}

/// Bytes behind a whole answer are noticed, whether they come with it or later, and cost their connection; the answer
/// stays what it was. The word that a server waited long enough for a request is no such bytes.
#[test]
fn surplus_bytes_are_noticed() {
    let right = "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhello";
    for (surplus, pause, noticed) in [
        ("world", 0, true),
        (right, 0, true),
        ("world", 5, true),
        ("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", 5, false),
    ] {
        let (port, ledger) = serve(move |_| match pause {
            0 => vec![Act::Send([right, surplus].concat().into_bytes())],
            _ => vec![text(right), Act::Pause(pause), text(surplus)],
        });
        let mut plan = plan(port, "/", 700);
        plan["scenarios"][0]["think_time_ns"] = json!([150 * MS, 150 * MS]);
        plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["hello"]});
        let written = run(&plan);
        written.check();
        assert_eq!((written.only_error(), ledger.connections()), ("", ledger.requests()), "{surplus}");
        let counted: f64 = written.reading("surplus_answers").iter().sum();
        let notes = written.events.iter().filter(|event| event["kind"] == "note").count();
        assert_eq!((counted > 0.0, notes), (noticed, usize::from(noticed)), "{surplus} {pause}");
        // What comes behind the last answer may come behind the end of the run.
        let rows = written.rows.len() as f64;
        assert!(!noticed || (rows - 1.0..=rows).contains(&counted), "{counted} of {rows}");
    }
}

/// Bytes too many that come only when the next request is on its way are told apart from an answer that is none: they
/// came on a connection that had served before, and do not begin as an answer does.
#[test]
fn late_surplus_has_a_kind_of_its_own() {
    let right = "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\nhello";
    let (port, _) = serve(move |_| vec![text(right), Act::Pause(3), text("world")]);
    let written = run(&plan(port, "/", 300));
    written.check();
    assert!(written.errors().keys().eq(["", "surplus"].iter()), "{:?}", written.errors());
    assert_eq!(kind_of(raw("world")), "invalid_http", "the first answer of a connection");
    let (port, _) = serve(|asked| match asked.nth {
        0 => vec![text("HTTP/1.1 204 x\r\n\r\n")],
        _ => vec![text("HTTP/1.1 x\r\n\r\n"), Act::Close],
    });
    let written = run(&plan(port, "/", 300));
    assert!(written.errors().keys().eq(["", "invalid_http"].iter()), "an answer, though a broken one");
}

/// Several answers that end at one moment keep their heads until each has been told, though users go on in between.
#[test]
fn answers_that_end_together_are_kept_apart() {
    let (port, _) = serve(|incoming| {
        let head = format!("HTTP/1.1 200 x\r\nServer-Timing: nth;dur={}\r\nContent-Length: 9\r\n\r\nhal", incoming.nth);
        vec![Act::Send(head.into_bytes()), Act::Stall]
    });
    let mut plan = plan(port, "/", 1_200);
    plan["workload"]["stages"][0]["from"] = json!(60);
    plan["workload"]["stages"][0]["to"] = json!(60);
    plan["timeout_ns"] = json!(400 * MS);
    let written = run(&plan);
    written.check();
    let slow = written.rows.iter().filter(|row| row["error"].text() == "body_timeout");
    assert!(slow.clone().count() > 100, "{:?}", written.errors());
    assert!(slow.clone().all(|row| row["server_timing"].text() == "nth;dur=0"), "each connection served one");
}

/// A connection that dies on its second request was stale: nothing is sent twice, and a new one is used afterwards.
#[test]
fn a_stale_connection_is_not_retried() {
    let (port, ledger) = serve(|incoming| if incoming.nth == 0 { vec![ok("")] } else { vec![Act::Reset] });
    let mut plan = plan(port, "/", 200);
    plan["scenarios"][0]["think_time_ns"] = json!([5 * MS, 5 * MS]);
    let written = run(&plan);
    let errors = written.errors();
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), ["", "stale_connection"]);
    assert!(errors[""].abs_diff(errors["stale_connection"]) <= 1, "{errors:?}");
    assert_eq!(ledger.requests(), written.rows.len());
}

/// A server that closes after its last byte makes no error: the closing is noticed and a new connection is made.
#[test]
fn a_close_between_requests_is_no_error() {
    for end in [|| Act::Close, || Act::Reset] {
        let (port, ledger) = serve(move |incoming| match incoming.path.as_str() {
            "/later" => vec![ok("hello"), Act::Pause(1), end()],
            _ => vec![ok("hello"), end()],
        });
        let mut plan = plan(port, "/", 800);
        plan["scenarios"][0]["think_time_ns"] = json!([100 * MS, 100 * MS]);
        let step = |path: &str| json!({"endpoint": 0, "method": "GET", "path": path});
        plan["scenarios"][0]["steps"] = json!([step("/"), step("/later")]);
        let written = run(&plan);
        assert!(written.rows.len() > 3);
        assert_eq!((written.only_error(), ledger.connections()), ("", written.rows.len()));
    }
}

/// A body shorter than announced is not ok.
#[test]
fn short_bodies() {
    assert_eq!(kind_of(raw("HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\nhello")), "short_body");
}

/// Chunks that are broken or unfinished never hang.
#[test]
fn broken_chunks() {
    let head = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for rest in [
        "x\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhel",
        "5\r\nhello\r\n",
        "0\r\n",
    ] {
        let whole = format!("{head}{rest}");
        assert_eq!(kind_of(move |_| vec![text(&whole), Act::Close]), "bad_chunk", "{rest:?}");
    }
}

/// What is not HTTP/1 is named so.
#[test]
fn invalid_answers() {
    for bytes in [
        "garbage\r\n\r\n",
        "HTTP/9.9 200 x\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 200 x\r\nA: \0\r\n\r\n",
    ] {
        assert_eq!(kind_of(raw(bytes)), "invalid_http", "{bytes:?}");
    }
}

/// Heads and bodies have an end, announced or not.
#[test]
fn sizes_are_bounded() {
    let line = format!("X-Long: {}\r\n", "a".repeat(1000));
    let endless = move |_: &Incoming| {
        let mut acts = vec![text("HTTP/1.1 200 x\r\n")];
        acts.extend((0..2000).map(|_| text(&line)));
        acts.push(Act::Stall);
        acts
    };
    assert_eq!(kind_of(endless), "header_too_large");
    let interim =
        |_: &Incoming| vec![Act::Send("HTTP/1.1 103 x\r\nLink: y\r\n\r\n".repeat(20_000).into_bytes()), Act::Stall];
    assert_eq!(kind_of(interim), "header_too_large");
    assert_eq!(kind_of(raw("HTTP/1.1 200 x\r\nContent-Length: 10000000000\r\n\r\nabc")), "body_too_large");
    let part = format!("10000\r\n{}\r\n", "b".repeat(0x10000));
    let chunks = move |_: &Incoming| {
        let mut acts = vec![text("HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")];
        acts.extend((0..40).map(|_| text(&part)));
        acts.push(Act::Stall);
        acts
    };
    assert_eq!(kind_of(chunks), "body_too_large");
    let plain = "c".repeat(0x10000);
    let to_the_end = move |_: &Incoming| {
        let mut acts = vec![text("HTTP/1.1 200 x\r\n\r\n")];
        acts.extend((0..40).map(|_| text(&plain)));
        acts.push(Act::Close);
        acts
    };
    assert_eq!(kind_of(to_the_end), "body_too_large");
}

/// Timeouts come when they should, each with its kind, and others are not disturbed by the slow ones.
#[test]
fn timeouts_by_kind() {
    let trickle = |bytes: &'static [u8]| {
        move |incoming: &Incoming| {
            if incoming.path == "/good" {
                return vec![ok("")];
            }
            bytes.iter().flat_map(|byte| [Act::Send(vec![*byte]), Act::Pause(40)]).chain([Act::Stall]).collect()
        }
    };
    let head = b"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n";
    let body = b"HTTP/1.1 200 x\r\nContent-Length: 100\r\n\r\n0123456789012345678901234567890123456789";
    type Script = Box<dyn Fn(&Incoming) -> Vec<Act> + Send + Sync>;
    let whole_head: Script =
        Box::new(
            move |incoming| {
                if incoming.path == "/good" { vec![ok("")] } else { vec![Act::Send(body.to_vec()), Act::Stall] }
            },
        );
    for (script, kind) in [(Box::new(trickle(head)) as Script, "header_timeout"), (whole_head, "body_timeout")] {
        let (port, _) = serve(script);
        let mut plan = plan(port, "/slow", 0);
        plan["workload"] = open(40, 400);
        plan["timeout_ns"] = json!(1_000 * MS);
        plan["endpoints"] = json!(["slow", "good"]);
        let other = json!({"endpoint": 1, "method": "GET", "path": "/good"});
        let slow = plan["scenarios"][0].clone();
        plan["scenarios"] = json!([slow, {"name": "other", "weight": 1, "steps": [other]}]);
        let written = run(&plan);
        for row in &written.rows {
            let service = row["end_ns"].int() - row["start_ns"].int();
            if row["endpoint"].text() == "good" {
                assert_eq!(row["error"].text(), "");
                assert!(service < 900 * MS, "{service}");
            } else {
                assert_eq!((row["error"].text(), row["outcome"].int()), (kind, 3));
                assert!((1_000 * MS..3_000 * MS).contains(&service), "{service}");
            }
        }
    }
}

/// Nothing listens: an error of its own kind, and a closed user does not spin on it.
#[test]
fn a_closed_port_is_refused() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let written = run(&plan(port, "/", 700));
    assert_eq!(written.only_error(), "connect_refused");
    assert!((1..=4).contains(&written.rows.len()), "{}", written.rows.len());
    assert!(written.rows.iter().all(|row| row["status"].int() == 0 && row["protocol"].text().is_empty()));
}

/// A listener whose queue is full times out while connecting.
#[test]
fn a_full_accept_queue_times_out() {
    // Nobody accepts here; the queue of one or two is filled first.
    let listener = {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        TcpListener::from(socket)
    };
    let address = listener.local_addr().unwrap();
    let _fillers: Vec<_> = (0..4)
        .filter_map(|_| std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(50)).ok())
        .collect();
    let mut plan = plan(address.port(), "/", 0);
    plan["workload"] = open(5, 50);
    plan["timeout_ns"] = json!(200 * MS);
    let written = run(&plan);
    assert_eq!(written.only_error(), "connect_timeout");
    assert!(written.rows.iter().all(|row| {
        let connect = row["connect_ns"].int();
        (200 * MS..600 * MS).contains(&connect) && row["send_ns"].int() == -1 && row["outcome"].int() == 3
    }));
}

/// Interim answers are passed over; answers without a body by rule are whole with their head.
#[test]
fn heads_without_bodies() {
    let good = |script: fn(&Incoming) -> Vec<Act>, method: &str| {
        let (port, ledger) = serve(script);
        let mut plan = plan(port, "/", 300);
        plan["scenarios"][0]["steps"][0]["method"] = Value::from(method);
        let written = run(&plan);
        assert!(written.rows.len() > 2);
        assert_eq!(written.only_error(), "");
        ledger.connections()
    };
    assert_eq!(
        good(|_| vec![text("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n"), Act::Pause(1), ok("hi")], "GET"),
        1
    );
    assert_eq!(good(|_| vec![text("HTTP/1.1 200 x\r\nContent-Length: 1000\r\n\r\n")], "HEAD"), 1);
    assert_eq!(good(|_| vec![text("HTTP/1.1 204 x\r\n\r\n")], "DELETE"), 1);
    assert_eq!(good(|_| vec![text("HTTP/1.1 304 x\r\nContent-Length: 1000\r\n\r\n")], "GET"), 1);
}

/// Bytes that nobody asked for never become part of the next answer.
#[test]
fn unasked_bytes_close_the_connection() {
    let smuggled = "HTTP/1.1 204 x\r\n\r\nHTTP/1.1 500 smuggled\r\nContent-Length: 0\r\n\r\n";
    let (port, ledger) = serve(move |_| vec![text(smuggled)]);
    let written = run(&plan(port, "/", 60));
    assert_eq!((written.only_error(), ledger.connections()), ("", written.rows.len()));
    assert!(written.rows.iter().all(|row| row["bytes_in"].int() == 18 && row["status"].int() == 204));
    let (port, ledger) = serve(|_| vec![ok(""), Act::Pause(2), text("HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n")]);
    let mut plan = plan(port, "/", 100);
    plan["scenarios"][0]["think_time_ns"] = json!([10 * MS, 10 * MS]);
    let written = run(&plan);
    assert_eq!((written.only_error(), ledger.connections()), ("", written.rows.len()));
}

/// An answer that exactly fills the read buffer is followed by a look for more.
#[test]
fn answers_of_every_size_around_the_buffer() {
    let (port, ledger) = serve(|incoming| {
        let size: usize = incoming.path.trim_start_matches('/').parse().unwrap();
        let head = format!("HTTP/1.1 200 x\r\nContent-Length: {size:06}\r\n\r\n");
        vec![text(&format!("{head}{}", "z".repeat(size)))]
    });
    let head = "HTTP/1.1 200 x\r\nContent-Length: 000000\r\n\r\n".len();
    let mut plan = plan(port, "/", 0);
    let sizes = [65536 - head - 1, 65536 - head, 65536 - head + 1, 2 * 65536 - head, 300_000, 0];
    let steps: Vec<Value> =
        sizes.iter().map(|size| json!({"endpoint": 0, "method": "GET", "path": format!("/{size}")})).collect();
    plan["scenarios"][0]["steps"] = json!(steps);
    let written = run_until(&plan, || ledger.requests() > 12);
    assert_eq!((written.only_error(), ledger.connections()), ("", 1));
    for (row, size) in written.rows.iter().zip(sizes.iter().cycle()) {
        assert_eq!(row["bytes_in"].int(), (head + size) as i64);
    }
}

/// An answer that comes while the request is still being sent is taken, and the connection is not used again.
#[test]
fn early_answers_are_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 100]);
            let _ = stream.write_all(b"HTTP/1.1 413 x\r\nContent-Length: 2\r\n\r\nno");
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    });
    let mut plan = plan(port, "/", 0);
    plan["workload"] = open(5, 500);
    plan["scenarios"][0]["steps"][0]["method"] = json!("POST");
    plan["scenarios"][0]["steps"][0]["body"] = json!("x".repeat(8 << 20));
    let written = run(&plan);
    assert_eq!(written.only_error(), "status 413");
    assert!(written.rows.iter().all(|row| row["reused"].int() == 0));
}

/// A large request is sent whole although the socket takes it in pieces.
#[test]
fn large_requests_are_sent_in_pieces() {
    let (port, ledger) = serve(|incoming| vec![ok(&incoming.body.len().to_string())]);
    let mut plan = plan(port, "/", 300);
    let step = &mut plan["scenarios"][0]["steps"][0];
    step["method"] = json!("PUT");
    step["body"] = json!(format!("{}{{{{seq}}}}", "y".repeat(4 << 20)));
    step["check"] = json!({"body_contains": ["41943"]});
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    assert_eq!(written.rows.len(), ledger.requests());
}

/// Whatever bytes come, the engine neither hangs nor breaks off, and every request has an outcome.
#[test]
fn mutated_answers_never_break_the_engine() {
    let seeds: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer-Timing: db;dur=5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /next?x=1#y\r\nSet-Cookie: a=b; Max-Age=5\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    ];
    let mut draws = surgeline_engine::schedule::SplitMix64::new(99);
    let answers: Vec<Vec<u8>> = (0..4000)
        .map(|number| {
            let mut bytes = seeds[number % seeds.len()].to_vec();
            for _ in 0..draws.between(1, 4) {
                if bytes.is_empty() {
                    break;
                }
                let at = draws.between(0, bytes.len() as i64 - 1) as usize;
                match draws.between(0, 3) {
                    0 => bytes[at] = draws.next_u64() as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\r\n:;, 0f"[draws.between(0, 7) as usize]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            bytes
        })
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (port, ledger) = serve(move |_| {
        let number = next.fetch_add(1, Ordering::SeqCst);
        vec![Act::Send(answers[number % answers.len()].clone()), Act::Close]
    });
    let mut plan = plan(port, "/{{seq}}", 0);
    plan["workload"] = open(2000, 1000);
    plan["timeout_ns"] = json!(3_000 * MS);
    plan["scenarios"][0]["steps"][0]["check"] = json!({"json": [["$.a", 1]], "header": [["x", "y"]]});
    let begun = Instant::now();
    let written = run(&plan);
    assert_eq!(written.rows.len(), 2000);
    assert!(begun.elapsed().as_secs() < 20);
    written.check_reached(ledger.requests());
    assert!(written.errors().len() > 3, "{:?}", written.errors());
}

/// The header of a server's own timings is kept, cut to 200 bytes.
#[test]
fn server_timing_is_kept() {
    let (port, _) = serve(|_| vec![answer(200, &format!("Server-Timing: db;dur=5{}\r\n", "x".repeat(500)), "")]);
    let written = run(&plan(port, "/", 30));
    assert!(written.rows.iter().all(|row| {
        let timing = row["server_timing"].text();
        timing.starts_with("db;dur=5x") && timing.len() == 200
    }));
}

/// A user's cookies go to the paths they were set for, also within a redirect and where paths vary; what is not kept of
/// them is told once.
#[test]
fn cookies_go_where_they_belong() {
    let set = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nSet-Cookie: x=y; Domain=example.com\r\nSet-Cookie: s=1; Secure\r\n";
    let (port, ledger) = serve(move |incoming| match incoming.path.as_str() {
        "/app/login" => vec![answer(302, &format!("{set}Location: /app/home\r\n"), "")],
        "/app/home" => vec![answer(200, "Set-Cookie: b=3; Path=/app\r\n", "")],
        _ => vec![ok("")],
    });
    let mut plan = plan(port, "/app/login", 0);
    plan["workload"]["stages"] = json!([{"duration_ns": 30 * MS, "from": 100, "to": 100},
                                        {"duration_ns": 1_000 * MS, "from": 0, "to": 0}]);
    (plan["workload"]["model"], plan["workload"]["arrivals"]) = (json!("open"), json!("uniform"));
    plan["variables"] = json!({"where": "app"});
    let steps = ["/app/login", "/shop", "/app/x", "/{{int(7,7)}}/{{where}}", "/{{where}}/{{int(7,7)}}"];
    let steps = steps.map(|path| json!({"endpoint": 0, "method": "GET", "path": path}));
    plan["scenarios"][0]["steps"] = json!(steps);
    let written = run(&plan);
    written.check();
    assert_eq!((written.rows.len(), written.only_error()), (15, ""));
    for (path, cookies) in [
        ("/app/login", ""),
        ("/app/home", "b=2; a=1"),
        ("/shop", "a=1"),
        ("/app/x", "b=3; a=1"),
        ("/7/app", "a=1"),
        ("/app/7", "b=3; a=1"),
    ] {
        let heads = ledger.heads.lock().unwrap();
        let of_path: Vec<&String> = heads.iter().filter(|head| head.starts_with(&format!("GET {path} "))).collect();
        assert_eq!(of_path.len(), 3, "{path}");
        let line = |head: &str| head.lines().find_map(|line| line.strip_prefix("Cookie: ").map(str::to_owned));
        assert!(of_path.iter().all(|head| line(head).unwrap_or_default() == cookies), "{path}: {of_path:?}");
    }
    let notes = written.events.iter().filter(|event| event["kind"] == "note");
    let notes: Vec<&str> = notes.map(|event| event["reason"].as_str().unwrap()).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes.iter().any(|note| note.contains("Secure")) && notes.iter().any(|note| note.contains("another domain"))
    );
}
