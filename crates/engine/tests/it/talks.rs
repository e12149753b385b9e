//! Conversations: messages are timed, the books stay balanced, and every way in which a server can spoil one has its kind.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use surgeline_engine::websocket::accept;

use crate::reading::{MS, Written, open, plan, run};

/// A server that reads a request's head and then does what `script` says, which is told the head.
fn serve(script: impl Fn(&mut TcpStream, &str) + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                script(&mut stream, &String::from_utf8_lossy(&head));
            });
        }
    });
    port
}

fn agreed(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = String::from_utf8(accept(key.as_bytes())).unwrap();
    format!(
        "HTTP/1.1 101 x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn agree(stream: &mut TcpStream, head: &str) {
    let _ = stream.write_all(agreed(head).as_bytes());
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

fn nap(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// A frame of the client's, unmasked; None at the end.
fn hear(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    assert_eq!(head[1] & 0x80, 0x80, "a client masks");
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    stream.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0], payload))
}

fn with_talk(port: u16, count: i64, talk: Value) -> Value {
    let mut plan = plan(port, "/chat", 0);
    plan["workload"] = open(count, 60);
    plan["grace_ns"] = json!(5_000 * MS);
    let step = &mut plan["scenarios"][0]["steps"][0];
    if talk.get("socket").is_some() {
        step["headers"] = json!([
            ["upgrade", "websocket"],
            ["connection", "Upgrade"],
            ["sec-websocket-version", "13"],
            ["Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="]
        ]);
        step["check"] = json!({"status": [[101, 101]]});
    }
    step["talk"] = talk;
    plan
}

fn socket(items: Value) -> Value {
    json!({"socket": {"items": items, "whole": "chat > whole"}})
}

fn events(until: Value) -> Value {
    let mut all = json!({"first": "stream > first", "next": "stream > next", "whole": "stream > whole",
        "messages": null, "text": null, "time_ns": null});
    all.as_object_mut().unwrap().extend(until.as_object().unwrap().clone());
    json!({"events": all})
}

/// How often each message came, by name and outcome, and the least and most that it was waited for, in ms.
fn messages(written: &Written, name: &str, outcome: i64) -> (i64, i64, i64) {
    let of = written.messages.iter().filter(|one| one["endpoint"].text() == name && one["outcome"].int() == outcome);
    of.fold((0, i64::MAX, 0), |(count, least, most), one| {
        let (min, max) = (one["response_min_ns"].int() / MS, one["response_max_ns"].int() / MS);
        (count + one["count"].int(), least.min(min), most.max(max))
    })
}

/// The row is the opening, messages are timed from what they answer, pings are answered, and what fits is waited for.
#[test]
fn a_conversation_is_one_row_and_its_messages() {
    let port = serve(|stream, head| {
        agree(stream, head);
        let (first, hello) = hear(stream).unwrap();
        assert_eq!((first, &hello[..6]), (0x81, &b"hello "[..]));
        say(stream, b"\x81\x05other\x89\x02hi");
        assert_eq!(hear(stream), Some((0x8a, b"hi".to_vec())));
        nap(30);
        // In three frames, and in pieces.
        say(stream, b"\x01\x0a{\"room\": \"\x00\x02ka\x80");
        nap(5);
        say(stream, b"\x06tze\"} ");
        assert_eq!(hear(stream), Some((0x81, b"in {\"katze\"}".to_vec())));
        say(stream, b"\x81\x04news\x81\x04news");
        nap(20);
        say(stream, b"\x81\x04news");
        assert_eq!(hear(stream), Some((0x88, b"\x0b\xb8".to_vec())));
        say(stream, b"\x88\x02\x0b\xb8");
    });
    let items = json!([
        {"send": {"text": "hello {{user}}", "json": false}},
        {"expect": {"name": "chat > joined", "timeout_ns": null, "check": {"json": [["$.room", "exists", true]]},
                    "extract": [{"var": "room", "from": "json", "expr": "$.room"}]}},
        {"send": {"text": "in {\"{{room}}\"}", "json": true}},
        {"listen": {"name": "chat > heard", "time_ns": 400 * MS}},
        {"close": {"code": 3000}}]);
    let written = run(&with_talk(port, 6, socket(items)));
    written.check();
    assert_eq!((written.rows.len(), written.only_error()), (6, ""));
    for row in &written.rows {
        assert_eq!((row["status"].int(), row["method"].text(), row["protocol"].text()), (101, "GET", "HTTP/1.1"));
        assert!(row["end_ns"].int() - row["start_ns"].int() < 400 * MS, "the row is the opening");
        assert!(row["bytes_in"].int() > 129 && row["bytes_out"].int() > 200, "{row:?}");
    }
    let (count, least, most) = messages(&written, "chat > joined", 0);
    assert!(count == 6 && least >= 35 && most < 1000, "{least}..{most}");
    assert_eq!(messages(&written, "chat > heard", 0).0, 18);
    let (count, least, _) = messages(&written, "chat > whole", 0);
    assert!(count == 6 && least >= 430, "{least}");
}

/// Each way to break a conversation is an outcome of its own kind, and what came before is kept.
#[test]
fn every_broken_conversation_has_its_kind() {
    type Script = fn(&mut TcpStream, &str);
    let cases: [(&str, i64, Script); 14] = [
        ("status 403", 1, |stream, _| {
            // The connection goes without having been said to: nobody may be sent over it again.
            say(stream, b"HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno");
            nap(300);
        }),
        ("status 200", 1, |stream, _| say(stream, b"HTTP/1.1 200 x\r\n\r\nendless")),
        ("bad_upgrade", 2, |stream, head| say(stream, agreed(head).replace("Accept: ", "Accept: x").as_bytes())),
        ("bad_upgrade", 2, |stream, head| say(stream, agreed(head).replace("WebSocket\r", "h2c\r").as_bytes())),
        ("bad_frame", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\xc1\x02hi");
            nap(300);
        }),
        ("bad_utf8", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\x81\x01\xff");
            nap(300);
        }),
        ("message_too_large", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff");
            (0..1000).for_each(|_| say(stream, &[0; 4096]));
        }),
        ("message_too_large", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\x02\x00");
            (0..1000).for_each(|_| say(stream, &[&[0, 126, 15, 160][..], &[0; 4000]].concat()));
        }),
        ("closed_early", 2, |stream, head| agree(stream, head)),
        ("closed_early", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\x88\x02\x03\xe9");
            nap(300);
        }),
        ("closed_early", 2, |stream, head| {
            agree(stream, head);
            say(stream, b"\x81\x0a");
        }),
        ("message_timeout", 3, |stream, head| {
            agree(stream, head);
            nap(1000);
        }),
        ("message_timeout", 3, |stream, head| {
            agree(stream, head);
            (0..300).for_each(|_| {
                say(stream, b"\x81\x02no");
                nap(2);
            });
        }),
        ("close_timeout", 3, |stream, head| {
            agree(stream, head);
            say(stream, b"\x81\x03yes");
            nap(1000);
        }),
    ];
    for (kind, outcome, script) in cases {
        let port = serve(script);
        let items = json!([{"expect": {"name": "chat > yes", "timeout_ns": 200 * MS,
            "check": {"body_contains": ["yes"]}}}]);
        let mut plan = with_talk(port, 3, socket(items));
        plan["scenarios"][0]["steps"][0]["timeout_ns"] = json!(400 * MS);
        let written = run(&plan);
        written.check();
        assert_eq!((written.rows.len(), written.only_error()), (3, kind));
        assert_eq!(written.outcomes().into_iter().collect::<Vec<_>>(), [(outcome, 3)], "{kind}");
        assert_eq!(messages(&written, "chat > yes", 3).0, if kind == "message_timeout" { 3 } else { 0 });
        assert!(!written.exchanges.is_empty());
    }
}

/// Streams of events end when they should, by count, by text, by time or by themselves, and are not HTTP alone.
#[test]
fn events_are_counted_until_they_are_enough() {
    fn stream(stream: &mut TcpStream, head: &str) {
        let kind = if head.contains("/plain") { "text/plain" } else { "text/event-stream; charset=utf-8" };
        let head = format!("HTTP/1.1 200 x\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        say(stream, head.as_bytes());
        nap(40);
        for number in 0..5 {
            say(stream, format!("11\r\nid: 1\ndata: no {number}\n\r\n1\r\n\n\r\n").as_bytes());
            nap(20);
        }
        say(stream, b"0\r\n\r\n");
        nap(500);
    }
    let port = serve(stream);
    for (until, first, next) in [
        (json!({"messages": 3}), 1, 2),
        (json!({"text": "no {{int(2,2)}}"}), 1, 2),
        (json!({"time_ns": 75 * MS}), 1, 1),
        (json!({"messages": 1, "time_ns": 5_000 * MS}), 1, 0),
        (json!({}), 1, 4),
    ] {
        let written = run(&with_talk(port, 5, events(until.clone())));
        written.check();
        assert_eq!((written.rows.len(), written.only_error()), (5, ""), "{until}");
        assert!(written.rows.iter().all(|row| row["status"].int() == 200));
        let (count, least, _) = messages(&written, "stream > first", 0);
        assert!(count == 5 * first && least >= 35, "{until}: {count} {least}");
        let (count, _, most) = messages(&written, "stream > next", 0);
        let slack = if until.get("time_ns").is_some() { 10 } else { 0 };
        assert!((count - 5 * next).abs() <= slack, "{until}: {count}");
        assert!(count == 0 || most >= 15, "{until}: {most}");
        assert_eq!(messages(&written, "stream > whole", 0).0, 5);
    }
    for (until, path, kind, outcome) in
        [(json!({"messages": 9}), "/", "closed_early", 2), (json!({"messages": 1}), "/plain", "not_events", 1)]
    {
        let mut plan = with_talk(port, 3, events(until));
        plan["scenarios"][0]["steps"][0]["path"] = json!(path);
        let written = run(&plan);
        written.check();
        assert_eq!((written.only_error(), written.outcomes()[&outcome]), (kind, 3));
    }
}

/// A stream that never ends is left at the wanted count, and one that says nothing, or only nonsense, in time; memory
/// for a message is bounded.
#[test]
fn streams_without_end_are_left() {
    const HEAD: &[u8] = b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\n\r\n";
    type Script = fn(&mut TcpStream, &str);
    let cases: [(&str, Script); 4] = [
        ("", |stream, _| {
            say(stream, HEAD);
            while stream.write_all(&b"data: x\n\n".repeat(1000)).is_ok() {}
        }),
        ("message_timeout", |stream, _| {
            say(stream, HEAD);
            nap(1000);
        }),
        ("message_timeout", |stream, _| {
            say(stream, HEAD);
            while stream.write_all(b": still here\n\n").is_ok() {
                nap(5);
            }
        }),
        ("message_too_large", |stream, _| {
            say(stream, HEAD);
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        }),
    ];
    for (kind, script) in cases {
        let port = serve(script);
        let mut plan = with_talk(port, 4, events(json!({"messages": 5000})));
        plan["scenarios"][0]["steps"][0]["timeout_ns"] = json!(if kind.is_empty() { 3_000 * MS } else { 300 * MS });
        let written = run(&plan);
        written.check();
        assert_eq!((written.rows.len(), written.only_error()), (4, kind));
    }
}

/// A run that ends in a conversation has aborted it, and its books balance.
#[test]
fn a_run_may_end_in_a_conversation() {
    let port = serve(|stream, head| {
        agree(stream, head);
        nap(3000);
    });
    let mut plan = with_talk(port, 5, socket(json!([{"listen": {"name": "chat > heard", "time_ns": 60_000 * MS}}])));
    plan["grace_ns"] = json!(200 * MS);
    let written = run(&plan);
    written.check();
    assert_eq!(written.outcomes().into_iter().collect::<Vec<_>>(), [(5, 5)]);
    // Nothing listens: the row says so, and there is no message.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let written = run(&with_talk(closed, 3, socket(json!([]))));
    written.check();
    assert_eq!((written.only_error(), written.messages.len()), ("connect_refused", 0));
}

/// A conversation may begin behind a redirect, with the same key; one that leads nowhere is an answer like others.
#[test]
fn openings_are_redirected() {
    let port = serve(|stream, head| {
        if head.starts_with("GET /chat ") {
            return say(stream, b"HTTP/1.1 302 x\r\nConnection: close\r\nLocation: /room\r\nContent-Length: 0\r\n\r\n");
        }
        if head.starts_with("GET /room ") {
            agree(stream, head);
            say(stream, &[&[0x81, 126, 15, 160][..], &[b'x'; 4000], b"\x81\x03yes"].concat());
            hear(stream);
        }
    });
    let items = json!([{"expect": {"name": "chat > yes", "timeout_ns": null, "check": {"body_contains": ["yes"]}}}]);
    let written = run(&with_talk(port, 4, socket(items.clone())));
    written.check();
    assert_eq!((written.only_error(), messages(&written, "chat > yes", 0).0), ("", 4));
    let port = serve(|stream, _| {
        say(stream, b"HTTP/1.1 302 x\r\nConnection: close\r\nLocation: http://1.2.3.4/\r\nContent-Length: 0\r\n\r\n")
    });
    let mut plan = with_talk(port, 3, socket(items));
    let plain = json!({"endpoint": 0, "method": "GET", "path": "/"});
    plan["scenarios"][0]["steps"].as_array_mut().unwrap().push(plain);
    let written = run(&plan);
    written.check();
    assert_eq!(written.only_error(), "redirect_refused");
}
