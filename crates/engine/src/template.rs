//! Text with holes, compiled when the plan is loaded and filled for each request.
//!
//! A hole is `{{name}}` (a constant of the plan, or a variable that an earlier step extracted) or a generator:
//! `{{uuid}}`, `{{now}}`, `{{now_ms}}`, `{{now_iso}}`, `{{int(1,100)}}`, `{{choice(a,b,c)}}`, `{{text(12)}}`, `{{seq}}`,
//! `{{user}}`, `{{iteration}}`.
//! What is put into a hole is written the way its place needs it: percent-encoded in a path or a form, escaped in a JSON
//! string, without line breaks in a header. Constants are filled in at compile time; a template without other holes is
//! one piece of text. Filling allocates nothing beyond what the output buffer grows by.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;

use crate::clock;
use crate::schedule::SplitMix64;

/// What surrounds a template, hence how inserted text is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// A request's path and query: unreserved characters as they are, all others percent-encoded.
    Path,
    /// A header's value: control characters become spaces.
    Header,
    /// A JSON document: escaped inside of string literals, as it is outside of them.
    Json,
    /// `application/x-www-form-urlencoded`: as in a path.
    Form,
    /// Anything else: as it is.
    Plain,
}

/// The longest text that `text` makes.
const LONGEST_TEXT: usize = 10_000;
/// What it is made of: nothing that would have to be escaped anywhere.
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Writing {
    Percent,
    OneLine,
    JsonString,
    AsIs,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(Box<[u8]>),
    Variable {
        slot: usize,
        writing: Writing,
    },
    Choice(Vec<Box<[u8]>>),
    Int(i64, i64),
    Uuid,
    Now,
    NowMs,
    NowIso,
    /// So many random letters and digits.
    Letters(usize),
    Seq,
    User,
    Iteration,
}

/// The names a template may use.
#[derive(Default)]
pub struct Scope {
    /// Names whose text is known when the plan is loaded.
    pub constants: HashMap<String, String>,
    /// Names that a scenario's steps extract, with the slot their text is kept in.
    pub slots: HashMap<String, usize>,
    /// Names that stand for a column of a feed: the feed's number and the column's.
    pub columns: HashMap<String, (usize, usize)>,
    /// The columns that templates of the scenario use, with the slot their text is put into.
    pub cells: RefCell<HashMap<(usize, usize), usize>>,
    /// The first slot that nothing is kept in.
    pub next_slot: Cell<usize>,
}

impl Scope {
    /// A slot of its own.
    pub fn new_slot(&self) -> usize {
        self.next_slot.replace(self.next_slot.get() + 1)
    }
}

/// A variable's text; `set` is false until the step that extracts it has run in this iteration.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// Whether `text` means anything.
    pub set: bool,
    /// The text, its memory kept from iteration to iteration.
    pub text: Vec<u8>,
}

/// What the holes of one request are filled with.
pub struct Filling<'a> {
    /// The iteration's variables.
    pub slots: &'a [Slot],
    /// The user's own random numbers.
    pub draws: &'a mut SplitMix64,
    /// The request's number.
    pub seq: i64,
    /// The user's number.
    pub user: i64,
    /// The iteration's number.
    pub iteration: i64,
}

/// A variable that the template needs has not been extracted.
#[derive(Debug, PartialEq)]
pub struct Missing;

/// Compiled text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Compiles `source`. The error is a sentence that names the hole and what may stand there.
    pub fn compile(source: &str, place: Place, scope: &Scope) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut json = JsonStrings::default();
        let mut rest = source;
        while let Some(open) = rest.find("{{") {
            let literal = &rest[..open];
            let Some(length) = rest[open..].find("}}") else {
                return Err(format!("'{}' opens a hole that no }}}} closes", shorten(&rest[open..])));
            };
            push_literal(&mut text, literal, place);
            json.read(literal);
            let hole = rest[open + 2..open + length].trim();
            rest = &rest[open + length + 2..];
            let writing = match place {
                Place::Path | Place::Form => Writing::Percent,
                Place::Header => Writing::OneLine,
                Place::Json if json.inside => Writing::JsonString,
                Place::Json | Place::Plain => Writing::AsIs,
            };
            match compile_hole(hole, writing, scope)? {
                Part::Text(constant) => text.extend_from_slice(&constant),
                part => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(part);
                }
            }
        }
        push_literal(&mut text, rest, place);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(Self { parts })
    }

    /// The text, where it is the same each time.
    pub fn constant(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Appends the filled text to `out`. On `Missing`, `out` holds a part of it.
    pub fn fill(&self, filling: &mut Filling<'_>, out: &mut Vec<u8>) -> Result<(), Missing> {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Variable { slot, writing } => match &filling.slots[*slot] {
                    Slot { set: true, text } => write_as(*writing, text, out),
                    _ => return Err(Missing),
                },
                Part::Choice(texts) => {
                    out.extend_from_slice(&texts[filling.draws.between(0, texts.len() as i64 - 1) as usize]);
                }
                Part::Int(low, high) => push_int(out, filling.draws.between(*low, *high)),
                Part::Uuid => push_uuid(out, filling.draws),
                Part::Now => push_int(out, clock::wall() / clock::SECOND),
                Part::NowMs => push_int(out, clock::wall() / 1_000_000),
                Part::NowIso => push_iso(out, clock::wall() / 1_000_000),
                Part::Letters(length) => (0..*length).for_each(|_| {
                    out.push(LETTERS[filling.draws.between(0, LETTERS.len() as i64 - 1) as usize]);
                }),
                Part::Seq => push_int(out, filling.seq),
                Part::User => push_int(out, filling.user),
                Part::Iteration => push_int(out, filling.iteration),
            }
        }
        Ok(())
    }

    /// Puts another template behind this one.
    pub fn push(&mut self, other: Template) {
        for part in other.parts {
            match (self.parts.last_mut(), part) {
                (Some(Part::Text(mine)), Part::Text(text)) => *mine = [&**mine, &*text].concat().into(),
                (_, part) => self.parts.push(part),
            }
        }
    }

    /// A template that is this text, holes and all.
    pub fn literal(text: impl Into<Vec<u8>>) -> Self {
        Self { parts: vec![Part::Text(text.into().into())] }
    }
}

/// Whether the text read so far ends inside of a JSON string literal.
#[derive(Default)]
struct JsonStrings {
    inside: bool,
    escaped: bool,
}

impl JsonStrings {
    fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.inside => self.escaped = true,
                b'"' => self.inside = !self.inside,
                _ => {}
            }
        }
    }
}

fn compile_hole(hole: &str, writing: Writing, scope: &Scope) -> Result<Part, String> {
    if let Some(&slot) = scope.slots.get(hole) {
        return Ok(Part::Variable { slot, writing });
    }
    if let Some(text) = scope.constants.get(hole) {
        return Ok(Part::Text(written(writing, text.as_bytes())));
    }
    if let Some(&column) = scope.columns.get(hole) {
        let slot = *scope.cells.borrow_mut().entry(column).or_insert_with(|| scope.new_slot());
        return Ok(Part::Variable { slot, writing });
    }
    let (name, arguments) = match hole.split_once('(') {
        Some((name, rest)) if rest.ends_with(')') => {
            (name.trim(), rest[..rest.len() - 1].split(',').map(str::trim).collect::<Vec<_>>())
        }
        _ => (hole, Vec::new()),
    };
    match (name, arguments.as_slice()) {
        ("uuid", []) => Ok(Part::Uuid),
        ("now", []) => Ok(Part::Now),
        ("now_ms", []) => Ok(Part::NowMs),
        ("now_iso", []) => Ok(Part::NowIso),
        ("text", [length]) => match length.parse() {
            Ok(length) if (1..=LONGEST_TEXT).contains(&length) => Ok(Part::Letters(length)),
            _ => Err(format!("'{{{{{hole}}}}}' needs a length from 1 to {LONGEST_TEXT}")),
        },
        ("seq", []) => Ok(Part::Seq),
        ("user", []) => Ok(Part::User),
        ("iteration", []) => Ok(Part::Iteration),
        ("int", [low, high]) => match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if low <= high => Ok(Part::Int(low, high)),
            _ => Err(format!("'{{{{{hole}}}}}' needs two whole numbers, the lesser first")),
        },
        ("choice", texts) if texts.iter().any(|text| !text.is_empty()) => {
            Ok(Part::Choice(texts.iter().map(|text| written(writing, text.as_bytes())).collect()))
        }
        _ => Err(format!(
            "'{{{{{}}}}}' is neither a variable of the plan, nor extracted by a step of this scenario, nor one of uuid, \
             now, now_ms, now_iso, int(low,high), choice(a,b,…), text(length), seq, user, iteration",
            shorten(hole)
        )),
    }
}

/// Literal text is the plan's own and stays as it is; only what would break a request line is encoded in a path.
fn push_literal(out: &mut Vec<u8>, text: &str, place: Place) {
    match place {
        Place::Path => text.bytes().for_each(|byte| match byte {
            0x21..=0x7e => out.push(byte),
            _ => push_percent(out, byte),
        }),
        Place::Header => write_as(Writing::OneLine, text.as_bytes(), out),
        _ => out.extend_from_slice(text.as_bytes()),
    }
}

fn written(writing: Writing, text: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    write_as(writing, text, &mut out);
    out.into()
}

fn write_as(writing: Writing, text: &[u8], out: &mut Vec<u8>) {
    match writing {
        Writing::AsIs => out.extend_from_slice(text),
        Writing::OneLine => {
            out.extend(text.iter().map(|&byte| if byte < 0x20 && byte != b'\t' || byte == 0x7f { b' ' } else { byte }));
        }
        Writing::Percent => text.iter().for_each(|&byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            _ => push_percent(out, byte),
        }),
        Writing::JsonString => text.iter().for_each(|&byte| match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, byte);
            }
            _ => out.push(byte),
        }),
    }
}

fn push_percent(out: &mut Vec<u8>, byte: u8) {
    let digits = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    let digits = b"0123456789abcdef";
    out.extend_from_slice(&[digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
}

fn push_int(out: &mut Vec<u8>, value: i64) {
    write!(out, "{value}").expect("writing to a Vec does not fail");
}

/// Milliseconds since 1970 as `2026-11-23T06:28:01.250Z`.
fn push_iso(out: &mut Vec<u8>, ms: i64) {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // The civil calendar from days, with years that begin in March (Hinnant).
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1000)
        .expect("writing to a Vec does not fail");
}

/// Version 4, variant 1 of RFC 9562.
fn push_uuid(out: &mut Vec<u8>, draws: &mut SplitMix64) {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&draws.next_u64().to_le_bytes());
    bytes[8..].copy_from_slice(&draws.next_u64().to_le_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        push_hex(out, *byte);
    }
}

fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope {
            constants: HashMap::from([("city".into(), "Åbo \"x\"&y".into())]),
            slots: HashMap::from([("id".into(), 0)]),
            ..Scope::default()
        }
    }

    fn fill(source: &str, place: Place, id: &str) -> String {
        let slots = [Slot { set: true, text: id.into() }];
        let mut draws = SplitMix64::new(1);
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 7, user: 8, iteration: 9 };
        let mut out = Vec::new();
        Template::compile(source, place, &scope()).unwrap().fill(&mut filling, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Inserted text is written as its place needs it; the plan's own text stays.
    #[test]
    fn places_escape() {
        assert_eq!(
            fill("/a/{{id}}?q={{city}}&r=é", Place::Path, "1/2 ü"),
            "/a/1%2F2%20%C3%BC?q=%C3%85bo%20%22x%22%26y&r=%C3%A9"
        );
        assert_eq!(fill(r#"{"a":"{{id}}","b":{{id}}}"#, Place::Json, "q\"\n"), "{\"a\":\"q\\\"\\n\",\"b\":q\"\n}");
        assert_eq!(fill(r#"{"a\"{{id}}":"#, Place::Json, "\u{1}"), r#"{"a\"\u0001":"#);
        assert_eq!(fill("a={{id}}", Place::Form, "x y&"), "a=x%20y%26");
        assert_eq!(fill("v {{id}}", Place::Header, "a\r\nX: y"), "v a  X: y");
        assert_eq!(fill("{{ id }}{{seq}}/{{user}}/{{iteration}}", Place::Plain, "\r"), "\r7/8/9");
    }

    /// A template whose holes are all constants is one text.
    #[test]
    fn constants_fold() {
        let template = Template::compile("/x/{{city}}", Place::Path, &scope()).unwrap();
        assert_eq!(template.constant().unwrap(), b"/x/%C3%85bo%20%22x%22%26y");
        assert_eq!(Template::compile("", Place::Plain, &scope()).unwrap().constant(), Some(&b""[..]));
        assert_eq!(Template::compile("{{id}}", Place::Plain, &scope()).unwrap().constant(), None);
    }

    /// Generators stay in their ranges and forms.
    #[test]
    fn generators() {
        for _ in 0..50 {
            assert!((-3..=3).contains(&fill("{{int(-3, 3)}}", Place::Plain, "").parse::<i64>().unwrap()));
        }
        assert!(["a", "b%20c"].contains(&fill("{{choice(a,b c)}}", Place::Path, "").as_str()));
        let uuid = fill("{{uuid}}", Place::Plain, "");
        assert_eq!((uuid.len(), uuid.as_bytes()[14]), (36, b'4'));
        let text = fill("{{text(40)}}", Place::Path, "");
        assert!(text.len() == 40 && text.bytes().all(|byte| LETTERS.contains(&byte)));
        assert!(fill("{{now_iso}}", Place::Plain, "").starts_with("20"));
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_415_281_250, "2026-11-23T06:28:01.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            let mut out = Vec::new();
            push_iso(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
        assert!(fill("{{now}}", Place::Plain, "").parse::<i64>().unwrap() > 1_600_000_000);
    }

    /// A hole nobody can fill is refused with its text.
    #[test]
    fn unknown_holes_are_refused() {
        for source in
            ["{{nope}}", "{{int(2,1)}}", "{{int(a)}}", "{{choice()}}", "{{text(0)}}", "{{text(99999)}}", "{{id", "{{}}"]
        {
            let error = Template::compile(source, Place::Plain, &scope()).unwrap_err();
            assert!(error.contains("{{"), "{error}");
        }
    }

    /// A variable that no step has set yet is missing, not empty.
    #[test]
    fn unset_is_missing() {
        let template = Template::compile("{{id}}", Place::Plain, &scope()).unwrap();
        let mut draws = SplitMix64::new(1);
        let slots = [Slot::default()];
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        assert_eq!(template.fill(&mut filling, &mut Vec::new()), Err(Missing));
    }
}
