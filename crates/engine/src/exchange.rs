//! Evidence: a bounded set of whole requests with their answers, per endpoint.
//!
//! Kept are the first, the slowest few, some failed ones of each kind, and a random few, ever more rarely. Whether one is
//! kept is decided by a few comparisons after its answer; only then is anything copied. Headers that carry secrets keep
//! their name and lose their value.

use std::cmp::Reverse;

use ring::digest;
use serde_json::{Value, json};

use crate::clock::Ns;
use crate::http1;
use crate::outcome::Reason;
use crate::schedule::SplitMix64;
use crate::secret::Secrets;

/// Bytes of a body that are shown.
pub const SHOWN_BODY: usize = 2048;
const MOST_FAILED: usize = 12;
const FAILED_OF_A_KIND: usize = 2;
const SLOWEST: usize = 3;
/// A slow one replaces another only if it is slower by this much, so that a rising response time is not copied each time.
const SLOWER_BY: f64 = 1.1;
/// Endpoints with evidence: memory stays bounded whatever the plan.
const MOST_ENDPOINTS: usize = 2000;
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "set-cookie", "proxy-authorization"];
const LONGEST_HEADER: usize = 4096;

/// Why an exchange is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first of its endpoint, from this worker.
    First,
    /// Among the slowest of its endpoint so far.
    Slowest,
    /// It did not end well.
    Failed,
    /// Chance.
    Random,
}

impl Why {
    fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Slowest => "slowest",
            Self::Failed => "failed",
            Self::Random => "random",
        }
    }
}

/// The parts of an exchange that is kept.
pub struct Seen<'a> {
    /// The endpoint's name.
    pub endpoint: &'a str,
    /// When the request was started.
    pub at: Ns,
    /// Intended start to end; -1 without an end.
    pub response: Ns,
    /// The request's bytes; of the last one after redirects.
    pub request: &'a [u8],
    /// The URL of the row.
    pub url: &'a str,
    /// 0 without an answer.
    pub status: u16,
    /// The answer's head, empty without one.
    pub head: &'a [u8],
    /// As much of the body as there is.
    pub body: &'a [u8],
    /// Length of the whole body.
    pub body_length: u64,
    /// What is wrong; empty for nothing.
    pub error: &'a str,
}

#[derive(Default)]
struct Kept {
    seen: u64,
    next_random: u64,
    failed: Vec<Reason>,
    slowest: Vec<(Ns, Option<Value>)>,
    slow_bar: Ns,
}

/// One worker's evidence.
pub struct Exchanges {
    endpoints: Vec<Kept>,
    ready: Vec<Value>,
    draws: SplitMix64,
    secrets: Secrets,
}

impl Exchanges {
    /// Nothing kept yet.
    pub fn new(endpoints: usize, draws: SplitMix64, secrets: Secrets) -> Self {
        let mut kept = Vec::new();
        kept.resize_with(endpoints.min(MOST_ENDPOINTS), || Kept { next_random: 2, ..Kept::default() });
        Self { endpoints: kept, ready: Vec::new(), draws, secrets }
    }

    /// Whether an exchange is to be kept, and why. Every exchange that has ended is asked about once.
    #[inline]
    pub fn judge(&mut self, endpoint: usize, response: Ns, reason: Reason) -> Option<Why> {
        let kept = self.endpoints.get_mut(endpoint)?;
        kept.seen += 1;
        if reason == Reason::NONE && kept.seen != kept.next_random && response <= kept.slow_bar && kept.seen > 1 {
            return None;
        }
        kept.judge_closely(response, reason, &mut self.draws)
    }

    /// Keeps an exchange.
    pub fn keep(&mut self, endpoint: usize, why: Why, seen: &Seen<'_>) {
        let mut value = describe(why, seen);
        self.secrets.mask(&mut value);
        if why == Why::Slowest {
            self.endpoints[endpoint].keep_slow(seen.response, value);
        } else {
            self.ready.push(value);
        }
    }

    /// What may leave: with `slowest`, also the slowest so far that have not left yet.
    pub fn take(&mut self, slowest: bool) -> Vec<Value> {
        if slowest {
            let slow = self.endpoints.iter_mut().flat_map(|kept| &mut kept.slowest);
            self.ready.extend(slow.filter_map(|(_, value)| value.take()));
        }
        std::mem::take(&mut self.ready)
    }
}

impl Kept {
    #[cold]
    fn judge_closely(&mut self, response: Ns, reason: Reason, draws: &mut SplitMix64) -> Option<Why> {
        let random = self.seen == self.next_random;
        if random {
            self.next_random = self.seen * 4 + draws.between(0, self.seen as i64 * 4) as u64;
        }
        if reason != Reason::NONE {
            let alike = self.failed.iter().filter(|other| **other == reason).count();
            if alike >= FAILED_OF_A_KIND || self.failed.len() >= MOST_FAILED {
                return None;
            }
            self.failed.push(reason);
            return Some(Why::Failed);
        }
        if self.seen == 1 {
            return Some(Why::First);
        }
        if response > self.slow_bar {
            return Some(Why::Slowest);
        }
        random.then_some(Why::Random)
    }

    fn keep_slow(&mut self, response: Ns, value: Value) {
        if self.slowest.len() >= SLOWEST {
            self.slowest.sort_by_key(|(response, _)| Reverse(*response));
            self.slowest.truncate(SLOWEST - 1);
        }
        self.slowest.push((response, Some(value)));
        if self.slowest.len() == SLOWEST {
            let least = self.slowest.iter().map(|(response, _)| *response).min().unwrap_or(0);
            self.slow_bar = (least as f64 * SLOWER_BY) as Ns;
        }
    }
}

fn describe(why: Why, seen: &Seen<'_>) -> Value {
    let (request_head, request_body) = split_head(seen.request);
    let mut lines = request_head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let request_line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let headers = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some(header(&String::from_utf8_lossy(&line[..colon]), line[colon + 1..].trim_ascii()))
    });
    let answer = (seen.status > 0).then(|| {
        let mut headers = Vec::new();
        http1::each_header(seen.head, |name, value| headers.push(header(name, value)));
        let whole = seen.body.len() as u64 == seen.body_length;
        json!({
            "status": seen.status,
            "headers": headers,
            "body_head": beginning(seen.body),
            "body_bytes": seen.body_length,
            "body_sha256": if whole { sha256(seen.body) } else { String::new() },
        })
    });
    json!({
        "endpoint": seen.endpoint,
        "why": why.word(),
        "at_ns": seen.at,
        "request": {
            "method": request_line.split(' ').next(),
            "url": seen.url,
            "headers": headers.collect::<Vec<_>>(),
            "body_head": if request_body.is_empty() { Value::Null } else { beginning(request_body).into() },
            "body_bytes": request_body.len(),
        },
        "answer": answer,
        "error": if seen.error.is_empty() { Value::Null } else { seen.error.into() },
        "response_ns": seen.response,
    })
}

fn split_head(request: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memmem::find(request, b"\r\n\r\n") {
        Some(end) => (&request[..end], &request[end + 4..]),
        None => (request, &[]),
    }
}

fn header(name: &str, value: &[u8]) -> Value {
    if SECRET_HEADERS.iter().any(|secret| secret.eq_ignore_ascii_case(name)) {
        return json!([name, "***"]);
    }
    json!([name, String::from_utf8_lossy(&value[..value.len().min(LONGEST_HEADER)])])
}

fn beginning(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(SHOWN_BODY)]).into_owned()
}

fn sha256(body: &[u8]) -> String {
    digest::digest(&digest::SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Kind;

    fn seen(response: Ns) -> Seen<'static> {
        Seen {
            endpoint: "GET /x",
            at: 5,
            response,
            request: b"POST /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer s3cret\r\n\r\nhi",
            url: "http://h/x",
            status: 200,
            head: b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=s3cret\r\nA: 1\r\n\r\n",
            body: b"abc",
            body_length: 3,
            error: "",
        }
    }

    /// However many requests, and however their times develop, few are kept.
    #[test]
    fn the_set_stays_small() {
        let mut exchanges = Exchanges::new(1, SplitMix64::new(1), Secrets::default());
        let mut kept = 0;
        for number in 0..1_000_000 {
            let reason = if number % 10 == 3 { Reason::kind(Kind::ShortBody) } else { Reason::NONE };
            if let Some(why) = exchanges.judge(0, 1_000_000 + number, reason) {
                exchanges.keep(0, why, &seen(1_000_000 + number));
                kept += 1;
            }
        }
        let left = exchanges.take(true).len();
        assert!((8..40).contains(&kept) && left <= kept, "{kept} {left}");
        assert!(exchanges.take(true).is_empty());
    }

    /// Secrets in headers do not leave, and the hash is the body's.
    #[test]
    fn headers_lose_their_secrets() {
        let mut exchanges = Exchanges::new(1, SplitMix64::new(1), Secrets::default());
        let why = exchanges.judge(0, 10, Reason::NONE).unwrap();
        exchanges.keep(0, why, &seen(10));
        let value = exchanges.take(false).pop().unwrap();
        assert!(!value.to_string().contains("s3cret"), "{value}");
        assert_eq!(value["request"]["headers"][1], json!(["Authorization", "***"]));
        assert_eq!(value["request"]["body_head"], "hi");
        assert_eq!(value["answer"]["headers"][1], json!(["A", "1"]));
        assert_eq!(value["answer"]["body_sha256"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((value["why"].as_str(), value["error"].is_null()), (Some("first"), true));
    }
}
