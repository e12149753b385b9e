//! What must hold of whatever bytes come in: each function takes some, and panics where the engine does not keep its word.
//!
//! Three doors lead here. `cargo +nightly fuzz run --fuzz-dir crates/fuzz TARGET crates/fuzz/corpus/TARGET` searches with
//! a fuzzer for as long as it is let. `cargo run -p surgeline-fuzz --bin TARGET -- FILE …` tries files, such as one that
//! the fuzzer has found. `tests/short.rs` tries the corpus and what a seeded generator makes of it, in every build.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use surgeline_engine::conn::{Exchange, Payload};
use surgeline_engine::decode::{BadEncoding, undo};
use surgeline_engine::events::{EventStream, LONGEST_MESSAGE};
use surgeline_engine::h2::Session;
use surgeline_engine::hpack::{Decoder, TABLE_SIZE};
use surgeline_engine::http1::{Chunks, LONGEST_HEAD, each_header, parse_head};
use surgeline_engine::outcome::Kind;
use surgeline_engine::plan::Plan;
use surgeline_engine::schedule::SplitMix64;
use surgeline_engine::template::{Filling, Place, Scope, Slot, Template};
use surgeline_engine::websocket::{self, Incoming, Reader};

/// Tries each of the files that the command line names.
pub fn replay(target: impl Fn(&[u8])) -> io::Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    for file in &files {
        target(&std::fs::read(file)?);
    }
    println!("{} files tried", files.len());
    Ok(())
}

/// What this thread has had of the CPU: what others do on the machine is not in it.
fn cpu_time() -> Duration {
    let had = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(had.tv_sec.unsigned_abs(), had.tv_nsec.unsigned_abs() as u32)
}

/// A plan is compiled or refused with a sentence, in bounded time.
pub fn plan(data: &[u8]) {
    compile_and_fill(&String::from_utf8_lossy(data), &mut SplitMix64::new(1));
}

/// Compiles a plan and fills in every request of it, which must be one; whether it was a plan.
pub fn compile_and_fill(text: &str, draws: &mut SplitMix64) -> bool {
    let begun = cpu_time();
    let compiled = Plan::parse(text).and_then(Plan::compile);
    let took = cpu_time() - begun;
    assert!(took < Duration::from_secs(5), "compiling took {took:?}: {text}");
    let program = match compiled {
        Ok(program) => program,
        Err(sentence) => {
            assert!(!sentence.trim().is_empty());
            return false;
        }
    };
    let slots = vec![Slot { set: true, text: b"a\"\r\n{{\xff".to_vec() }; program.slots];
    let mut out = Vec::new();
    for step in &program.steps {
        let mut filling = Filling { slots: &slots, draws, seq: -1, user: i64::MAX, iteration: 0 };
        let path = step.request.fill(&mut filling, b"k=v", &mut out).expect("every variable is set");
        let line = out.split(|byte| *byte == b'\r').next().unwrap_or_default();
        assert!(path.end <= line.len() && line.ends_with(b" HTTP/1.1"), "{text}");
        assert!(line.iter().all(|byte| (0x20..=0x7e).contains(byte)), "{text}");
        let head_end = out.windows(4).position(|end| end == b"\r\n\r\n").expect("a head ends");
        assert!(out[..head_end].split(|byte| *byte == b'\n').all(|line| !line.is_empty()), "{text}");
        assert!(step.think.draw(draws) >= 0);
    }
    assert!(program.pick_scenario(draws) < program.scenarios.len());
    true
}

/// A template is compiled for each place or refused; filled, nothing in it breaks out of its place.
pub fn template(data: &[u8]) {
    let scope = Scope {
        constants: HashMap::from([("shelf".to_owned(), "no\"v\r\nels".to_owned())]),
        slots: HashMap::from([("id".to_owned(), 0)]),
        columns: HashMap::from([("users.name".to_owned(), (0, 0)), ("users.pass word".to_owned(), (0, 1))]),
        ..Scope::default()
    };
    scope.new_slot();
    let text = String::from_utf8_lossy(data);
    let mut draws = SplitMix64::new(9);
    for place in [Place::Path, Place::Header, Place::Json, Place::Form, Place::Plain] {
        let Ok(template) = Template::compile(&text, place, &scope) else { continue };
        let slots = vec![Slot { set: true, text: b"\"\\\r\n\x00 /?".to_vec() }; scope.next_slot.get()];
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 1, user: 2, iteration: 3 };
        let mut out = Vec::new();
        template.fill(&mut filling, &mut out).expect("every variable is set");
        match place {
            Place::Path => assert!(out.iter().all(|byte| (0x21..=0x7e).contains(byte)), "{text}"),
            Place::Header => assert!(!out.contains(&b'\n') && !out.contains(&b'\r'), "{text}"),
            _ => {}
        }
    }
}

/// A head says the same whatever follows it, and says nothing while it is cut; its parts lie within it.
pub fn head(data: &[u8]) {
    for bodyless in [false, true] {
        let Ok(Some(head)) = parse_head(data, bodyless) else { continue };
        assert!(head.length <= data.len() && (100..1000).contains(&head.status));
        for part in [&head.location, &head.server_timing].into_iter().flatten() {
            assert!(part.start <= part.end && part.end <= head.length);
        }
        let whole = &data[..head.length];
        assert_eq!(parse_head(whole, bodyless), Ok(Some(head.clone())));
        for cut in [0, head.length / 2, head.length - 1] {
            assert!(!matches!(parse_head(&whole[..cut], bodyless), Ok(Some(_))), "a head ended at {cut}");
        }
        let mut seen = 0;
        each_header(whole, |name, _| seen += usize::from(!name.is_empty()));
        assert!(seen <= whole.len());
    }
}

/// A chunked body is the same however the network cut it.
pub fn chunks(data: &[u8]) {
    let mut body = Vec::new();
    let ended = Chunks::default().read(data, |part| body.extend_from_slice(part));
    assert!(body.len() <= data.len());
    for size in [1, 2, 7] {
        let (mut chunks, mut pieces, mut at, mut end) = (Chunks::default(), Vec::new(), 0, Ok(None));
        for part in data.chunks(size) {
            end = chunks.read(part, |part| pieces.extend_from_slice(part)).map(|end| end.map(|end| at + end));
            if !matches!(end, Ok(None)) {
                break;
            }
            at += part.len();
        }
        assert_eq!(end, ended, "cut in pieces of {size}");
        if ended.is_ok() {
            assert_eq!(pieces, body, "cut in pieces of {size}");
        }
    }
}

/// What ended an exchange: whose it was, why, its status, and the length of its body.
type End = (u32, Option<Kind>, u16, u64);

/// Bytes of an answer's body that are kept, and that it may have.
const KEPT: usize = 100;
const MOST_BODY: u64 = 10_000;

/// Frames of a server say the same however the network cut them; each exchange ends once, and nothing grows without bound.
pub fn frames(data: &[u8]) {
    let whole = ends(data, data.len().max(1));
    for size in [1, 7, 9, 100] {
        assert_eq!(ends(data, size), whole, "cut in pieces of {size}");
    }
}

/// How four exchanges end on a connection on which this comes in pieces, and then nothing more.
fn ends(data: &[u8], size: usize) -> Vec<End> {
    let texts: [&[u8]; 2] =
        [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"];
    let mut session = Session::new(10, false);
    session.establish();
    for owner in 0..4 {
        let exchange = Exchange { owner, begin: 0, deadline: 1000, keep: KEPT, bodyless: owner == 3, piecewise: false };
        session.submit(Payload::Shared(texts[owner as usize % 2]), &mut Vec::new(), exchange, owner == 0);
    }
    let mut ended = Vec::new();
    for piece in data.chunks(size) {
        session.written(1);
        if let Err(kind) = take(&mut session, piece, &mut ended) {
            session.fail(|_, _| kind);
            break;
        }
        // What it answers to so many bytes is not more than a multiple of them.
        assert!(session.out.len() <= 64 * (data.len() + 100), "{} bytes to send", session.out.len());
    }
    session.fail(|_, _| Kind::ResetBeforeHeaders);
    take(&mut session, b"", &mut ended).expect("a dead connection only tells");
    let mut owners: Vec<u32> = ended.iter().map(|(owner, ..)| *owner).collect();
    owners.sort_unstable();
    assert_eq!((owners, session.in_flight()), (vec![0, 1, 2, 3], 0));
    ended.sort_by_key(|(owner, ..)| *owner);
    ended
}

fn take(session: &mut Session, piece: &[u8], ended: &mut Vec<End>) -> Result<(), Kind> {
    let mut at = 0;
    while let Some(end) = session.next(piece, &mut at, 1, MOST_BODY)? {
        assert!(end.body.is_none_or(|body| body.start <= body.end && body.end <= piece.len()));
        let stream = session.stream(end.slot);
        assert!(stream.body.bytes().len() <= KEPT && stream.head.len() <= 2 * LONGEST_HEAD);
        assert!(end.error.is_some() || (200..1000).contains(&stream.status), "{}", stream.status);
        ended.push((stream.exchange.owner, end.error, stream.status, stream.body_length));
        session.release(end.slot);
    }
    Ok(())
}

/// Blocks of fields are decoded or refused: each field lies in what was written, no longer than its bytes can make it, and
/// what one block leaves in the table cannot break the next.
pub fn fields(data: &[u8]) {
    let mut decoder = Decoder::default();
    for block in data.split_inclusive(|byte| *byte == 0xff).take(100) {
        let (mut rest, mut text, mut first) = (block, Vec::new(), true);
        loop {
            let (before, from) = (rest.len(), text.len());
            match decoder.next(&mut rest, first, &mut text) {
                Ok(Some(field)) => {
                    assert!(rest.len() < before, "a field of no bytes");
                    assert_eq!(field.begin, from);
                    let line = &text[field.begin..];
                    assert!(line.len() >= field.name + 4 && line.ends_with(b"\r\n"), "{line:?}");
                    assert_eq!(&line[field.name..field.name + 2], b": ");
                    // From the table, or from the block: a symbol has five bits at least.
                    assert!(line.len() <= 2 * TABLE_SIZE + 2 * (before - rest.len()) + 4, "{} bytes", line.len());
                    if !field.malformed {
                        let name = &line[..field.name];
                        assert!(!name.iter().any(u8::is_ascii_uppercase) && !name.contains(&b' '), "{name:?}");
                        let value = &line[field.name + 2..line.len() - 2];
                        assert!(!value.contains(&b'\n') && !value.contains(&b'\r'), "{value:?}");
                    }
                    first = false;
                }
                Ok(None) => break assert!(rest.is_empty()),
                Err(_) => return,
            }
        }
    }
}

/// The key that the corpus answers: the one of RFC 6455 section 1.3.
const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// A WebSocket server is believed only where it answers the key; what it says then is the same however the network cut it.
pub fn socket(data: &[u8]) {
    let mut frames = data;
    if let Ok(Some(head)) = parse_head(data, false) {
        let (said, rest) = data.split_at(head.length);
        if websocket::accepts(said, KEY) {
            assert!(!websocket::accepts(said, b"AAAAAAAAAAAAAAAAAAAAAA=="), "the answer to another key");
            let mut accept = Vec::new();
            each_header(said, |name, value| {
                if name.eq_ignore_ascii_case("sec-websocket-accept") {
                    accept.push(value.to_vec());
                }
            });
            assert!(accept.contains(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_vec()));
        }
        frames = rest;
    }
    let whole = said(frames, frames.len().max(1));
    for size in [1, 2, 9, 100] {
        assert_eq!(said(frames, size), whole, "cut in pieces of {size}");
    }
    assert!(whole.0.iter().map(String::len).sum::<usize>() <= 40 * (frames.len() + 1));
}

/// What comes of frames in pieces of this size: what was told, and why it ended before them.
fn said(frames: &[u8], size: usize) -> (Vec<String>, Option<Kind>) {
    let (mut reader, mut told) = (Reader::default(), Vec::new());
    for piece in frames.chunks(size) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    if let Incoming::Message(message) = incoming {
                        assert!(message.len() <= LONGEST_MESSAGE);
                    }
                    told.push(format!("{incoming:?}"));
                }
                Err(kind) => return (told, Some(kind)),
            }
        }
    }
    (told, None)
}

/// Messages of a stream of events are the same however the network cut it, and the same that a reader of whole lines finds.
pub fn events(data: &[u8]) {
    let whole = heard(data, data.len().max(1));
    for size in [1, 2, 7, 100] {
        assert_eq!(heard(data, size), whole, "cut in pieces of {size}");
    }
    if data.len() < LONGEST_MESSAGE {
        assert_eq!(whole, (by_lines(data), None));
    }
}

fn heard(data: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<Kind>) {
    let (mut stream, mut messages) = (EventStream::default(), Vec::new());
    for piece in data.chunks(size) {
        if let Err(kind) = stream.read(piece, |message| messages.push(message.to_vec())) {
            return (messages, Some(kind));
        }
    }
    (messages, None)
}

/// The messages by the letter of WHATWG HTML section 9.2.6, with the whole stream at hand.
fn by_lines(data: &[u8]) -> Vec<Vec<u8>> {
    let mut text = Vec::new();
    for byte in data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data) {
        if *byte == b'\n' && text.last() == Some(&b'\r') {
            text.pop();
        }
        text.push(*byte);
    }
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n' || *byte == b'\r').collect();
    // What no line break ends is no line.
    lines.pop();
    let (mut messages, mut message) = (Vec::new(), None::<Vec<u8>>);
    for line in lines {
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &b""[..]),
        };
        if line.is_empty() {
            messages.extend(message.take());
        } else if field == b"data" {
            match &mut message {
                Some(text) => text.extend([b"\n", value].concat()),
                None => message = Some(value.to_vec()),
            }
        }
    }
    messages
}

/// Bytes that a packed body may become.
const MOST_UNPACKED: usize = 200_000;

/// A head, an empty line, a packed body: unpacked or refused, in bounded time and room, and the same each time.
pub fn codings(data: &[u8]) {
    let Some(end) = data.windows(4).position(|end| end == b"\r\n\r\n") else { return };
    let (head, body) = data.split_at(end + 4);
    let begun = cpu_time();
    let unpacked = undo(head, body, MOST_UNPACKED);
    let took = cpu_time() - begun;
    assert!(took < Duration::from_secs(5), "unpacking took {took:?}");
    let Ok(text) = unpacked else { return };
    let packed = !text.is_empty() && text != body;
    assert!(!packed || text.len() <= MOST_UNPACKED, "{} bytes", text.len());
    assert_eq!(undo(head, body, 2 * MOST_UNPACKED).as_deref(), Ok(&text[..]));
    if packed {
        assert_eq!(undo(head, body, text.len() - 1), Err(BadEncoding), "one byte less room");
    }
}
