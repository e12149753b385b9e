//! The corpus, and what a seeded generator makes of it: a failure comes again. More rounds than the few of every build:
//! `SURGELINE_FUZZ_ROUNDS=1000000 cargo test --release -p surgeline-fuzz`.

use std::path::Path;

use serde_json::Value;
use surgeline_engine::plan::Plan;
use surgeline_engine::schedule::SplitMix64;
use surgeline_fuzz::{chunks, codings, compile_and_fill, events, fields, frames, head, plan, socket, template};

const PLAN: &str = include_str!("../corpus/plan/everything.json");

/// What is put in the place of something else.
const JUNK: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "1",
    "1e308",
    "-1e-308",
    "9223372036854775807",
    "18446744073709551616",
    "\"\"",
    "\"x\"",
    "[]",
    "{}",
    "[[]]",
    "[1,2,3]",
    "\"{{\"",
    "\"{{id}}\"",
    "\"{{users.name}}\"",
    "\"{{int(1,2)}}\"",
    "\"{{text(10000)}}\"",
    "\"/\"",
    "\"//\"",
    "\"\\r\\nX: y\"",
    "\"\\u0000\"",
    "\"$..*\"",
    "\"$[?@.a==1]\"",
    "\"$['a','b'][1:2:-1]\"",
    "\"(a+)+$\"",
    "\"[\"",
    "\"\\\\p{L}{1000}\"",
    "\"GET\"",
    "\"open\"",
    "\"closed\"",
    "\"unique\"",
    "\"127.0.0.1\"",
];

fn rounds(few: u64) -> u64 {
    std::env::var("SURGELINE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

fn below(draws: &mut SplitMix64, end: usize) -> usize {
    draws.between(0, end.max(1) as i64 - 1) as usize
}

/// A few bytes changed, taken out, doubled, or taken from elsewhere.
fn mutated(seed: &[u8], draws: &mut SplitMix64) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    if bytes.is_empty() {
        bytes.push(b'{');
    }
    for _ in 0..=below(draws, 4) {
        let at = below(draws, bytes.len());
        let length = below(draws, 24).min(bytes.len() - at);
        match below(draws, 5) {
            0 => bytes[at] = draws.next_u64() as u8,
            1 => drop(bytes.drain(at..at + length)),
            2 => {
                let piece = bytes[at..at + length].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes.splice(at..at, b"{{}}\"\\[(%$,:"[below(draws, 12)..].iter().copied()).for_each(drop),
            _ => {
                let from = below(draws, bytes.len() - length + 1);
                let piece = bytes[from..from + length].to_vec();
                bytes.splice(at..at + length, piece);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

/// The files of a target's corpus.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// The corpus as it is, then changed by chance.
fn tried(target: &str, few: u64, what: impl Fn(&[u8])) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| what(seed));
    let mut draws = SplitMix64::new(9);
    for _ in 0..rounds(few) {
        what(&mutated(&seeds[below(&mut draws, seeds.len())], &mut draws));
    }
}

/// Whatever stands in a template, what is filled in stays in its place.
#[test]
fn templates_are_compiled_or_refused() {
    tried("template", 5000, template);
}

/// Whatever a server sends first, it is a head, the beginning of one, or refused.
#[test]
fn heads_are_read_or_refused() {
    tried("head", 20_000, head);
}

/// However a chunked body is made and cut, its bytes and its end are the same.
#[test]
fn chunks_are_the_same_however_they_are_cut() {
    tried("chunks", 20_000, chunks);
}

/// However an HTTP/2 server's frames are made and cut, each exchange ends once, and as it would have in one piece.
#[test]
fn frames_are_the_same_however_they_are_cut() {
    tried("frames", 20_000, frames);
}

/// Whatever stands in blocks of fields, they are decoded or refused.
#[test]
fn fields_are_decoded_or_refused() {
    tried("fields", 50_000, fields);
}

/// However a WebSocket server's handshake and frames are made and cut, the same comes of them.
#[test]
fn sockets_say_the_same_however_they_are_cut() {
    tried("socket", 20_000, socket);
}

/// However a stream of events is made and cut, its messages are those of its lines.
#[test]
fn events_are_the_same_however_they_are_cut() {
    tried("events", 20_000, events);
}

/// Whatever a packed body is, it is unpacked or refused.
#[test]
fn packed_bodies_are_unpacked_or_refused() {
    tried("codings", 5000, codings);
}

/// One part of the document replaced by junk, by another part, or taken out.
fn restructured(document: &Value, draws: &mut SplitMix64) -> Value {
    let mut paths = Vec::new();
    collect(document, &mut String::new(), &mut paths);
    let mut changed = document.clone();
    for _ in 0..=below(draws, 2) {
        let path = &paths[below(draws, paths.len())];
        let part = match below(draws, 4) {
            0 => document.pointer(&paths[below(draws, paths.len())]).cloned().unwrap_or(Value::Null),
            _ => serde_json::from_str(JUNK[below(draws, JUNK.len())]).unwrap(),
        };
        if let Some(place) = changed.pointer_mut(path) {
            *place = part;
        }
    }
    changed
}

fn collect(value: &Value, path: &mut String, paths: &mut Vec<String>) {
    paths.push(path.clone());
    let length = path.len();
    let mut inside = |key: String, value: &Value| {
        path.push('/');
        path.push_str(&key);
        collect(value, path, paths);
        path.truncate(length);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(number, item)| inside(number.to_string(), item)),
        Value::Object(items) => {
            items.iter().for_each(|(key, item)| inside(key.replace('~', "~0").replace('/', "~1"), item))
        }
        _ => {}
    }
}

/// The plan of the corpus is one, and what becomes of it by chance is one or is refused.
#[test]
fn plans_are_compiled_or_refused() {
    corpus("plan").iter().for_each(|file| plan(file));
    let mut draws = SplitMix64::new(4);
    assert!(compile_and_fill(PLAN, &mut draws), "{:?}", Plan::parse(PLAN).and_then(Plan::compile).err());
    let document: Value = serde_json::from_str(PLAN).unwrap();
    let mut whole = 0;
    for _ in 0..rounds(1500) {
        let text = match below(&mut draws, 3) {
            0 => String::from_utf8_lossy(&mutated(PLAN.as_bytes(), &mut draws)).into_owned(),
            _ => restructured(&document, &mut draws).to_string(),
        };
        whole += u32::from(compile_and_fill(&text, &mut draws));
    }
    assert!(whole > 20, "only {whole} plans were whole: mutations that break everything find nothing");
}

/// Deep and long expressions are refused or compiled, and do not break off.
#[test]
fn deep_expressions_do_not_break_the_compiler() {
    let mut draws = SplitMix64::new(1);
    let document: Value = serde_json::from_str(PLAN).unwrap();
    for deep in [
        format!("$[?{}@.a{}]", "(".repeat(20_000), ")".repeat(20_000)),
        format!("$[?{}@.a]", "!".repeat(20_000)),
        format!("${}", "[?@.a".repeat(5_000)),
        format!("${}", ".a".repeat(50_000)),
        format!("${}", "[0]".repeat(50_000)),
        format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000)),
        "(a{1000}){1000}".to_owned(),
        "{{".repeat(50_000),
    ] {
        for place in
            ["/scenarios/0/steps/0/extract/0/expr", "/scenarios/0/steps/0/extract/1/expr", "/scenarios/0/steps/1/body"]
        {
            let mut changed = document.clone();
            *changed.pointer_mut(place).unwrap() = Value::String(deep.clone());
            compile_and_fill(&changed.to_string(), &mut draws);
        }
    }
}
