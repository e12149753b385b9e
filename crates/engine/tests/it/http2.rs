//! HTTP/2: streams share connections, and what a server does wrong becomes an outcome of its own kind.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use surgeline_engine::hpack::Decoder;

use crate::reading::{MS, Written, open, plan, run};
use crate::server::{Ledger, ok};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END: u8 = 1;
const WHOLE: u8 = 4;

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// Fields as literals that no table keeps; `200` and `404` whole from the static table.
fn block(status: u16, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = match status {
        200 => vec![0x88],
        404 => vec![0x8d],
        // The name of `:status` from the static table, the value as it is.
        other => [&[0x08, 3], other.to_string().as_bytes()].concat(),
    };
    for (name, value) in fields {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        assert!(value.len() < 127);
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    block
}

fn answer(id: u32, body: &str) -> Vec<u8> {
    let length = body.len().to_string();
    let head = frame(HEADERS, WHOLE, id, &block(200, &[("content-length", &length)]));
    [head, frame(DATA, END, id, body.as_bytes())].concat()
}

/// A request as it came in.
struct Asked {
    id: u32,
    /// Its fields, a line each.
    head: String,
    body: Vec<u8>,
    /// Its number on its connection, from 0, and on all of them.
    nth: usize,
    number: usize,
}

/// What to do next on a connection.
enum Act {
    Send(Vec<u8>),
    Pause(u64),
    Reset,
    Close,
}

/// A server that says `settings`, sees whole requests, and does what `script` says. It gives room for bodies as `room`
/// says: after so many bytes, so many more.
struct Script {
    settings: Vec<u8>,
    room: Option<u32>,
    seen: Ledger,
    heads: AtomicUsize,
    resets: AtomicUsize,
    acks: AtomicUsize,
    bodies: Mutex<Vec<usize>>,
}

fn serve(settings: &[(u16, u32)], act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> (u16, Arc<Script>) {
    serve_with(settings, None, act)
}

fn serve_with(
    settings: &[(u16, u32)],
    room: Option<u32>,
    act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
) -> (u16, Arc<Script>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text: Vec<u8> =
        settings.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    let settings = frame(SETTINGS, 0, 0, &text);
    let [heads, resets, acks] = [0; 3].map(AtomicUsize::new);
    let script =
        Arc::new(Script { settings, room, seen: Ledger::default(), heads, resets, acks, bodies: Mutex::default() });
    let (act, seen) = (Arc::new(act), script.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (act, script) = (act.clone(), seen.clone());
            script.seen.connections.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || talk(stream, &script, &*act));
        }
    });
    (port, script)
}

fn talk(mut stream: TcpStream, script: &Script, act: &dyn Fn(&Asked) -> Vec<Act>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).ok()?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    stream.write_all(&script.settings).ok()?;
    let (mut decoder, mut asked, mut nth) = (Decoder::default(), BTreeMap::new(), 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).ok()?;
        match kind {
            HEADERS => {
                let (mut rest, mut text, mut first) = (&payload[..], Vec::new(), true);
                while decoder.next(&mut rest, first, &mut text).unwrap().is_some() {
                    first = false;
                }
                let head = String::from_utf8(text).unwrap();
                let number = script.heads.fetch_add(1, Ordering::SeqCst);
                asked.insert(id, Asked { id, head, body: Vec::new(), nth, number });
                nth += 1;
            }
            DATA => {
                asked.get_mut(&id)?.body.extend(&payload);
                if let Some(room) = script.room {
                    script.bodies.lock().unwrap().push(length);
                    let more = [0, id].map(|id| frame(WINDOW_UPDATE, 0, id, &room.to_be_bytes())).concat();
                    stream.write_all(&more).ok()?;
                }
            }
            RST_STREAM => {
                script.resets.fetch_add(1, Ordering::SeqCst);
            }
            SETTINGS | PING if flags == 1 => {
                script.acks.fetch_add(1, Ordering::SeqCst);
            }
            _ => {}
        }
        if kind <= HEADERS && flags & END != 0 {
            script.seen.requests.fetch_add(1, Ordering::SeqCst);
            for act in act(&asked.remove(&id)?) {
                match act {
                    Act::Send(bytes) => stream.write_all(&bytes).ok()?,
                    Act::Pause(ms) => thread::sleep(Duration::from_millis(ms)),
                    Act::Reset => {
                        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok()?;
                        return None;
                    }
                    Act::Close => {
                        // A close with unread bytes would be a reset.
                        stream.shutdown(Shutdown::Write).ok()?;
                        stream.read_to_end(&mut Vec::new()).ok()?;
                        return None;
                    }
                }
            }
        }
    }
}

/// A closed plan of so many users with 10 streams on a connection, for `ms`.
fn streams(port: u16, users: u32, ms: i64) -> Value {
    let mut plan = plan(port, "/x", ms);
    plan["connection"] = json!({"streams": 10});
    plan["workload"]["stages"][0] = json!({"duration_ns": ms * MS, "from": users, "to": users});
    plan
}

/// The kinds that `count` requests, one after the other, end in.
fn kinds(count: i64, act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> BTreeMap<String, usize> {
    let (port, _) = serve(&[], act);
    let mut plan = streams(port, 0, 0);
    plan["workload"] = open(count, 60);
    plan["timeout_ns"] = json!(1_000 * MS);
    let written = run(&plan);
    assert_eq!(written.rows.len(), count as usize);
    written.errors().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
}

/// The one kind that they all end in.
fn kind(act: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> String {
    let kinds = kinds(8, act);
    assert_eq!(kinds.len(), 1, "{kinds:?}");
    kinds.into_keys().next().unwrap()
}

fn send(bytes: Vec<u8>) -> Vec<Act> {
    vec![Act::Send(bytes)]
}

/// Users share connections, ten on each in the order of their numbers; the first of each opens it for the others.
#[test]
fn closed_users_share_connections() {
    let (port, script) = serve(&[], |asked| send(answer(asked.id, "hello")));
    let mut plan = streams(port, 32, 200);
    plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["hello"]});
    let written = run(&plan);
    assert_eq!((written.only_error(), script.seen.connections()), ("", 4));
    assert!(written.rows.len() > 100, "{}", written.rows.len());
    assert_eq!(written.rows.len(), script.seen.requests());
    let openers: Vec<_> = written.rows.iter().filter(|row| row["reused"].int() == 0).collect();
    assert_eq!(openers.len(), 4);
    for row in &written.rows {
        let opened = row["reused"].int() == 0;
        assert_eq!((row["connect_ns"].int() >= 0, row["tls_ns"].int()), (opened, -1));
        assert!(row["wait_ns"].int() > 0 && row["receive_ns"].int() >= 0 && row["send_ns"].int() >= 0);
        assert_eq!((row["protocol"].text(), row["status"].int()), ("HTTP/2", 200));
        // HEADERS with :status and content-length, DATA with five bytes.
        assert_eq!(row["bytes_in"].int(), 9 + 1 + 2 + 14 + 1 + 1 + 9 + 5);
    }
    let short = written.rows.iter().filter(|row| row["bytes_out"].int() < 20).count();
    assert!(short > written.rows.len() / 2, "repeated heads are short: {short} of {}", written.rows.len());
}

/// What is asked for is what HTTP/1.1 would have asked for.
#[test]
fn heads_say_what_they_said_in_http1() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let told = heads.clone();
    let (port, _) = serve(&[], move |asked| {
        told.lock().unwrap().push((asked.head.clone(), String::from_utf8(asked.body.clone()).unwrap()));
        send(answer(asked.id, ""))
    });
    let mut plan = streams(port, 1, 50);
    plan["scenarios"][0]["steps"] = json!([
        {"endpoint": 0, "method": "POST", "path": "/a/{{iteration}}?b", "body": "n={{iteration}}",
         "headers": [["X-One", "1"], ["Connection", "close"]]}]);
    run(&plan);
    let heads = heads.lock().unwrap();
    for (number, (head, body)) in heads.iter().enumerate() {
        let pseudo =
            format!(":method: POST\r\n:scheme: http\r\n:path: /a/{number}?b\r\n:authority: 127.0.0.1:{port}\r\n");
        assert_eq!(*body, format!("n={number}"));
        let rest = format!("user-agent: surgeline-test\r\nx-one: 1\r\ncontent-length: {}\r\n", body.len());
        assert_eq!(*head, format!("{pseudo}{rest}"));
    }
    assert!(heads.len() > 1);
}

/// Open model: another connection only when all have as many streams in flight as they may.
#[test]
fn arrivals_fill_connections_before_opening_others() {
    let (port, script) = serve(&[], |asked| vec![Act::Pause(2), Act::Send(answer(asked.id, ""))]);
    let mut plan = streams(port, 0, 0);
    plan["workload"] = open(100, 1000);
    let written = run(&plan);
    assert_eq!((written.only_error(), script.seen.connections()), ("", 1));
    // Each answer comes late enough for all 40 to be in flight at once.
    let (port, script) = serve(&[], |asked| match asked.nth {
        9 => vec![Act::Pause(300), Act::Send((0..10).flat_map(|nth| answer(2 * nth + 1, "")).collect())],
        _ => vec![],
    });
    let mut plan = streams(port, 0, 0);
    plan["workload"] = open(40, 40);
    let written = run(&plan);
    assert_eq!((written.only_error(), script.seen.connections()), ("", 4));
}

/// A server that allows fewer streams gets no more at once; the others wait their turn.
#[test]
fn the_server_may_allow_fewer_streams() {
    let (port, script) = serve(&[(3, 2)], |asked| {
        // Those that were sent before the settings came are more.
        vec![Act::Pause(u64::from(asked.nth < 20)), Act::Send(answer(asked.id, ""))]
    });
    let written = run(&streams(port, 10, 300));
    assert_eq!((written.only_error(), script.seen.connections()), ("", 1));
    assert!(written.rows.len() > 100);
    let stages = |row: &BTreeMap<String, crate::reading::Cell>| row["send_ns"].int();
    assert!(written.rows.iter().skip(50).any(|row| stages(row) > 0));
}

/// Bodies are sent as far as the server's windows reach, and go on when they open.
#[test]
fn bodies_keep_to_the_windows() {
    let (port, script) =
        serve_with(&[(4, 100)], Some(100), |asked| send(answer(asked.id, &asked.body.len().to_string())));
    let mut plan = streams(port, 3, 300);
    plan["scenarios"][0]["steps"] = json!([
        {"endpoint": 0, "method": "POST", "path": "/", "body": "{{seq}}".to_owned() + &"x".repeat(2000),
         "check": {"body_contains": ["200"]}},
        {"endpoint": 0, "method": "POST", "path": "/", "body": "y".repeat(1000), "check": {"body_contains": ["1000"]}}]);
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    let bodies = script.bodies.lock().unwrap();
    // Before the server's settings are known, the protocol's own 65,535 bytes hold.
    assert!(bodies.iter().skip(10).all(|length| *length <= 200), "{bodies:?}");
    assert!(written.rows.len() > 20);
    assert!(written.rows.iter().all(|row| row["bytes_out"].int() > 1000));
}

/// A file is read while it is sent, as far as the windows reach, and arrives as it is.
#[test]
fn files_arrive_as_they_are() {
    let content: Vec<u8> = (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = std::env::temp_dir().join(format!("surgeline-{}-http2", std::process::id()));
    std::fs::write(&path, &content).unwrap();
    for chunked in [false, true] {
        let wanted = [b"<".as_slice(), &content, b">"].concat();
        let (port, _) = serve_with(&[], Some(16_384), move |asked| {
            let right = asked.body == wanted && asked.head.contains("content-length: 300002") != chunked;
            send(answer(asked.id, if right { "right" } else { "wrong" }))
        });
        let mut plan = streams(port, 3, 200);
        plan["files"] = json!([{"path": path, "length": content.len()}]);
        let step = &mut plan["scenarios"][0]["steps"][0];
        step["method"] = json!("PUT");
        step["upload"] = json!({"chunked": chunked, "parts": [
            {"text": "<", "place": "plain"}, {"file": 0}, {"text": ">", "place": "plain"}]});
        step["check"] = json!({"body_contains": ["right"]});
        let written = run(&plan);
        assert_eq!(written.only_error(), "");
        assert!(written.rows.len() > 3 && written.rows.iter().all(|row| row["bytes_out"].int() > 300_000));
    }
    std::fs::remove_file(path).unwrap();
}

/// An answer may come in as many pieces as it likes, with padding, priority, interim heads and trailers.
#[test]
fn answers_come_in_any_form() {
    let whole = |id: u32| {
        let fields = block(200, &[("x-a", "1"), ("server-timing", "db;dur=5")]);
        let padded = [&[3][..], &[0, 0, 0, 0, 9], &fields[..5], &[0; 3]].concat();
        let body = |text: &str| frame(DATA, 8, id, &[&[2], text.as_bytes(), &[0; 2]].concat());
        [
            frame(PING, 0, 0, &[1; 8]),
            frame(HEADERS, WHOLE, id, &[0x08, 3, b'1', b'0', b'3']),
            frame(HEADERS, 8 | 0x20, id, &padded),
            frame(CONTINUATION, 0, id, &fields[5..9]),
            frame(CONTINUATION, WHOLE, id, &fields[9..]),
            frame(200, 0xff, id, b"whatever"),
            body("hel"),
            frame(DATA, 0, id, b""),
            frame(2, 0, id, &[0; 5]),
            body("lo w"),
            frame(DATA, 0, id, b"orld"),
            frame(HEADERS, WHOLE | END, id, &block(200, &[("x-trailer", "1")])[1..]),
        ]
        .concat()
    };
    for size in [1, 2, 7, 50, 1000] {
        let (port, script) =
            serve(&[], move |asked| whole(asked.id).chunks(size).map(|part| Act::Send(part.to_vec())).collect());
        let mut plan = streams(port, 3, 60);
        plan["scenarios"][0]["steps"][0]["check"] =
            json!({"body_contains": ["hello world"], "header": [["X-A", "1"]], "size": [11, 11]});
        let written = run(&plan);
        assert_eq!((written.only_error(), script.seen.connections()), ("", 1), "{size}");
        // Those of the last answers may be on their way.
        assert!(script.acks.load(Ordering::SeqCst) + 3 >= written.rows.len());
        assert!(written.rows.iter().all(|row| row["server_timing"].text() == "db;dur=5"));
    }
}

/// What comes with the end of a body in one piece, or without any body, is whole as well.
#[test]
fn answers_without_a_body() {
    assert_eq!(kind(|asked| send(frame(HEADERS, WHOLE | END, asked.id, &block(200, &[])))), "");
    assert_eq!(kind(|asked| send(frame(HEADERS, WHOLE | END, asked.id, &block(404, &[])))), "status 404");
    let padded = |asked: &Asked| {
        send([frame(HEADERS, WHOLE, asked.id, &[0x88]), frame(DATA, 8 | END, asked.id, &[2, b'x', 0, 0])].concat())
    };
    assert_eq!(kind(padded), "");
}

/// A kind, and what comes for a stream that makes it.
type Case = (&'static str, fn(u32) -> Vec<u8>);

/// A connection on which frames break the rules is given up, for all that was under way on it.
#[test]
fn broken_rules_are_told_apart() {
    let cases: [Case; 21] = [
        ("http2_protocol", |id| frame(DATA, END, id, b"early")),
        ("http2_protocol", |_| frame(DATA, END, 99, b"never opened")),
        ("http2_protocol", |_| frame(HEADERS, WHOLE, 2, &block(200, &[]))),
        ("http2_protocol", |_| frame(HEADERS, WHOLE, 0, &block(200, &[]))),
        ("http2_protocol", |id| [frame(HEADERS, 0, id, &[0x88]), frame(PING, 0, 0, &[0; 8])].concat()),
        ("http2_protocol", |id| frame(CONTINUATION, WHOLE, id, &[0x88])),
        ("http2_protocol", |id| frame(5, WHOLE, id, &[0, 0, 0, 2, 0x88])),
        ("http2_protocol", |id| frame(HEADERS, WHOLE | 8, id, &[9, 0x88])),
        ("http2_protocol", |_| frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1])),
        ("http2_protocol", |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("http2_frame_size", |id| frame(DATA, END, id, &[0; 16 * 1024 + 1])),
        ("http2_frame_size", |_| frame(PING, 0, 0, &[0; 7])),
        ("http2_frame_size", |_| frame(SETTINGS, 0, 0, &[0; 7])),
        ("http2_compression", |id| frame(HEADERS, WHOLE, id, &[0x88, 0xff, 0xff, 0xff])),
        ("http2_compression", |id| frame(HEADERS, WHOLE, id, &[0xc0])),
        ("http2_compression", |id| frame(HEADERS, WHOLE, id, &[0x88, 0, 1, b'a', 0x82, 0, 0])),
        ("http2_flow_control", |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("http2_flow_control", |id| frame(WINDOW_UPDATE, 0, id, &[0x7f, 0xff, 0xff, 0xff])),
        ("http2_flow_control", |_| frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("http2_flood", |_| frame(PING, 0, 0, &[0; 8]).repeat(10_001)),
        ("http2_flood", |_| frame(SETTINGS, 0, 0, &[]).repeat(10_001)),
    ];
    for (number, (expected, bytes)) in cases.into_iter().enumerate() {
        assert_eq!(kind(move |asked| send(bytes(asked.id))), expected, "case {number}");
    }
}

/// What is wrong with one answer ends that one only: its connection goes on.
#[test]
fn a_wrong_answer_spoils_no_other() {
    let cases: [Case; 10] = [
        ("invalid_http", |id| frame(HEADERS, WHOLE | END, id, &block(200, &[("A", "b")]))),
        ("invalid_http", |id| frame(HEADERS, WHOLE | END, id, &block(200, &[("a", "b\r\nc: d")]))),
        ("invalid_http", |id| frame(HEADERS, WHOLE | END, id, &block(200, &[(":path", "/")]))),
        ("invalid_http", |id| frame(HEADERS, WHOLE | END, id, &block(200, &[])[1..])),
        ("invalid_http", |id| frame(HEADERS, WHOLE, id, &[0x08, 3, b'1', b'0', b'1'])),
        ("short_body", |id| frame(HEADERS, WHOLE | END, id, &block(200, &[("content-length", "5")]))),
        ("invalid_http", |id| {
            let head = frame(HEADERS, WHOLE, id, &block(200, &[("content-length", "1")]));
            [head, frame(DATA, END, id, b"two")].concat()
        }),
        ("http2_reset", |id| frame(RST_STREAM, 0, id, &2_u32.to_be_bytes())),
        ("http2_refused", |id| frame(RST_STREAM, 0, id, &7_u32.to_be_bytes())),
        ("body_too_large", |id| {
            let piece = frame(DATA, 0, id, &[0; 16 * 1024]);
            [frame(HEADERS, WHOLE, id, &[0x88]), piece.repeat(65)].concat()
        }),
    ];
    for (number, (expected, bytes)) in cases.into_iter().enumerate() {
        let kinds = kinds(20, move |asked| {
            // One read brings a bad answer and a good one.
            send(if asked.number % 2 == 0 { bytes(asked.id) } else { answer(asked.id, "ok") })
        });
        assert_eq!(kinds, BTreeMap::from([(expected.to_owned(), 10), (String::new(), 10)]), "case {number}");
    }
}

/// A head without end, in one frame after the other, costs a bounded amount of memory and time.
#[test]
fn heads_are_bounded() {
    let endless = |asked: &Asked| {
        let piece = frame(CONTINUATION, 0, asked.id, &[0; 16 * 1024]);
        send([frame(HEADERS, 0, asked.id, &[0x88]), piece.repeat(20)].concat())
    };
    assert_eq!(kind(endless), "header_too_large");
    let empty = |asked: &Asked| {
        send([frame(HEADERS, 0, asked.id, &[0x88]), frame(CONTINUATION, 0, asked.id, b"").repeat(300)].concat())
    };
    assert_eq!(kind(empty), "header_too_large");
    // A bomb: one long field in the table, and a byte for each time it is repeated.
    let bomb = |asked: &Asked| {
        let long = [&[0x40, 1, b'a', 0x7f, 0xd9, 0x1c][..], &[b'x'; 3800]];
        let block = [&[0x88][..], &long.concat(), &[0xbe; 12_000]].concat();
        send(frame(HEADERS, WHOLE | END, asked.id, &block))
    };
    assert_eq!(kind(bomb), "header_too_large");
}

/// A stream that takes too long is cancelled; the connection and the others go on.
#[test]
fn a_timeout_cancels_its_stream_only() {
    let (port, script) = serve(&[], |asked| match asked.nth % 4 {
        1 => vec![],
        2 => send(frame(HEADERS, WHOLE, asked.id, &[0x88])),
        _ => send(answer(asked.id, "")),
    });
    let mut plan = streams(port, 8, 600);
    plan["timeout_ns"] = json!(100 * MS);
    let written = run(&plan);
    let errors = written.errors();
    assert_eq!(script.seen.connections(), 1, "{errors:?}");
    assert!(errors["header_timeout"] > 3 && errors["body_timeout"] > 3 && errors[""] > 10, "{errors:?}");
    assert_eq!(script.resets.load(Ordering::SeqCst), errors["header_timeout"] + errors["body_timeout"]);
    let late = written.rows.iter().filter(|row| row["error"].text().ends_with("timeout"));
    assert!(late.clone().all(|row| (90 * MS..2_000 * MS).contains(&(row["end_ns"].int() - row["start_ns"].int()))));
}

/// After GOAWAY the streams that the server still serves end well, those above have their own kind, and the next request
/// takes a new connection. Nothing is sent twice.
#[test]
fn a_server_may_leave() {
    let (port, script) = serve(&[], |asked| match asked.nth {
        9 => {
            let leave = frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 0]);
            let rest: Vec<u8> = (0..5).flat_map(|nth| answer(2 * nth + 1, "")).collect();
            vec![Act::Send(leave), Act::Pause(20), Act::Send(rest)]
        }
        _ => vec![],
    });
    let written = run(&streams(port, 10, 300));
    let errors = written.errors();
    assert!(errors["http2_goaway"] == errors[""] && errors[""] > 10, "{errors:?}");
    assert_eq!(script.seen.connections(), written.rows.len().div_ceil(10));
    written.check_reached(script.seen.requests());
}

/// A connection that breaks takes all that was under way on it along, each by how far it had come.
#[test]
fn broken_connections_take_their_streams_along() {
    for (end, expected) in
        [(true, ["reset_before_headers", "reset_mid_body"]), (false, ["reset_before_headers", "short_body"])]
    {
        let (port, _) = serve(&[], move |asked| match asked.nth {
            9 => {
                let heads: Vec<u8> = (0..5).flat_map(|nth| frame(HEADERS, WHOLE, 2 * nth + 1, &[0x88])).collect();
                let last = if end { Act::Reset } else { Act::Close };
                vec![Act::Send(heads), Act::Pause(30), last]
            }
            _ => vec![],
        });
        let written = run(&streams(port, 10, 200));
        let errors = written.errors();
        assert_eq!(errors.keys().copied().collect::<Vec<_>>(), expected, "{errors:?}");
        assert!(errors.values().all(|count| *count >= 5), "{errors:?}");
    }
}

/// A server that speaks HTTP/1.1 only, or something else, is said to do so; users do not storm it.
#[test]
fn servers_without_http2_are_named() {
    let (port, ledger) = crate::server::serve(|_| vec![ok("hello")]);
    let written = run(&streams(port, 10, 600));
    assert_eq!(written.only_error(), "no_http2");
    assert!((1..=10).contains(&ledger.connections()), "{}", ledger.connections());
    let (port, _) = serve_raw(b"220 mail.example ESMTP ready\r\n");
    assert_eq!(run(&streams(port, 1, 50)).only_error(), "no_http2");
    let (port, _) = serve_raw(&frame(PING, 0, 0, &[0; 8]));
    assert_eq!(run(&streams(port, 1, 50)).only_error(), "http2_protocol");
}

fn serve_raw(bytes: &[u8]) -> (u16, ()) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, bytes) = (listener.local_addr().unwrap().port(), bytes.to_vec());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(&bytes);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (port, ())
}

/// Nothing listens: each user learns it, and there is no connection to share.
#[test]
fn refused_connections_are_refused_for_all() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let written = run(&streams(port, 10, 100));
    assert_eq!(written.only_error(), "connect_refused");
    assert!(written.rows.len() >= 10);
}

// --- What a plan may ask for beside streams -----------------------------------------------------------------------------

/// A step of a plan.
fn step(method: &str, path: &str) -> Value {
    json!({"endpoint": 0, "method": method, "path": path})
}

/// The fields of a request, by name.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Users that share a connection keep their cookies apart, also on the way of a redirect.
#[test]
fn cookies_belong_to_users_not_to_connections() {
    let (port, script) = serve(&[], |asked| {
        let path = field(&asked.head, ":path").unwrap_or_default();
        let own = field(&asked.head, "cookie").unwrap_or("none");
        if let Some(user) = path.strip_prefix("/login/") {
            let (cookie, location) = (format!("user={user}; Path=/"), format!("/home/{user}"));
            let head = block(302, &[("set-cookie", &cookie), ("location", &location), ("content-length", "0")]);
            return send(frame(HEADERS, WHOLE | END, asked.id, &head));
        }
        let right = path.strip_prefix("/home/").is_some_and(|user| own == format!("user={user}"));
        send(answer(asked.id, if right { "own" } else { "another's" }))
    });
    let mut plan = streams(port, 8, 150);
    let mut home = step("GET", "/home/{{user}}");
    home["check"] = json!({"body_contains": ["own"], "status": [[200, 200]]});
    let mut login = step("GET", "/login/{{user}}");
    login["check"] = home["check"].clone();
    plan["scenarios"][0]["steps"] = json!([login, home]);
    let written = run(&plan);
    assert_eq!((written.only_error(), script.seen.connections()), ("", 1));
    assert!(written.rows.len() > 50 && written.count("hops") > 20);
}

/// A step is tried again where the plan says so, by status and by what became of its stream; each attempt is a row.
#[test]
fn steps_are_tried_again() {
    let (port, script) = serve(&[], |asked| match asked.number % 3 {
        0 => send(frame(HEADERS, WHOLE | END, asked.id, &block(503, &[]))),
        1 => send(frame(RST_STREAM, 0, asked.id, &7_u32.to_be_bytes())),
        _ => send(answer(asked.id, "at last")),
    });
    let mut plan = streams(port, 1, 100);
    let mut again = step("GET", "/");
    again["retry"] = json!({"times": 2, "outcomes": ["error"], "status": [[503, 503]], "backoff_ns": [MS, MS],
        "factor": 1.0, "most_ns": MS});
    plan["scenarios"][0]["steps"] = json!([again]);
    let written = run(&plan);
    let errors = written.errors();
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), ["", "http2_refused", "status 503"], "{errors:?}");
    let (most, least) = (errors.values().max().unwrap(), errors.values().min().unwrap());
    assert!(*most > 3 && most - least <= 1, "{errors:?}");
    assert_eq!(script.seen.connections(), 1, "what becomes of a stream is not the connection's end");
}

/// Carries bytes both ways between two sockets, until both ends have closed.
fn carry<N: Read + Write + Send + 'static>(mut near: N, mut back: N, port: u16) {
    thread::spawn(move || {
        let mut far = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut into = far.try_clone().ok()?;
        thread::spawn(move || {
            let _ = std::io::copy(&mut near, &mut into);
            into.shutdown(Shutdown::Both)
        });
        std::io::copy(&mut far, &mut back).ok()
    });
}

/// Streams go over a Unix socket as over TCP.
#[test]
fn streams_go_over_unix_sockets() {
    let (port, script) = serve(&[], |asked| send(answer(asked.id, field(&asked.head, ":authority").unwrap())));
    let path = std::env::temp_dir().join(format!("surgeline-{}-http2.sock", std::process::id()));
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            carry(near.try_clone().unwrap(), near, port);
        }
    });
    let mut plan = streams(80, 20, 100);
    plan["target"]["host_header"] = json!("app.local");
    plan["target"]["addresses"] = json!([]);
    plan["connection"]["unix_socket"] = json!(path);
    plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["app.local"]});
    let written = run(&plan);
    std::fs::remove_file(&path).unwrap();
    assert_eq!((written.only_error(), script.seen.connections()), ("", 2));
    assert!(written.rows.len() > 40);
}

/// Connections with streams begin from each source address in turn.
#[test]
fn streams_begin_from_the_source_addresses() {
    let (port, _) = serve(&[], |asked| send(answer(asked.id, "x")));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = listener.local_addr().unwrap().port();
    let from = Arc::new(Mutex::new(Vec::new()));
    let seen = from.clone();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            seen.lock().unwrap().push(near.peer_addr().unwrap().ip().to_string());
            carry(near.try_clone().unwrap(), near, port);
        }
    });
    let mut plan = streams(relay, 40, 60);
    plan["connection"]["source_addresses"] = json!(["127.0.0.2", "127.0.0.3"]);
    assert_eq!(run(&plan).only_error(), "");
    let mut from = from.lock().unwrap().clone();
    from.sort();
    assert_eq!(from, ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]);
}

/// A conversation goes over HTTP/1.1: a plan that wants both is refused with a sentence.
#[test]
fn conversations_do_not_go_with_streams() {
    let mut plan = streams(1, 1, 10);
    let names = json!({"first": "a", "next": "b", "whole": "c", "messages": 1, "text": null, "time_ns": null});
    for talk in [json!({"events": names}), json!({"socket": {"items": [{"close": {"code": 1000}}], "whole": "w"}})] {
        plan["scenarios"][0]["steps"] = json!([step("GET", "/"), step("GET", "/talk")]);
        plan["scenarios"][0]["steps"][1]["talk"] = talk;
        let error = surgeline_engine::run::Running::start(&plan.to_string()).err().expect("refused");
        assert!(error.contains("HTTP/2 does not carry conversations"), "{error}");
    }
}

// --- nginx ------------------------------------------------------------------------------------------------------------

struct Nginx {
    process: Child,
    folder: std::path::PathBuf,
    port: u16,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its worker where it is asked to; killed, it could not.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// nginx with HTTP/2, over TLS or with prior knowledge; None where there is none to test with.
fn nginx(tls: bool, more: &str) -> Option<Nginx> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let folder = std::env::temp_dir().join(format!(
        "surgeline-nginx-{}-{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::SeqCst)
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("large"), "0123456789".repeat(100_000)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = folder.display();
    let (tls, listen) =
        if tls { ("ssl_certificate cert.pem; ssl_certificate_key key.pem;", "ssl http2") } else { ("", "http2") };
    let text = format!(
        "daemon off; worker_processes 1; error_log stderr crit; pid {at}/pid; events {{ worker_connections 256; }}
         http {{ access_log off; keepalive_requests 1000000;
           client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d;
           scgi_temp_path {at}/e; client_max_body_size 10m;
           server {{ listen 127.0.0.1:{port} {listen}; {tls} root {at}; {more}
             location /hello {{ return 200 hello; }} location /put {{ proxy_pass http://127.0.0.1:1; }} }} }}"
    );
    std::fs::write(folder.join("nginx.conf"), text).unwrap();
    let command = ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|name| {
        Command::new(name)
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stderr(Stdio::null())
            .spawn()
            .ok()
    });
    let Some(process) = command else {
        eprintln!("skipped: there is no nginx to test against (Debian: nginx-light)");
        return None;
    };
    let nginx = Nginx { process, folder, port };
    let until = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nginx does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    Some(nginx)
}

fn against_nginx(tls: bool) -> Option<Written> {
    let nginx = nginx(tls, "")?;
    let mut plan = streams(nginx.port, 25, 400);
    if tls {
        plan["target"]["scheme"] = json!("https");
        plan["target"]["sni"] = json!("localhost");
        plan["target"]["ca_file"] = json!(nginx.folder.join("cert.pem"));
    }
    plan["scenarios"][0]["steps"] = json!([
        {"endpoint": 0, "method": "GET", "path": "/hello", "check": {"body_contains": ["hello"], "header": [["server", "nginx"]]}},
        {"endpoint": 0, "method": "GET", "path": "/large", "check": {"size": [1_000_000, 1_000_000]}},
        {"endpoint": 0, "method": "GET", "path": "/{{seq}}", "check": {"status": [[404, 404]]}},
        {"endpoint": 0, "method": "HEAD", "path": "/large", "check": {"size": [0, 0]}},
        {"endpoint": 0, "method": "POST", "path": "/put", "body": "x".repeat(300_000), "check": {"status": [[502, 502]]}}]);
    Some(run(&plan))
}

/// A server that is used everywhere understands us, and we it.
#[test]
fn nginx_over_tls() {
    let Some(written) = against_nginx(true) else { return };
    assert_eq!(written.only_error(), "");
    assert!(written.rows.len() > 25, "{}", written.rows.len());
    assert_eq!(written.rows.iter().filter(|row| row["tls_ns"].int() > 0).count(), 3);
}

/// The same with prior knowledge, in the clear.
#[test]
fn nginx_with_prior_knowledge() {
    let Some(written) = against_nginx(false) else { return };
    assert_eq!(written.only_error(), "");
    assert_eq!(written.rows.iter().filter(|row| row["connect_ns"].int() > 0).count(), 3);
}

/// nginx without HTTP/2 says so in the handshake.
#[test]
fn nginx_without_http2() {
    let Some(nginx) = nginx(true, "") else { return };
    let path = nginx.folder.join("nginx.conf");
    let text = std::fs::read_to_string(&path).unwrap().replace("ssl http2", "ssl");
    std::fs::write(path, text).unwrap();
    let _ = Command::new("kill").args(["-HUP", &nginx.process.id().to_string()]).status();
    thread::sleep(Duration::from_millis(500));
    let mut plan = streams(nginx.port, 3, 100);
    plan["target"]["scheme"] = json!("https");
    plan["target"]["sni"] = json!("localhost");
    plan["target"]["insecure"] = json!(true);
    assert_eq!(run(&plan).only_error(), "no_http2");
}

/// Behind a proxy, streams go through its tunnel: one question to it per connection.
#[test]
fn nginx_through_a_tunnel() {
    let Some(nginx) = nginx(true, "") else { return };
    let (proxy, asked) = crate::ways::tunnel_proxy(&["HTTP/1.1 200 on\r\n\r\n"], nginx.port);
    let mut plan = streams(nginx.port, 25, 300);
    plan["target"]["scheme"] = json!("https");
    plan["target"]["sni"] = json!("localhost");
    plan["target"]["ca_file"] = json!(nginx.folder.join("cert.pem"));
    plan["target"]["addresses"] = json!([]);
    plan["connection"]["proxy"] = json!({"addresses": ["127.0.0.1"], "port": proxy});
    plan["scenarios"][0]["steps"][0]["path"] = json!("/hello");
    plan["scenarios"][0]["steps"][0]["check"] = json!({"body_contains": ["hello"]});
    let written = run(&plan);
    assert_eq!(written.only_error(), "");
    assert!(written.rows.len() > 50 && written.rows.iter().all(|row| row["protocol"].text() == "HTTP/2"));
    assert_eq!(asked.lock().unwrap().len(), 3);
}
