//! What an answer means for the scenario: whether it is right, what later steps take from it, where it redirects to,
//! which cookies it sets.
//!
//! Answers come from a program nobody here trusts. Nothing in them can do more than make a check fail: sizes are bounded,
//! expressions are compiled beforehand, and a redirect is followed within the target's own origin only.

use std::cell::OnceCell;

use jsonpath_rust::parser::model::{JpQuery, Segment, Selector};
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use regex::bytes::Regex;
use serde_json::Value;

use crate::clock::Ns;
use crate::http1;
use crate::jar;
use crate::outcome::{Kind, Reason};
use crate::plan::{CheckText, ExtractText, JsonRuleText, RuleName, Source, Target};
use crate::template::{Filling, Place, Scope, Slot, Template};

/// Bytes of a body that are kept for checks and extractors; what lies beyond is not seen by them.
pub const KEPT_BODY: usize = 16 * 1024 * 1024;
/// Bytes of all bodies that are kept at once for checks and extractors, on all threads, beside the first 16 KiB of each.
/// Eight of the longest, or a hundred of a megabyte; more than that is no plan of requests but of downloads, whose bodies
/// are better judged by their size. As memory it is what a run takes anyway.
pub const KEPT_BODIES: usize = 8 * KEPT_BODY;
/// The longest text a variable takes.
const LONGEST_VALUE: usize = 64 * 1024;

/// An answer, as checks and extractors look at it.
pub struct Answer<'a> {
    /// 100 to 999.
    pub status: u16,
    /// The whole head.
    pub head: &'a [u8],
    /// The body without its framing, as far as it was kept.
    pub body: &'a [u8],
    /// Length of the whole body, kept or not.
    pub length: u64,
    /// Whether more of the body came than was kept.
    pub cut: bool,
    /// From actual start to last byte.
    pub service: Ns,
    /// Whether the body is packed in a way that cannot be undone; what would look into it fails.
    pub unreadable: bool,
    parsed: OnceCell<Option<Value>>,
}

impl<'a> Answer<'a> {
    /// Nothing is parsed until somebody asks.
    pub fn new(status: u16, head: &'a [u8], body: &'a [u8], service: Ns) -> Self {
        let length = body.len() as u64;
        Self { status, head, body, length, cut: false, service, unreadable: false, parsed: OnceCell::new() }
    }

    /// The same, where more of the body came than was kept.
    pub fn with_length(self, length: u64) -> Self {
        Self { length, cut: (self.body.len() as u64) < length, ..self }
    }

    /// The document that the body is; None where it is none, or not all of it is there.
    fn json(&self) -> Option<&Value> {
        let parse = || if self.cut { None } else { serde_json::from_slice(self.body).ok() };
        self.parsed.get_or_init(parse).as_ref()
    }

    /// Whether a match that ends there is one in the whole body too: where that goes on, the end of what was kept is no
    /// end of a text.
    fn is_match(&self, end: usize) -> bool {
        !self.cut || end < self.body.len()
    }

    /// The first value of the header for which `pick` finds something.
    fn header<T>(&self, name: &str, pick: impl Fn(&'a [u8]) -> Option<T>) -> Option<T> {
        let mut found = None;
        http1::each_header(self.head, |own, value| {
            if found.is_none() && own.eq_ignore_ascii_case(name) {
                found = pick(value);
            }
        });
        found
    }
}

/// What a right answer looks like, compiled.
#[derive(Debug, Default)]
pub struct Check {
    status: Option<Vec<(u16, u16)>>,
    time: Option<(Ns, usize)>,
    size: Option<(u64, u64, usize)>,
    /// Texts that must be there (true) or must not.
    contains: Vec<(Template, bool, usize)>,
    regex: Vec<(Regex, usize)>,
    json: Vec<(JsonPath, Rule, usize)>,
    header: Vec<(String, Vec<u8>, usize)>,
    only_status: bool,
}

/// What a value in a JSON document is held to, compiled.
#[derive(Debug)]
enum Rule {
    /// Equal to it (true), or not.
    Equal(Value, bool),
    Exists(bool),
    Number(RuleName, f64),
}

impl Rule {
    fn compile(name: RuleName, value: &Value) -> Result<Self, String> {
        match (name, value, value.as_f64()) {
            (RuleName::Equals, value, _) => Ok(Self::Equal(value.clone(), true)),
            (RuleName::Not, value, _) => Ok(Self::Equal(value.clone(), false)),
            (RuleName::Exists, Value::Bool(wanted), _) => Ok(Self::Exists(*wanted)),
            (RuleName::Exists, ..) => Err("exists is true or false".into()),
            (name, _, Some(number)) => Ok(Self::Number(name, number)),
            (name, ..) => Err(format!("{} compares numbers", name.text())),
        }
    }

    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Exists(wanted), found) => found.is_some() == *wanted,
            (_, None) => false,
            (Self::Equal(wanted, equal), Some(found)) => same_json(found, wanted) == *equal,
            (Self::Number(name, wanted), Some(found)) => found.as_f64().is_some_and(|found| match name {
                RuleName::Above => found > *wanted,
                RuleName::Below => found < *wanted,
                RuleName::AtLeast => found >= *wanted,
                _ => found <= *wanted,
            }),
        }
    }
}

impl Check {
    /// Compiles a step's check; each part gets a number and its name, as it will stand in the samples, in `names`.
    pub fn compile(text: &CheckText, scope: &Scope, names: &mut Vec<String>) -> Result<Self, String> {
        let mut named = |name: String| {
            names.push(cut(&name, 120));
            names.len() - 1
        };
        let mut check = Self { status: text.status.clone(), ..Self::default() };
        check.time = text.time_ns.map(|longest| (longest, named("time".to_owned())));
        check.size = text.size.map(|(least, most)| (least, most, named("size".to_owned())));
        let contained = text.body_contains.iter().map(|source| (source, true, "contains"));
        for (source, wanted, word) in contained.chain(text.body_not.iter().map(|source| (source, false, "not"))) {
            let template =
                Template::compile(source, Place::Plain, scope).map_err(|error| format!("check body: {error}"))?;
            check.contains.push((template, wanted, named(format!("body {word} {source}"))));
        }
        for source in &text.body_regex {
            let compiled = regex(source).map_err(|error| format!("check body: {error}"))?;
            check.regex.push((compiled, named(format!("body regex {source}"))));
        }
        for rule in &text.json {
            let (path, name, value) = match rule {
                JsonRuleText::Rule(path, name, value) => (path, *name, value),
                JsonRuleText::Equal(path, value) => (path, RuleName::Equals, value),
            };
            let shown =
                if name == RuleName::Equals { format!("json {path}") } else { format!("json {path} {}", name.text()) };
            let said = |error| format!("check json: {error}");
            let compiled = JsonPath::compile(path).map_err(said)?;
            check.json.push((compiled, Rule::compile(name, value).map_err(said)?, named(shown)));
        }
        // Equality first, as in Python, so that both name the same one.
        check.json.sort_by_key(|(_, rule, _)| !matches!(rule, Rule::Equal(_, true)));
        for (name, part) in &text.header {
            check.header.push((name.clone(), part.clone().into_bytes(), named(format!("header {name}"))));
        }
        check.only_status =
            check.time.is_none() && check.size.is_none() && check.header.is_empty() && !check.needs_body();
        Ok(check)
    }

    /// Whether the check looks into bodies.
    pub fn needs_body(&self) -> bool {
        !self.contains.is_empty() || !self.regex.is_empty() || !self.json.is_empty()
    }

    /// Why the answer is wrong; `Reason::NONE` where it is right. The first part that fails gives the reason.
    #[inline]
    pub fn judge(&self, answer: &Answer<'_>, filling: &mut Filling<'_>, scratch: &mut Vec<u8>) -> Reason {
        let right = match &self.status {
            None => (200..400).contains(&answer.status),
            Some(ranges) => ranges.iter().any(|(from, to)| (*from..=*to).contains(&answer.status)),
        };
        if !right {
            return Reason::status(answer.status);
        }
        if self.only_status { Reason::NONE } else { self.judge_rest(answer, filling, scratch) }
    }

    fn judge_rest(&self, answer: &Answer<'_>, filling: &mut Filling<'_>, scratch: &mut Vec<u8>) -> Reason {
        if let Some((longest, number)) = self.time {
            if answer.service > longest {
                return Reason::check(number);
            }
        }
        if let Some((least, most, number)) = self.size {
            if !(least..=most).contains(&answer.length) {
                return Reason::check(number);
            }
        }
        for (name, part, number) in &self.header {
            if answer.header(name, |value| memchr::memmem::find(value, part)).is_none() {
                return Reason::check(*number);
            }
        }
        if answer.unreadable && self.needs_body() {
            return Reason::kind(Kind::BadEncoding);
        }
        // What was seen of a body that was cut may be enough to know; where it is not, nothing is held against the answer.
        let mut unseen = answer.cut && !self.json.is_empty();
        for (template, wanted, number) in &self.contains {
            scratch.clear();
            let filled = template.fill(filling, scratch).is_ok();
            let found = filled && memchr::memmem::find(answer.body, scratch).is_some();
            if filled && answer.cut && !found {
                unseen = true;
            } else if !filled || found != *wanted {
                return Reason::check(*number);
            }
        }
        for (regex, number) in &self.regex {
            match answer.cut {
                false if !regex.is_match(answer.body) => return Reason::check(*number),
                false => {}
                true => unseen |= !regex.find(answer.body).is_some_and(|found| answer.is_match(found.end())),
            }
        }
        if unseen {
            return Reason::kind(Kind::BodyNotKept);
        }
        for (path, rule, number) in &self.json {
            if !rule.holds(answer.json().and_then(|document| path.first(document))) {
                return Reason::check(*number);
            }
        }
        Reason::NONE
    }
}

/// What a later step takes from an answer, compiled.
#[derive(Debug)]
pub struct Extract {
    slot: usize,
    from: From,
}

#[derive(Debug)]
enum From {
    Json(JsonPath),
    Header(String),
    Regex(Regex),
    Cookie(String),
}

impl Extract {
    /// Compiles a step's extraction. The error is a sentence that names the expression.
    pub fn compile(text: &ExtractText, slot: usize) -> Result<Self, String> {
        let from = match text.from {
            Source::Json => {
                From::Json(JsonPath::compile(&text.expr).map_err(|e| format!("extract {}: {e}", text.var))?)
            }
            Source::Header => From::Header(text.expr.clone()),
            Source::Cookie => From::Cookie(text.expr.clone()),
            Source::Regex => From::Regex(regex(&text.expr).map_err(|error| format!("extract {}: {error}", text.var))?),
        };
        Ok(Self { slot, from })
    }

    /// Whether the extraction looks into bodies.
    pub fn needs_body(&self) -> bool {
        matches!(self.from, From::Json(_) | From::Regex(_))
    }

    /// Puts what it finds into its slot; false, and the slot unset, where it finds nothing.
    pub fn apply(&self, answer: &Answer<'_>, slots: &mut [Slot]) -> bool {
        let slot = &mut slots[self.slot];
        slot.text.clear();
        slot.set = match &self.from {
            From::Json(path) => match answer.json().and_then(|document| path.first(document)) {
                None | Some(Value::Null) => false,
                Some(Value::String(text)) => put(slot, text.as_bytes()),
                Some(other) => put(slot, other.to_string().as_bytes()),
            },
            From::Header(name) => answer.header(name, Some).is_some_and(|value| put(slot, value)),
            From::Regex(regex) => match regex.captures(answer.body) {
                Some(groups) if groups.get(0).is_some_and(|all| answer.is_match(all.end())) => {
                    // A group that took no part in the match is missing, not the whole match.
                    let found = groups.get(usize::from(groups.len() > 1));
                    found.is_some_and(|found| put(slot, found.as_bytes()))
                }
                _ => false,
            },
            From::Cookie(name) => {
                let own = |line| jar::parse(line).filter(|own| own.name == name.as_bytes());
                answer
                    .header("set-cookie", own)
                    .is_some_and(|own| own.lasts > 0 && !own.value.is_empty() && put(slot, own.value))
            }
        };
        slot.set
    }
}

fn regex(source: &str) -> Result<Regex, String> {
    Regex::new(source).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        format!("'{source}' is no regular expression: {reason}")
    })
}

fn put(slot: &mut Slot, text: &[u8]) -> bool {
    slot.text.extend_from_slice(&text[..text.len().min(LONGEST_VALUE)]);
    true
}

/// A compiled JSONPath. Paths of names and indices alone, which most are, are walked without the general machinery.
#[derive(Debug)]
enum JsonPath {
    Walk(Vec<Hop>),
    Query(Box<JpQuery>),
}

#[derive(Debug)]
enum Hop {
    Name(String),
    Index(i64),
}

impl JsonPath {
    fn compile(text: &str) -> Result<Self, String> {
        let query =
            parse_json_path(text).map_err(|_| format!("'{text}' is no JSONPath (RFC 9535), such as $.items[0].id"))?;
        let hops = query.segments.iter().map(|segment| match segment {
            Segment::Selector(Selector::Name(name)) => plain_name(name).map(Hop::Name),
            Segment::Selector(Selector::Index(index)) => Some(Hop::Index(*index)),
            _ => None,
        });
        Ok(match hops.collect() {
            Some(hops) => Self::Walk(hops),
            None => Self::Query(Box::new(query)),
        })
    }

    fn first<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        match self {
            Self::Walk(hops) => hops.iter().try_fold(document, |value, hop| match hop {
                Hop::Name(name) => value.as_object()?.get(name),
                Hop::Index(index) if *index >= 0 => value.as_array()?.get(*index as usize),
                Hop::Index(index) => {
                    let list = value.as_array()?;
                    list.get(list.len().checked_sub(index.unsigned_abs() as usize)?)
                }
            }),
            Self::Query(query) => Some(js_path_process(query, document).ok()?.into_iter().next()?.val()),
        }
    }
}

/// The name of a selector without its quotes; None where it has escapes, which the general machinery knows about.
fn plain_name(name: &str) -> Option<String> {
    let quoted = |quote| name.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let inner = quoted('\'').or(quoted('"')).unwrap_or(name);
    (!inner.contains(['\\', '\'', '"'])).then(|| inner.to_owned())
}

/// Equal as JSON: 1 is 1.0.
fn same_json(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same_json(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| same_json(value, other)))
        }
        _ => left == right,
    }
}

/// The path that a redirect leads to, if it leads to the target's own origin; `current` is the path it came from.
pub fn redirect_path(location: &[u8], current: &[u8], target: &Target) -> Result<Vec<u8>, Kind> {
    let location = location.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
    let scheme_end = location.iter().position(|byte| matches!(byte, b':' | b'/' | b'?'));
    let (scheme, rest) = match scheme_end {
        Some(end) if location[end] == b':' => (&location[..end], &location[end + 1..]),
        _ => (target.scheme().as_bytes(), location),
    };
    if !scheme.eq_ignore_ascii_case(target.scheme().as_bytes()) {
        return Err(Kind::RedirectRefused);
    }
    let path = if let Some(rest) = rest.strip_prefix(b"//") {
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'\\')).unwrap_or(rest.len());
        if !same_authority(&rest[..end], target) {
            return Err(Kind::RedirectRefused);
        }
        match rest[end..].first() {
            Some(b'/') => rest[end..].to_vec(),
            _ => [b"/", &rest[end..]].concat(),
        }
    } else if scheme_end.is_some_and(|end| location[end] == b':') {
        return Err(Kind::RedirectRefused); // "http:path" means nothing that everybody agrees on
    } else if rest.starts_with(b"/") {
        rest.to_vec()
    } else {
        let base = current.split(|byte| *byte == b'?').next().unwrap_or_default();
        match rest.first() {
            None => current.to_vec(),
            Some(b'?') => [base, rest].concat(),
            Some(_) => {
                let folder = base.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                [&base[..folder], rest].concat()
            }
        }
    };
    Ok(normal_path(&path))
}

fn same_authority(authority: &[u8], target: &Target) -> bool {
    let authority = authority.to_ascii_lowercase();
    let Ok(authority) = std::str::from_utf8(&authority) else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let port = if port.is_empty() { Ok(target.default_port()) } else { port.parse() };
    let bare = |host: &str| host.trim_matches(['[', ']']).to_ascii_lowercase();
    port == Ok(target.port) && bare(host) == bare(&target.host)
}

/// Without `.` and `..` segments and without bytes that a request line cannot hold.
fn normal_path(path: &[u8]) -> Vec<u8> {
    let query_at = path.iter().position(|byte| *byte == b'?').unwrap_or(path.len());
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path[..query_at].split(|byte| *byte == b'/').skip(1).collect();
    for (number, segment) in segments.iter().enumerate() {
        let last = number + 1 == segments.len();
        match *segment {
            b"." if last => kept.push(b""),
            b"." => {}
            b".." => {
                kept.pop();
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    let mut out = Vec::with_capacity(path.len());
    let joined = kept.iter().flat_map(|segment| [&b"/"[..], segment]).chain([&path[query_at..]]);
    for byte in joined.flatten() {
        match byte {
            0x21..=0x7e => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    if !out.starts_with(b"/") {
        out.insert(0, b'/');
    }
    out
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::SplitMix64;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nX-A: one\r\nSet-Cookie: sid=abc; Path=/\r\nSet-Cookie: t=1\r\n\
        Set-Cookie: gone=; Max-Age=0\r\n\r\n";

    fn judge(check: &str, status: u16, body: &str) -> String {
        let text: CheckText = serde_json::from_str(check).unwrap();
        let mut names = Vec::new();
        let check = Check::compile(&text, &Scope::default(), &mut names).unwrap();
        let mut draws = SplitMix64::new(0);
        let mut filling = Filling { slots: &[], draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        let answer = Answer::new(status, HEAD, body.as_bytes(), 1000);
        check.judge(&answer, &mut filling, &mut Vec::new()).text(&names)
    }

    /// Without a check 2xx and 3xx are right; with one, what it lists; the first part that fails is named.
    #[test]
    fn checks_say_what_failed() {
        assert_eq!(judge("{}", 204, ""), "");
        assert_eq!(judge("{}", 404, ""), "status 404");
        assert_eq!(judge(r#"{"status":[[404,404]]}"#, 404, ""), "");
        assert_eq!(judge(r#"{"status":[[200,200],[300,302]]}"#, 303, ""), "status 303");
        assert_eq!(judge(r#"{"time_ns":999}"#, 200, ""), "check time");
        assert_eq!(judge(r#"{"time_ns":1000}"#, 200, ""), "");
        assert_eq!(judge(r#"{"body_contains":["ab"]}"#, 200, "xaby"), "");
        assert_eq!(judge(r#"{"body_contains":["ab"]}"#, 200, "a b"), "check body contains ab");
        assert_eq!(judge(r#"{"body_not":["ab"]}"#, 200, "xaby"), "check body not ab");
        assert_eq!(judge(r#"{"body_not":["ab"]}"#, 200, "a b"), "");
        assert_eq!(judge(r#"{"body_regex":["^a+$"]}"#, 200, "aaa"), "");
        assert_eq!(judge(r#"{"body_regex":["^a+$"]}"#, 200, "aab"), "check body regex ^a+$");
        assert_eq!(judge(r#"{"size":[1,3]}"#, 200, "aaa"), "");
        assert_eq!(judge(r#"{"size":[1,3]}"#, 200, ""), "check size");
        for (rule, value, right) in [
            ("above", "1", true),
            ("above", "2", false),
            ("at_least", "2", true),
            ("below", "2", false),
            ("at_most", "2", true),
            ("exists", "true", true),
            ("exists", "false", false),
            ("not", "2", false),
            ("not", "\"2\"", true),
            ("equals", "2.0", true),
        ] {
            let said = judge(&format!(r#"{{"json":[["$.n","{rule}",{value}]]}}"#), 200, r#"{"n":2}"#);
            assert_eq!(said.is_empty(), right, "{rule} {value}: {said}");
        }
        assert_eq!(judge(r#"{"json":[["$.n","at_least",1]]}"#, 200, r#"{"n":"2"}"#), "check json $.n at least");
        assert_eq!(judge(r#"{"json":[["$.m","exists",false]]}"#, 200, r#"{"n":2}"#), "");
        assert_eq!(judge(r#"{"json":[["$.m","not",1]]}"#, 200, r#"{"n":2}"#), "check json $.m not");
        assert_eq!(judge(r#"{"header":[["x-a","on"]]}"#, 200, ""), "");
        assert_eq!(judge(r#"{"header":[["x-b","on"]]}"#, 200, ""), "check header x-b");
        let json = r#"{"json":[["$.a[0].b",1]]}"#;
        assert_eq!(judge(json, 200, r#"{"a":[{"b":1.0}]}"#), "");
        assert_eq!(judge(json, 200, r#"{"a":[{"b":"1"}]}"#), "check json $.a[0].b");
        assert_eq!(judge(json, 200, r#"{"a":["#), "check json $.a[0].b");
        assert_eq!(judge(r#"{"json":[["$..b",2]]}"#, 200, r#"{"a":[{"b":2}]}"#), "");
        assert_eq!(judge(r#"{"json":[["$['x y'][-1]",2]]}"#, 200, r#"{"x y":[1,2]}"#), "");
    }

    fn extract(from: &str, expr: &str, body: &str) -> Option<String> {
        let text = serde_json::json!({"var": "v", "from": from, "expr": expr});
        let extract = Extract::compile(&serde_json::from_value(text).unwrap(), 0).unwrap();
        let mut slots = [Slot::default()];
        let found = extract.apply(&Answer::new(200, HEAD, body.as_bytes(), 0), &mut slots);
        found.then(|| String::from_utf8(slots[0].text.clone()).unwrap())
    }

    /// Extraction gives the first match as text, and None where there is none.
    #[test]
    fn extraction_takes_the_first_match() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(extract("json", "$.id", r#"{"id":"x\"y"}"#), some("x\"y"));
        assert_eq!(extract("json", "$.id", r#"{"id":7}"#), some("7"));
        assert_eq!(extract("json", "$.id", r#"{"id":null}"#), None);
        assert_eq!(extract("json", "$.id", "no json"), None);
        assert_eq!(extract("json", "$.l[?@.k==2].v", r#"{"l":[{"k":1,"v":"a"},{"k":2,"v":"b"}]}"#), some("b"));
        assert_eq!(extract("header", "x-a", ""), some("one"));
        assert_eq!(extract("header", "x-b", ""), None);
        assert_eq!(extract("regex", r"id=(\d+)", "a id=42 id=43"), some("42"));
        assert_eq!(extract("regex", r"id=\d+", "a id=42"), some("id=42"));
        assert_eq!(extract("regex", r"a(x)?b(c)", "abc"), None);
        assert_eq!(extract("json", "$[*].id", r#"[{"id":false},{"id":2}]"#), some("false"));
        assert_eq!(extract("json", "$.o", r#"{"o":{"k":[1,"x"]}}"#), some(r#"{"k":[1,"x"]}"#));
        assert_eq!(extract("cookie", "t", ""), some("1"));
        assert_eq!(extract("cookie", "gone", ""), None);
        assert_eq!(extract("cookie", "x", ""), None);
    }

    /// Expressions that cannot be compiled are refused with their text.
    #[test]
    fn bad_expressions_are_refused() {
        for (from, expr) in [("json", "$.["), ("regex", "(")] {
            let text = serde_json::json!({"var": "v", "from": from, "expr": expr});
            let error = Extract::compile(&serde_json::from_value(text).unwrap(), 0).unwrap_err();
            assert!(error.contains(expr), "{error}");
        }
    }

    /// Redirects stay in the target's origin; everything else is refused before anything is sent.
    #[test]
    fn redirects_stay_at_home() {
        let target: Target = serde_json::from_value(serde_json::json!({
            "scheme": "http", "host": "Shop.test", "port": 8001, "host_header": "shop.test:8001",
            "addresses": ["127.0.0.1"], "sni": null, "insecure": false, "ca_file": null
        }))
        .unwrap();
        let to = |location: &str| {
            redirect_path(location.as_bytes(), b"/a/b?c=d", &target).ok().map(|path| String::from_utf8(path).unwrap())
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(to("/x?y#z"), some("/x?y"));
        assert_eq!(to("x/../y"), some("/a/y"));
        assert_eq!(to("../../../y/."), some("/y/"));
        assert_eq!(to("?q"), some("/a/b?q"));
        assert_eq!(to(""), some("/a/b?c=d"));
        assert_eq!(to("http://SHOP.test:8001"), some("/"));
        assert_eq!(to("http://shop.test:8001?q"), some("/?q"));
        assert_eq!(to("//shop.test:8001/é y"), some("/%C3%A9%20y"));
        for foreign in [
            "http://shop.test/",
            "https://shop.test:8001/",
            "http://evil.test:8001/",
            "//evil.test/",
            "http://shop.test:8001@evil.test/",
            "http://evil.test#@shop.test:8001/",
            "file:///etc/passwd",
            "http:x",
            "javascript:alert(1)",
            "http://169.254.169.254/",
            "http://shop.test:8001.evil.test/",
            "http://evil.test\\@shop.test:8001/",
            "http://user@shop.test:8001/",
        ] {
            assert_eq!(to(foreign), None, "{foreign}");
        }
    }
}
