//! The bytes of a request: rendered once where nothing varies, patched into a buffer where something does.
//!
//! What comes in are a step's method, path, headers and body as the plan gives them; what leaves are bytes for the wire.
//! It knows nothing of connections and answers.

use std::sync::Arc;

use crate::template::{Filling, Missing, Place, Scope, Template};
use crate::upload::{Outgoing, Upload};

/// A step's request, compiled.
#[derive(Debug)]
pub struct Request {
    /// As it stands in the request line.
    pub method: String,
    /// What stands between the method and the path: nothing, or the target's scheme and authority.
    absolute: Box<str>,
    path: Template,
    /// Header lines, each ending in CRLF; `Content-Length` included unless the body varies.
    headers: Template,
    /// The same without those that describe a body, for a redirect that drops it.
    bodyless_headers: Template,
    body: Option<Template>,
    /// A body that is read while it is sent, in place of `body`.
    upload: Option<Arc<Upload>>,
    constant: Option<Constant>,
}

/// The body of a step's request as the plan gives it.
pub enum Body<'a> {
    /// None.
    Nothing,
    /// A template.
    Text(&'a str),
    /// Texts and files.
    Files(Arc<Upload>),
}

#[derive(Debug)]
struct Constant {
    bytes: Box<[u8]>,
    /// Where the empty line begins that ends the head: a `Cookie` line goes there.
    head_end: usize,
}

/// Headers that the engine writes itself.
const OWN_HEADERS: [&str; 2] = ["content-length", "transfer-encoding"];
const BODY_HEADERS: [&str; 2] = ["content-type", "content-encoding"];
/// A varying body's length is patched into this many digits, padded on the left with optional white space.
const LENGTH_DIGITS: usize = 10;

impl Request {
    /// Compiles a step's request. A header of the step replaces the plan's of the same name. The error is a sentence.
    pub fn compile(
        method: &str,
        path: &str,
        host: &str,
        plan_headers: &[(String, String)],
        step_headers: &[(String, String)],
        body: Body<'_>,
        scope: &Scope,
    ) -> Result<Self, String> {
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(format!("method '{method}' is not one HTTP knows how to write"));
        }
        if !path.starts_with('/') {
            return Err(format!("path '{path}' must start with '/'"));
        }
        let inherited =
            plan_headers.iter().filter(|(name, _)| !step_headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
        let mut lines: Vec<(&str, &str)> =
            inherited.chain(step_headers).map(|(name, value)| (name.as_str(), value.as_str())).collect();
        lines.retain(|(name, _)| !OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)));
        if !lines.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            lines.insert(0, ("Host", host));
        }
        let (body, upload) = match body {
            Body::Nothing => (None, None),
            Body::Text(text) => (Some(Template::compile(text, body_place(&lines), scope)?), None),
            Body::Files(upload) => match upload.small()? {
                Some(small) => (Some(small), None),
                None => (None, Some(upload)),
            },
        };
        let bodyless = lines.iter().filter(|(name, _)| !BODY_HEADERS.iter().any(|b| b.eq_ignore_ascii_case(name)));
        let bodyless_headers = header_lines(bodyless, scope)?;
        let mut headers = header_lines(lines.iter(), scope)?;
        match body.as_ref().map(Template::constant) {
            Some(Some(text)) => headers.push(Template::literal(format!("Content-Length: {}\r\n", text.len()))),
            None if matches!(method, "POST" | "PUT" | "PATCH") && upload.is_none() => {
                headers.push(Template::literal("Content-Length: 0\r\n"));
            }
            _ => {}
        }
        let path = Template::compile(path, Place::Path, scope)?;
        let constant = if upload.is_none() { constant(method, &path, &headers, body.as_ref()) } else { None };
        let (method, absolute) = (method.to_owned(), "".into());
        Ok(Self { method, absolute, path, headers, bodyless_headers, body, upload, constant })
    }

    /// The same, with `origin` before its path: how a proxy is asked (RFC 9112 section 3.2.2).
    pub fn in_absolute_form(mut self, origin: &str) -> Self {
        self.absolute = origin.into();
        if let Some(Constant { bytes, head_end }) = &mut self.constant {
            let begin = self.method.len() + 1;
            *bytes = [&bytes[..begin], origin.as_bytes(), &bytes[begin..]].concat().into();
            *head_end += origin.len();
        }
        self
    }

    /// The same, filled anew each time.
    pub fn varying(mut self) -> Self {
        self.constant = None;
        self
    }

    /// The path, where it is the same each time.
    pub fn constant_path(&self) -> Option<&[u8]> {
        self.path.constant()
    }

    /// The whole request, where it is the same each time.
    #[inline]
    pub fn constant(&self) -> Option<&[u8]> {
        self.constant.as_ref().map(|constant| &*constant.bytes)
    }

    /// Writes the request into `out`, replacing what was there, and returns where its path lies.
    ///
    /// `cookies` is the value of the `Cookie` header, without one where it is empty.
    pub fn fill(
        &self,
        filling: &mut Filling<'_>,
        cookies: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<std::ops::Range<usize>, Missing> {
        out.clear();
        if let Some(constant) = &self.constant {
            out.extend_from_slice(&constant.bytes[..constant.head_end]);
            push_cookies(cookies, out);
            out.extend_from_slice(&constant.bytes[constant.head_end..]);
            let begin = self.method.len() + 1 + self.absolute.len();
            return Ok(begin..begin + self.path.constant().map_or(0, <[u8]>::len));
        }
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.absolute.as_bytes());
        let begin = out.len();
        self.path.fill(filling, out)?;
        let path = begin..out.len();
        out.extend_from_slice(b" HTTP/1.1\r\n");
        self.headers.fill(filling, out)?;
        self.finish(filling, cookies, out)?;
        Ok(path)
    }

    /// The body that is sent behind what `fill` has written, whose head it ends; None where there is none of its own.
    ///
    /// `filling` must be as `fill` has left it.
    pub fn begin_upload(&self, filling: &mut Filling<'_>, out: &mut Vec<u8>) -> Result<Option<Box<Outgoing>>, Missing> {
        let Some(upload) = &self.upload else { return Ok(None) };
        let outgoing = upload.begin(filling)?;
        out.extend_from_slice(outgoing.header().as_bytes());
        out.extend_from_slice(b"\r\n");
        Ok(Some(outgoing))
    }

    /// Writes the request that follows a redirect to `path`, with `method`; the body goes along if `with_body`.
    ///
    /// `filling` must stand where it stood when the request was filled first, so that random parts come out the same.
    /// A body that is read while it is sent is begun by `begin_upload`, as after `fill`.
    pub fn fill_redirect(
        &self,
        method: &str,
        path: &[u8],
        with_body: bool,
        filling: &mut Filling<'_>,
        cookies: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Missing> {
        out.clear();
        self.path.fill(filling, out)?;
        out.clear();
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.absolute.as_bytes());
        out.extend_from_slice(path);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if with_body {
            self.headers.fill(filling, out)?;
            return self.finish(filling, cookies, out);
        }
        self.bodyless_headers.fill(filling, out)?;
        push_cookies(cookies, out);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Ends the head and adds the body.
    fn finish(&self, filling: &mut Filling<'_>, cookies: &[u8], out: &mut Vec<u8>) -> Result<(), Missing> {
        push_cookies(cookies, out);
        if self.upload.is_some() {
            return Ok(());
        }
        let Some(body) = &self.body else {
            out.extend_from_slice(b"\r\n");
            return Ok(());
        };
        if let Some(text) = body.constant() {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(text);
            return Ok(());
        }
        out.extend_from_slice(b"Content-Length: ");
        let digits_end = out.len() + LENGTH_DIGITS;
        out.extend_from_slice(&[b' '; LENGTH_DIGITS]);
        out.extend_from_slice(b"\r\n\r\n");
        let begin = out.len();
        body.fill(filling, out)?;
        let (mut length, mut at) = (out.len() - begin, digits_end);
        loop {
            at -= 1;
            out[at] = b'0' + (length % 10) as u8;
            length /= 10;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

fn constant(method: &str, path: &Template, headers: &Template, body: Option<&Template>) -> Option<Constant> {
    let body = match body {
        Some(body) => body.constant()?,
        None => b"",
    };
    let head = [method.as_bytes(), b" ", path.constant()?, b" HTTP/1.1\r\n", headers.constant()?].concat();
    let head_end = head.len();
    Some(Constant { bytes: [&head, &b"\r\n"[..], body].concat().into(), head_end })
}

fn header_lines<'a>(lines: impl Iterator<Item = &'a (&'a str, &'a str)>, scope: &Scope) -> Result<Template, String> {
    let mut all = Template::default();
    for (name, value) in lines {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("header name '{name}' has a character that header names may not have"));
        }
        all.push(Template::literal(format!("{name}: ")));
        all.push(Template::compile(value, Place::Header, scope).map_err(|error| format!("header {name}: {error}"))?);
        all.push(Template::literal("\r\n"));
    }
    Ok(all)
}

fn body_place(lines: &[(&str, &str)]) -> Place {
    let kind = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    match kind.map(|(_, value)| value.to_ascii_lowercase()) {
        Some(value) if value.contains("json") => Place::Json,
        Some(value) if value.contains("x-www-form-urlencoded") => Place::Form,
        _ => Place::Plain,
    }
}

fn push_cookies(cookies: &[u8], out: &mut Vec<u8>) {
    if !cookies.is_empty() {
        out.extend_from_slice(b"Cookie: ");
        out.extend_from_slice(cookies);
        out.extend_from_slice(b"\r\n");
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::SplitMix64;
    use crate::template::Slot;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn compile(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Result<Request, String> {
        let scope = Scope { slots: [("id".to_owned(), 0)].into(), ..Scope::default() };
        Request::compile(
            method,
            path,
            "h:1",
            &pairs(&[("User-Agent", "s"), ("A", "1")]),
            &pairs(headers),
            body.map_or(Body::Nothing, Body::Text),
            &scope,
        )
    }

    fn filled(request: &Request, cookies: &str) -> String {
        let slots = [Slot { set: true, text: b"5\"".to_vec() }];
        let mut draws = SplitMix64::new(1);
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        let mut out = b"old".to_vec();
        request.fill(&mut filling, cookies.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What does not vary is rendered once; a step's header replaces the plan's.
    #[test]
    fn constant_requests_are_rendered_once() {
        let request = compile("GET", "/x", &[("a", "2")], None).unwrap();
        let text = "GET /x HTTP/1.1\r\nHost: h:1\r\nUser-Agent: s\r\na: 2\r\n\r\n";
        assert_eq!(request.constant().unwrap(), text.as_bytes());
        assert_eq!(filled(&request, "k=v"), text.replace("\r\n\r\n", "\r\nCookie: k=v\r\n\r\n"));
        let request = compile("POST", "/x", &[], None).unwrap();
        assert!(std::str::from_utf8(request.constant().unwrap()).unwrap().contains("\r\nContent-Length: 0\r\n"));
    }

    /// The length of a varying body is patched in, and JSON is escaped because the content type says so.
    #[test]
    fn varying_bodies_have_their_length() {
        let headers = [("Content-Type", "application/json"), ("content-length", "99")];
        let request = compile("POST", "/x/{{id}}", &headers, Some(r#"{"id":"{{id}}"}"#)).unwrap();
        assert!(request.constant().is_none());
        let text = filled(&request, "k=v");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /x/5%22 HTTP/1.1\r\n"));
        assert_eq!(body, r#"{"id":"5\""}"#);
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length:")).unwrap();
        assert_eq!(length.trim().parse::<usize>().unwrap(), body.len());
        assert_eq!(head.matches("ength").count(), 1);
        assert!(head.contains("\r\nCookie: k=v"));
    }

    /// A proxy is asked for the whole URL, and the range of the path is the path's: also where it varies, and after a
    /// redirect.
    #[test]
    fn proxies_are_asked_in_absolute_form() {
        let slots = [Slot { set: true, text: b"5".to_vec() }];
        for (path, sent) in [("/x", "/x"), ("/x/{{id}}", "/x/5")] {
            let request = compile("GET", path, &[], None).unwrap().in_absolute_form("http://h:1");
            let mut draws = SplitMix64::new(1);
            let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
            let mut out = Vec::new();
            let range = request.fill(&mut filling, b"k=v", &mut out).unwrap();
            assert_eq!(&out[range], sent.as_bytes());
            let text = String::from_utf8(out.clone()).unwrap();
            assert!(text.starts_with(&format!("GET http://h:1{sent} HTTP/1.1\r\nHost: h:1\r\n")), "{text}");
            assert!(text.ends_with("A: 1\r\nCookie: k=v\r\n\r\n"), "{text}");
            request.fill_redirect("GET", b"/y", false, &mut filling, b"", &mut out).unwrap();
            assert!(out.starts_with(b"GET http://h:1/y HTTP/1.1\r\n"));
        }
    }

    /// A redirect that drops the body drops what describes it.
    #[test]
    fn redirects_may_drop_the_body() {
        let request = compile("POST", "/x", &[("Content-Type", "text/plain")], Some("hi {{id}}")).unwrap();
        let slots = [Slot { set: true, text: b"5".to_vec() }];
        let mut draws = SplitMix64::new(1);
        let mut filling = Filling { slots: &slots, draws: &mut draws, seq: 0, user: 0, iteration: 0 };
        let mut out = Vec::new();
        request.fill_redirect("GET", b"/y", false, &mut filling, b"", &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), "GET /y HTTP/1.1\r\nHost: h:1\r\nUser-Agent: s\r\nA: 1\r\n\r\n");
        request.fill_redirect("POST", b"/y", true, &mut filling, b"", &mut out).unwrap();
        assert!(String::from_utf8_lossy(&out).ends_with("Content-Length:          4\r\n\r\nhi 5"));
    }

    /// A plan cannot smuggle a line into a head.
    #[test]
    fn heads_cannot_be_broken() {
        assert!(compile("GE T", "/", &[], None).is_err());
        assert!(compile("GET", "x", &[], None).is_err());
        assert!(compile("GET", "/", &[("a:b", "1")], None).is_err());
        let request = compile("GET", "/a b\r\nX: y", &[("b", "1\r\nX: y")], None).unwrap();
        let text = String::from_utf8(request.constant().unwrap().to_vec()).unwrap();
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.starts_with("GET /a%20b%0D%0AX:%20y HTTP/1.1\r\n"));
    }
}
