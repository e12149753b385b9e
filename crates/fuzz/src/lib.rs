//! What must hold of whatever bytes come in: each function takes some, and panics where the engine does not keep its word.
//!
//! Three doors lead here. `cargo +nightly fuzz run --fuzz-dir crates/fuzz TARGET crates/fuzz/corpus/TARGET` searches with
//! a fuzzer for as long as it is let. `cargo run -p surgeline-fuzz --bin TARGET -- FILE …` tries files, such as one that
//! the fuzzer has found. `tests/short.rs` tries the corpus and what a seeded generator makes of it, in every build.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use surgeline_engine::http1::{Chunks, each_header, parse_head};
use surgeline_engine::plan::Plan;
use surgeline_engine::schedule::SplitMix64;
use surgeline_engine::template::{Filling, Place, Scope, Slot, Template};

/// Tries each of the files that the command line names.
pub fn replay(target: impl Fn(&[u8])) -> io::Result<()> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    for file in &files {
        target(&std::fs::read(file)?);
    }
    println!("{} files tried", files.len());
    Ok(())
}

/// A plan is compiled or refused with a sentence, in bounded time.
pub fn plan(data: &[u8]) {
    compile_and_fill(&String::from_utf8_lossy(data), &mut SplitMix64::new(1));
}

/// Compiles a plan and fills in every request of it, which must be one; whether it was a plan.
pub fn compile_and_fill(text: &str, draws: &mut SplitMix64) -> bool {
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
