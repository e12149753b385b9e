//! The cookies of one user, as RFC 6265 has them for one origin.
//!
//! Set by answers of the target, sent back to it: `Domain` must be the target's host or a domain above it, `Path` says
//! which paths get the cookie, `Secure` ones are for https, `Max-Age` and `Expires` end them. There is no list of public
//! suffixes: a domain without a dot that is not the host itself is taken for one. Memory is bounded: beyond 50 cookies or
//! 16 KiB the oldest go.

use crate::clock::{self, Ns, SECOND};
use crate::http1;
use crate::plan::Target;

const MOST_COOKIES: usize = 50;
/// Bytes of all names and values.
const LONGEST_COOKIES: usize = 16 * 1024;
/// Bytes of one name and value (RFC 6265 section 6.1).
const LONGEST_COOKIE: usize = 4096;

/// Whose cookies they are.
#[derive(Debug)]
pub struct Site {
    /// In lower case, without brackets.
    host: Vec<u8>,
    /// Whether it is a number, which has no domain above it.
    address: bool,
    secure: bool,
}

impl Site {
    /// The plan's target.
    pub fn of(target: &Target) -> Self {
        let host = target.host.trim_matches(['[', ']']).to_ascii_lowercase();
        let address = host.parse::<std::net::IpAddr>().is_ok();
        Self { host: host.into_bytes(), address, secure: target.scheme() == "https" }
    }

    /// Whether a cookie of that domain is the host's (RFC 6265 section 5.1.3).
    fn is_within(&self, domain: &[u8]) -> bool {
        let above = || {
            let rest = self.host.strip_suffix(domain).and_then(|rest| rest.strip_suffix(b"."));
            !self.address && domain.contains(&b'.') && rest.is_some_and(|rest| !rest.is_empty())
        };
        self.host == domain || above()
    }
}

/// What an answer set that is not sent back, or made others go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lost {
    /// There were too many, or one was too long.
    pub full: bool,
    /// `Secure`, where the target is http.
    pub secure: bool,
    /// Of another domain than the target's.
    pub foreign: bool,
}

impl Lost {
    /// Whether anything was.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

#[derive(Debug)]
struct Cookie {
    name: Vec<u8>,
    value: Vec<u8>,
    /// As it was set; empty for the host alone.
    domain: Vec<u8>,
    path: Vec<u8>,
    /// In the run's time; `Ns::MAX` for never.
    end: Ns,
}

/// The cookies of one user.
#[derive(Debug, Default)]
pub struct Jar {
    /// The oldest first.
    cookies: Vec<Cookie>,
    /// The value of the `Cookie` header for the path that was asked for last.
    header: Vec<u8>,
    /// Whether some are not for every path.
    limited: bool,
    /// When the first of them ends.
    soonest: Ns,
}

impl Jar {
    /// The value of the `Cookie` header, as it was picked last or is for all paths; empty without cookies.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Whether the header must be picked for the path of a request that begins now.
    #[inline]
    pub fn is_choosy(&self, now: Ns) -> bool {
        !self.cookies.is_empty() && (self.limited || now >= self.soonest)
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.cookies.clear();
        self.header.clear();
    }

    /// Makes the header for a path, with or without a query.
    pub fn pick(&mut self, path: &[u8], now: Ns) {
        self.cookies.retain(|cookie| cookie.end > now);
        self.tidy();
        let path = without_query(path);
        self.write(|cookie| matches(path, &cookie.path));
    }

    /// Takes up what the head of the answer to a request for `path` sets, and lets go of what it removes.
    pub fn update(&mut self, head: &[u8], path: &[u8], site: &Site, now: Ns) -> Lost {
        let mut lost = Lost::default();
        http1::each_header(head, |name, value| {
            let set = Some(value).filter(|_| name.eq_ignore_ascii_case("set-cookie")).and_then(parse);
            let Some(set) = set else { return };
            let domain = set.domain.to_ascii_lowercase();
            if !(domain.is_empty() || site.is_within(&domain)) {
                lost.foreign = true;
            } else if set.secure && !site.secure {
                lost.secure = true;
            } else {
                lost.full |= self.set(&set, if domain == site.host { Vec::new() } else { domain }, path, now);
            }
        });
        self.tidy();
        self.write(|cookie| cookie.path == b"/");
        lost
    }

    /// Puts one in, or takes it out; whether it was too long, or others had to go.
    fn set(&mut self, set: &Set<'_>, domain: Vec<u8>, request: &[u8], now: Ns) -> bool {
        let path = set.path.unwrap_or_else(|| default_path(request));
        let same = |own: &Cookie| own.name == set.name && own.domain == domain && own.path == path;
        let place = self.cookies.iter().position(same);
        let end = now.saturating_add(set.lasts);
        if set.lasts <= 0 {
            place.map(|place| self.cookies.remove(place));
            return false;
        }
        if set.name.len() + set.value.len() > LONGEST_COOKIE {
            // What it was to replace is not what the server means any more.
            place.map(|place| self.cookies.remove(place));
            return true;
        }
        match place {
            Some(place) => {
                let own = &mut self.cookies[place];
                own.value.clear();
                own.value.extend_from_slice(set.value);
                own.end = end;
            }
            None => {
                let (name, value, path) = (set.name.to_vec(), set.value.to_vec(), path.to_vec());
                self.cookies.push(Cookie { name, value, domain, path, end });
            }
        }
        let mut full = false;
        let size = |cookie: &Cookie| cookie.name.len() + cookie.value.len() + 3;
        while self.cookies.len() > MOST_COOKIES || self.cookies.iter().map(size).sum::<usize>() > LONGEST_COOKIES {
            full = true;
            self.cookies.remove(0);
        }
        full
    }

    fn tidy(&mut self) {
        self.limited = self.cookies.iter().any(|cookie| cookie.path != b"/");
        self.soonest = self.cookies.iter().map(|cookie| cookie.end).min().unwrap_or(Ns::MAX);
    }

    /// Longer paths first, then the oldest (RFC 6265 section 5.4).
    fn write(&mut self, goes: impl Fn(&Cookie) -> bool) {
        self.header.clear();
        let mut longest = usize::MAX;
        loop {
            let shorter = self.cookies.iter().filter(|cookie| cookie.path.len() < longest && goes(cookie));
            let Some(next) = shorter.map(|cookie| cookie.path.len()).max() else { return };
            longest = next;
            for cookie in self.cookies.iter().filter(|cookie| cookie.path.len() == longest && goes(cookie)) {
                if !self.header.is_empty() {
                    self.header.extend_from_slice(b"; ");
                }
                self.header.extend_from_slice(&cookie.name);
                self.header.push(b'=');
                self.header.extend_from_slice(&cookie.value);
            }
        }
    }
}

/// What a `Set-Cookie` says.
pub struct Set<'a> {
    /// Not empty.
    pub name: &'a [u8],
    /// May be empty.
    pub value: &'a [u8],
    domain: &'a [u8],
    path: Option<&'a [u8]>,
    secure: bool,
    /// How long from now on, ns; 0 or less removes it.
    pub lasts: Ns,
}

/// Reads a `Set-Cookie`; None for what is no cookie.
pub fn parse(line: &[u8]) -> Option<Set<'_>> {
    let mut parts = line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let (name, value) = split_once(parts.next()?, b'=')?;
    let (name, value) = (name.trim_ascii(), value.trim_ascii());
    if name.is_empty() {
        return None;
    }
    let mut set = Set { name, value, domain: b"", path: None, secure: false, lasts: Ns::MAX };
    let (mut expires, mut max_age) = (None, None);
    for attribute in parts {
        let (key, value) = split_once(attribute, b'=').unwrap_or((attribute, b""));
        let (key, value) = (key.trim_ascii(), value.trim_ascii());
        if key.eq_ignore_ascii_case(b"max-age") {
            max_age = seconds(value).or(max_age);
        } else if key.eq_ignore_ascii_case(b"expires") {
            expires = parse_date(value).or(expires);
        } else if key.eq_ignore_ascii_case(b"domain") {
            set.domain = value.strip_prefix(b".").unwrap_or(value);
        } else if key.eq_ignore_ascii_case(b"path") {
            set.path = Some(value).filter(|path| path.starts_with(b"/"));
        } else if key.eq_ignore_ascii_case(b"secure") {
            set.secure = true;
        }
    }
    // Max-Age goes before Expires (RFC 6265 section 5.3).
    set.lasts = match (max_age, expires) {
        (Some(seconds), _) => seconds.saturating_mul(SECOND),
        (None, Some(at)) => at.saturating_mul(SECOND).saturating_sub(clock::wall()),
        (None, None) => Ns::MAX,
    };
    Some(set)
}

/// A number of seconds, however large; None for anything else.
fn seconds(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let number = std::str::from_utf8(digits).ok().filter(|text| !text.is_empty())?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| sign * number.parse().unwrap_or(i64::MAX))
}

/// Whether a request for `path` gets a cookie of that path (RFC 6265 section 5.1.4).
fn matches(path: &[u8], of: &[u8]) -> bool {
    path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || of.ends_with(b"/") || rest.starts_with(b"/"))
}

/// The path of a cookie without one: the folder of what was asked for (RFC 6265 section 5.1.4).
fn default_path(request: &[u8]) -> &[u8] {
    let path = without_query(request);
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(end) if end > 0 && path.starts_with(b"/") => &path[..end],
        _ => b"/",
    }
}

fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

/// Seconds since 1970 of `Wed, 21 Oct 2015 07:28:00 GMT`, with blanks or dashes between day, month and year.
fn parse_date(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split([' ', '-', ',', ':']).filter(|word| !word.is_empty()).skip(1);
    let day: i64 = words.next()?.parse().ok()?;
    let names = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let month = words.next()?.to_ascii_lowercase();
    let month = names.iter().position(|name| *name == month)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let year = if year < 70 {
        year + 2000
    } else if year < 100 {
        year + 1900
    } else {
        year
    };
    let mut number = || words.next()?.parse::<i64>().ok();
    let (hour, minute, second) = (number()?, number()?, number()?);
    // Days from the civil calendar, with years that begin in March (Hinnant).
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(host: &str, scheme: &str) -> Site {
        let target = serde_json::json!({
            "scheme": scheme, "host": host, "port": 8001, "host_header": host,
            "addresses": ["127.0.0.1"], "sni": null, "insecure": false, "ca_file": null
        });
        Site::of(&serde_json::from_value(target).unwrap())
    }

    /// What a jar sends to `path` after answers that set each of these, asked for under `/app/login?x=/y`.
    fn sent(site: &Site, lines: &[&str], path: &str) -> (String, Lost) {
        let (mut jar, mut lost) = (Jar::default(), Lost::default());
        for line in lines {
            let head = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {line}\r\n\r\n");
            let more = jar.update(head.as_bytes(), b"/app/login?x=/y", site, 5);
            lost = Lost {
                full: lost.full || more.full,
                secure: lost.secure || more.secure,
                foreign: lost.foreign || more.foreign,
            };
        }
        if jar.is_choosy(6) {
            jar.pick(path.as_bytes(), 6);
        }
        (String::from_utf8(jar.header().to_vec()).unwrap(), lost)
    }

    /// A jar keeps the last value of a name, and lets go of what is expired or has ended since.
    #[test]
    fn jars_keep_and_forget() {
        let own = site("shop.test", "http");
        for (lines, header) in [
            (&["a=1; Path=/", "b=2; Path=/", "a=3; Path=/"][..], "a=3; b=2"),
            (&["a=1; Path=/", "a=; Path=/; Max-Age=0"], ""),
            (&["a=1; Path=/", "a=; Path=/; max-age=-5; Expires=Wed, 21 Oct 2099 07:28:00 GMT"], ""),
            (&["a=1; Path=/", "a=x; Path=/; expires=Wed, 21-Oct-2015 07:28:00 GMT"], ""),
            (&["a=1; Path=/; Max-Age=99999999999999999999999; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], "a=1"),
            (&["a=1; Path=/; Max-Age=soon"], "a=1"),
            (&["a=1; Path=/", "a=2; Path=/app; Max-Age=0"], "a=1"),
            (&["=1; Path=/", "nothing", ";", "a=b=c ; Path=/"], "a=b=c"),
        ] {
            assert_eq!(sent(&own, lines, "/app/x"), (header.to_owned(), Lost::default()), "{lines:?}");
        }
        let mut jar = Jar::default();
        jar.update(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/; Max-Age=2\r\n\r\n", b"/", &own, 5 * SECOND);
        assert!(!jar.is_choosy(6 * SECOND) && jar.is_choosy(7 * SECOND));
        jar.pick(b"/", 7 * SECOND);
        assert!(jar.header().is_empty() && !jar.is_choosy(8 * SECOND));
        assert_eq!(parse_date(b"Wed, 21 Oct 2015 07:28:00 GMT"), Some(1_445_412_480));
    }

    /// Cookies go to the paths they were set for, longer paths first; without a path, to the folder of what set them.
    #[test]
    fn paths_are_kept_apart() {
        let own = site("shop.test", "http");
        let lines = ["a=1; Path=/", "b=2", "c=3; Path=/app/login", "d=4; Path=/ap", "e=5; Path=no; x", "f=6; Path=/z/"];
        for (path, header) in [
            ("/app/login?q", "c=3; b=2; e=5; a=1"),
            ("/app/login/x", "c=3; b=2; e=5; a=1"),
            ("/app/loginx", "b=2; e=5; a=1"),
            ("/app", "b=2; e=5; a=1"),
            ("/?/app/login", "a=1"),
            ("/z", "a=1"),
            ("/z/y", "f=6; a=1"),
        ] {
            assert_eq!(sent(&own, &lines, path).0, header, "{path}");
        }
    }

    /// Cookies of other domains and, over http, Secure ones are not kept, and do not touch those that are.
    #[test]
    fn foreign_cookies_are_refused() {
        let (name, number, secure) = (site("A.shop.test", "http"), site("127.0.0.1", "http"), site("[::1]", "https"));
        let kept = Lost::default();
        let foreign = Lost { foreign: true, ..kept };
        let insecure = Lost { secure: true, ..kept };
        for (site, line, header, lost) in [
            (&name, "a=2; Path=/; Domain=.SHOP.test", "a=1; a=2", kept),
            (&name, "a=2; Path=/; Domain=a.shop.test", "a=2", kept),
            (&name, "a=2; Path=/; Domain=", "a=2", kept),
            (&name, "a=2; Path=/; Domain=b.shop.test", "a=1", foreign),
            (&name, "a=2; Path=/; Domain=hop.test", "a=1", foreign),
            (&name, "a=2; Path=/; Domain=test", "a=1", foreign),
            (&name, "a=2; Path=/; Domain=x.a.shop.test", "a=1", foreign),
            (&name, "a=2; Path=/; Domain=example.com", "a=1", foreign),
            (&number, "a=2; Path=/; Domain=127.0.0.1", "a=2", kept),
            (&number, "a=2; Path=/; Domain=0.0.1", "a=1", foreign),
            (&name, "a=2; Path=/; Secure; Max-Age=0", "a=1", insecure),
            (&name, "a=2; Path=/; secure ", "a=1", insecure),
            (&secure, "a=2; Path=/; Secure", "a=2", kept),
        ] {
            assert_eq!(sent(site, &["a=1; Path=/", line], "/"), (header.to_owned(), lost), "{line}");
        }
    }

    /// However many and long, 50 cookies or 16 KiB are kept, the newest.
    #[test]
    fn the_oldest_cookies_go() {
        let own = site("shop.test", "http");
        let lines: Vec<String> = (0..60).map(|number| format!("c{number}=v; Path=/")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (header, lost) = sent(&own, &lines, "/");
        assert!(header.starts_with("c10=v; c11=v") && header.ends_with("c59=v") && lost.full, "{header}");
        assert!(!sent(&own, &lines[..50], "/").1.full);
        let long: Vec<String> = (0..10).map(|number| format!("c{number}={}; Path=/", "v".repeat(4000))).collect();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let (header, lost) = sent(&own, &long, "/");
        assert!(header.len() <= LONGEST_COOKIES && header.starts_with("c6=v") && header.contains("c9=") && lost.full);
        let huge = format!("c0={}; Path=/", "v".repeat(5000));
        assert_eq!(sent(&own, &["c0=v; Path=/", "d=1; Path=/", &huge], "/").0, "d=1");
    }
}
