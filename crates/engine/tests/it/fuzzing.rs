//! Plans and templates that nobody meant: whatever comes in, the compiler says what is wrong with it or makes something
//! that can be sent, in bounded time, and never breaks off.
//!
//! The corpus lies in `tests/corpus`; it is mutated by a seeded generator, so a failure comes again. More rounds than the
//! few of every build: `SURGELINE_FUZZ_ROUNDS=1000000 cargo test --release fuzzing`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use surgeline_engine::plan::Plan;
use surgeline_engine::schedule::SplitMix64;
use surgeline_engine::template::{Filling, Place, Scope, Slot, Template};

const PLAN: &str = include_str!("../corpus/everything.json");
const TEMPLATES: &str = include_str!("../corpus/templates.txt");

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
fn mutated(text: &str, draws: &mut SplitMix64) -> String {
    let mut bytes = text.as_bytes().to_vec();
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
    String::from_utf8_lossy(&bytes).into_owned()
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

/// Compiles a plan and fills in every request of it; whether it was one.
fn compile_and_fill(text: &str, draws: &mut SplitMix64) -> bool {
    let begun = Instant::now();
    let compiled = Plan::parse(text).and_then(Plan::compile);
    assert!(begun.elapsed() < Duration::from_secs(5), "compiling took {:?}: {text}", begun.elapsed());
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
        let line = out.split(|byte| *byte == b'\r').next().unwrap();
        assert!(path.end <= line.len() && line.ends_with(b" HTTP/1.1"), "{text}");
        assert!(line.iter().all(|byte| (0x20..=0x7e).contains(byte)), "{text}");
        let head_end = out.windows(4).position(|end| end == b"\r\n\r\n").expect("a head ends");
        assert!(out[..head_end].split(|byte| *byte == b'\n').all(|line| !line.is_empty()), "{text}");
        assert!(step.think.draw(draws) >= 0);
    }
    assert!(program.pick_scenario(draws) < program.scenarios.len());
    true
}

/// The plan of the corpus is one, and what becomes of it by chance is one or is refused.
#[test]
fn plans_are_compiled_or_refused() {
    let mut draws = SplitMix64::new(4);
    assert!(compile_and_fill(PLAN, &mut draws), "{:?}", Plan::parse(PLAN).and_then(Plan::compile).err());
    let document: Value = serde_json::from_str(PLAN).unwrap();
    let mut whole = 0;
    for _ in 0..rounds(1500) {
        let text = match below(&mut draws, 3) {
            0 => mutated(PLAN, &mut draws),
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

/// A template is compiled for each place or refused; filled, nothing in it breaks out of its place.
#[test]
fn templates_are_compiled_or_refused() {
    let mut draws = SplitMix64::new(9);
    let scope = Scope {
        constants: HashMap::from([("shelf".to_owned(), "no\"v\r\nels".to_owned())]),
        slots: HashMap::from([("id".to_owned(), 0)]),
        columns: HashMap::from([("users.name".to_owned(), (0, 0)), ("users.pass word".to_owned(), (0, 1))]),
        ..Scope::default()
    };
    scope.new_slot();
    let lines: Vec<&str> = TEMPLATES.lines().collect();
    let mut whole = 0;
    for _ in 0..rounds(5000) {
        let text = mutated(lines[below(&mut draws, lines.len())], &mut draws);
        for place in [Place::Path, Place::Header, Place::Json, Place::Form, Place::Plain] {
            let Ok(template) = Template::compile(&text, place, &scope) else { continue };
            whole += 1;
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
    assert!(whole > 1000, "only {whole} templates were whole");
}
