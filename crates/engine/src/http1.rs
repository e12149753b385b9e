//! Where an HTTP/1 answer ends, and what its head says.
//!
//! Bytes come in as the network cut them; what leaves is the head's meaning and the body's bytes. Nothing here knows of
//! sockets. The rules for answers that are not as they should be:
//!
//! | what comes | what is made of it |
//! |---|---|
//! | 1xx other than 101 | passed over by the connection; their bytes count as the head's |
//! | 101 where it was not asked for (by the connection), `HTTP/2.0`, folded headers, a NUL in a header | `invalid_http` |
//! | two different lengths, a length that is no number | `invalid_http` |
//! | a length beside `Transfer-Encoding` | the encoding rules, and the connection is not used again |
//! | lines that end in a bare LF | accepted in a head, `bad_chunk` between chunks |
//! | a body where none may be (HEAD, 204, 304) | not read; the connection is not used again |

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::outcome::Kind;

/// The longest head, interim answers before it included. Taste: above every server's own limit.
pub const LONGEST_HEAD: usize = 256 * 1024;
const USUAL_HEADERS: usize = 64;
/// The most lines of a head.
pub const MOST_HEADERS: usize = 4096;
/// Bytes of a chunk's extensions, and of the lines behind the last chunk, that are passed over.
const LONGEST_CHUNK_LINE: u32 = 16 * 1024;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// By its length.
    Length(u64),
    /// By its last chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What the head of an answer says.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// 100 to 999.
    pub status: u16,
    /// 1 for HTTP/1.1, 0 for HTTP/1.0.
    pub minor: u8,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keep_alive: bool,
    /// Whether there is a `Set-Cookie`.
    pub sets_cookie: bool,
    /// Whether there is a `Content-Encoding`.
    pub encoded: bool,
    /// Where the value of `Location` lies in the head.
    pub location: Option<Range<usize>>,
    /// Where the value of `Server-Timing` lies in the head.
    pub server_timing: Option<Range<usize>>,
}

/// Reads a head from the beginning of `bytes`; None while it is not whole. `bodyless` for answers to HEAD.
pub fn parse_head(bytes: &[u8], bodyless: bool) -> Result<Option<Head>, Kind> {
    let mut headers = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    match parse_with(bytes, bodyless, &mut headers) {
        Err(httparse::Error::TooManyHeaders) => {
            let mut headers = vec![MaybeUninit::uninit(); MOST_HEADERS];
            parse_with(bytes, bodyless, &mut headers).map_err(|error| match error {
                httparse::Error::TooManyHeaders => Kind::HeaderTooLarge,
                _ => Kind::InvalidHttp,
            })
        }
        other => other.map_err(|_| Kind::InvalidHttp),
    }?
    .transpose()
}

/// Heads that came lately. A server says the same again and again, with another date each second: what is the same byte
/// for byte means the same, and comparing costs a tenth of reading.
#[derive(Debug, Default)]
pub struct Heads {
    known: Vec<Known>,
    /// The one that was met last, which is compared first.
    last: usize,
    /// Heads in a row that were not among them.
    missed: u32,
}

#[derive(Debug)]
struct Known {
    bytes: Vec<u8>,
    bodyless: bool,
    head: Head,
}

impl Heads {
    const MOST: usize = 8;
    const LONGEST: usize = 1024;
    /// After so many that were new, one in as many is compared and kept: this server never says the same twice.
    const PATIENCE: u32 = 64;

    /// As `parse_head`.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8], bodyless: bool) -> Result<Option<Head>, Kind> {
        let looks = self.missed < Self::PATIENCE || self.missed % Self::PATIENCE == 0;
        if looks {
            let same = |known: &Known| known.bodyless == bodyless && bytes.starts_with(&known.bytes);
            if self.known.get(self.last).is_some_and(same) {
                self.missed = 0;
                return Ok(Some(self.known[self.last].head.clone()));
            }
            if let Some(found) = self.known.iter().position(same) {
                (self.last, self.missed) = (found, 0);
                return Ok(Some(self.known[found].head.clone()));
            }
        }
        let head = parse_head(bytes, bodyless)?;
        if let Some(head) = &head {
            self.missed = self.missed.wrapping_add(1);
            if looks && head.length <= Self::LONGEST {
                self.keep(&bytes[..head.length], bodyless, head);
            }
        }
        Ok(head)
    }

    fn keep(&mut self, bytes: &[u8], bodyless: bool, head: &Head) {
        if self.known.len() < Self::MOST {
            self.last = self.known.len();
            self.known.push(Known { bytes: bytes.to_vec(), bodyless, head: head.clone() });
            return;
        }
        // The oldest first, all in turn.
        self.last = (self.last + 1) % Self::MOST;
        let known = &mut self.known[self.last];
        known.bytes.clear();
        known.bytes.extend_from_slice(bytes);
        (known.bodyless, known.head) = (bodyless, head.clone());
    }
}

type Meaning = Option<Result<Head, Kind>>;

fn parse_with<'b>(
    bytes: &'b [u8],
    bodyless: bool,
    headers: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Meaning, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, headers)?;
    Ok(match parsed {
        httparse::Status::Partial => None,
        httparse::Status::Complete(length) => Some(meaning(bytes, length, &response, bodyless)),
    })
}

fn meaning(bytes: &[u8], length: usize, response: &httparse::Response<'_, '_>, bodyless: bool) -> Result<Head, Kind> {
    let status = response.code.unwrap_or(0);
    let minor = response.version.unwrap_or(0);
    let place = |value: &[u8]| {
        let begin = value.as_ptr() as usize - bytes.as_ptr() as usize;
        begin..begin + value.len()
    };
    let mut head = Head {
        length,
        status,
        minor,
        framing: Framing::Close,
        keep_alive: minor == 1,
        sets_cookie: false,
        encoded: false,
        location: None,
        server_timing: None,
    };
    let mut content_length = None;
    let mut encoding = None;
    for header in response.headers.iter() {
        // The length of the name decides first: most headers are not looked at.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => {
                let value = parse_length(header.value)?;
                if content_length.is_some_and(|before| before != value) {
                    return Err(Kind::InvalidHttp);
                }
                content_length = Some(value);
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                // Of several, the last coding of the last line decides.
                encoding = Some(last_coding_is_chunked(header.value));
            }
            10 if header.name.eq_ignore_ascii_case("connection") => {
                for option in header.value.split(|byte| *byte == b',') {
                    if option.trim_ascii().eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if minor == 0 && option.trim_ascii().eq_ignore_ascii_case(b"keep-alive") {
                        head.keep_alive = true;
                    }
                }
            }
            10 if header.name.eq_ignore_ascii_case("set-cookie") => head.sets_cookie = true,
            16 if header.name.eq_ignore_ascii_case("content-encoding") => head.encoded = true,
            8 if header.name.eq_ignore_ascii_case("location") => head.location = Some(place(header.value)),
            13 if header.name.eq_ignore_ascii_case("server-timing") => {
                head.server_timing = Some(place(header.value));
            }
            _ => {}
        }
    }
    if !(100..=999).contains(&status) {
        return Err(Kind::InvalidHttp);
    }
    if bodyless || status < 200 || status == 204 || status == 304 {
        head.framing = Framing::Empty;
    } else if let Some(chunked) = encoding {
        head.framing = if chunked { Framing::Chunked } else { Framing::Close };
        head.keep_alive &= content_length.is_none();
    } else if let Some(length) = content_length {
        head.framing = Framing::Length(length);
    }
    head.keep_alive &= head.framing != Framing::Close;
    Ok(head)
}

/// A number, or the same number several times with commas between.
pub fn parse_length(value: &[u8]) -> Result<u64, Kind> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        let mut parts = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        let first = parts.next().unwrap_or_default();
        let same = value.contains(&b',') && parts.all(|part| part == first);
        return if same { parse_length(first) } else { Err(Kind::InvalidHttp) };
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

fn last_coding_is_chunked(value: &[u8]) -> bool {
    let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
    last.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// Shows each header of a head that `parse_head` has accepted to `see`, for those who want more than `Head` says.
pub fn each_header<'h>(head: &'h [u8], mut see: impl FnMut(&'h str, &'h [u8])) {
    let config = httparse::ParserConfig::default();
    let mut few = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut response, head, &mut few) {
        Ok(_) => response.headers.iter().for_each(|header| see(header.name, header.value)),
        Err(_) => {
            let mut many = vec![MaybeUninit::uninit(); MOST_HEADERS];
            let mut response = httparse::Response::new(&mut []);
            if config.parse_response_with_uninit_headers(&mut response, head, &mut many).is_ok() {
                response.headers.iter().for_each(|header| see(header.name, header.value));
            }
        }
    }
}

/// Takes the chunks off a body, however the network cut it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunks {
    state: ChunkState,
    /// Bytes of the chunk still to come, or its size while that is read.
    left: u64,
    /// Bytes of the present line.
    line: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a line behind the last chunk.
    Trailer,
    TrailerLine,
    TrailerLf,
    LastLf,
}

impl Chunks {
    /// Reads `bytes`, hands the body's parts to `data`, and returns how many bytes the body took if this was its end.
    pub fn read(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Option<usize>, Kind> {
        use ChunkState::*;
        let mut at = 0;
        while at < bytes.len() {
            if self.state == Data {
                let part = (bytes.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                data(&bytes[at..at + part]);
                self.left -= part as u64;
                at += part;
                if self.left == 0 {
                    self.state = DataCr;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            self.line += 1;
            self.state = match (self.state, byte) {
                (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    if self.left >> 59 != 0 {
                        return Err(Kind::BadChunk);
                    }
                    self.left = self.left << 4 | u64::from((byte as char).to_digit(16).unwrap_or(0));
                    Size
                }
                (Size, b';' | b' ' | b'\t') if self.line > 1 => Extension,
                (Size, b'\r') if self.line > 1 => SizeLf,
                (Extension, b'\r') => SizeLf,
                (Extension, byte) if byte != b'\n' => Extension,
                (SizeLf, b'\n') if self.left == 0 => Trailer,
                (SizeLf, b'\n') => Data,
                (DataCr, b'\r') => DataLf,
                (DataLf, b'\n') => {
                    self.line = 0;
                    Size
                }
                (Trailer, b'\r') => LastLf,
                (Trailer | TrailerLine, byte) if byte != b'\r' && byte != b'\n' => TrailerLine,
                (TrailerLine, b'\r') => TrailerLf,
                (TrailerLf, b'\n') => Trailer,
                (LastLf, b'\n') => return Ok(Some(at)),
                _ => return Err(Kind::BadChunk),
            };
            if self.line > LONGEST_CHUNK_LINE {
                return Err(Kind::BadChunk);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Option<Head>, Kind> {
        parse_head(text.as_bytes(), false)
    }

    fn framing(lines: &str) -> Framing {
        head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).unwrap().unwrap().framing
    }

    /// The end of a body follows RFC 9112 section 6.3.
    #[test]
    fn framing_by_the_book() {
        assert_eq!(framing("Content-Length: 5\r\n"), Framing::Length(5));
        assert_eq!(framing("content-length: 5\r\nCONTENT-LENGTH: 5\r\n"), Framing::Length(5));
        assert_eq!(framing("Content-Length: 5, 5\r\n"), Framing::Length(5));
        assert_eq!(framing("Transfer-Encoding: gzip, Chunked\r\n"), Framing::Chunked);
        assert_eq!(framing("Transfer-Encoding: gzip\r\n"), Framing::Close);
        assert_eq!(framing(""), Framing::Close);
        for text in ["HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 x\r\n\r\n", "HTTP/1.1 100 x\r\n\r\n"]
        {
            assert_eq!(head(text).unwrap().unwrap().framing, Framing::Empty);
        }
        let answer = parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap().unwrap();
        assert_eq!((answer.framing, answer.keep_alive), (Framing::Empty, true));
        let both = head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!((both.framing, both.keep_alive), (Framing::Chunked, false));
    }

    /// A connection stays open by the version's default, or as the head says.
    #[test]
    fn keep_alive_by_the_book() {
        let kept = |text: &str| head(text).unwrap().unwrap().keep_alive;
        assert!(kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(kept("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\n\r\n"));
    }

    /// What is not HTTP/1 is said to be so, at once.
    #[test]
    fn invalid_heads() {
        for text in [
            "garbage\r\n\r\n",
            "HTTP/9.9 200 OK\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA 1\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(head(text), Err(Kind::InvalidHttp), "{text:?}");
        }
        let many = "A: 1\r\n".repeat(5000);
        assert_eq!(head(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), Err(Kind::HeaderTooLarge));
        let some = "A: 1\r\n".repeat(500);
        assert!(head(&format!("HTTP/1.1 200 OK\r\n{some}\r\n")).unwrap().is_some());
        assert!(head("HTTP/1.1 200 OK\nA: 1\n\n").unwrap().is_some());
    }

    /// What is remembered of heads changes nothing of what is read: the same answers in any order give the same heads.
    #[test]
    fn remembered_heads_are_the_same_heads() {
        let texts: Vec<String> = (0..40)
            .map(|number| match number % 5 {
                0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {number}\r\n\r\n"),
                1 => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n".to_owned(),
                2 => format!("HTTP/1.1 302 x\r\nLocation: /{}\r\nContent-Length: 1\r\n\r\n", "a".repeat(number)),
                3 => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nX:".to_owned(),
                _ => "HTTP/1.1 999\r\nContent-Length: x\r\n\r\n".to_owned(),
            })
            .collect();
        let (mut heads, mut draws) = (Heads::default(), crate::schedule::SplitMix64::new(3));
        for turn in 0..5000 {
            let text = match turn % 1000 {
                // A server that never says the same twice, long enough for it to be noticed.
                0..200 => format!("HTTP/1.1 200 OK\r\nX: {turn}\r\nContent-Length: 1\r\n\r\n"),
                _ => texts[draws.between(0, 39) as usize].clone(),
            };
            let (body, bodyless) = ("body".repeat(turn % 3), draws.between(0, 1) == 1);
            let bytes = format!("{text}{body}").into_bytes();
            assert_eq!(heads.parse(&bytes, bodyless), parse_head(&bytes, bodyless), "{text:?}");
        }
        assert!(heads.known.len() == Heads::MOST);
    }

    fn unchunk(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<usize>), Kind> {
        let (mut chunks, mut body, mut end) = (Chunks::default(), Vec::new(), None);
        for piece in pieces {
            assert!(end.is_none());
            end = chunks.read(piece, |part| body.extend_from_slice(part))?;
        }
        Ok((body, end))
    }

    /// Wherever the bytes are cut, the same body comes out, and what follows it is left alone.
    #[test]
    fn chunks_cut_anywhere() {
        let text = b"4;ext=\"a\"\r\nWiki\r\n00A \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nHTTP";
        let whole = unchunk(&[text]).unwrap();
        assert_eq!(whole, (b"Wiki0123456789".to_vec(), Some(text.len() - 4)));
        for cut in 1..text.len() - 4 {
            let (body, _) = unchunk(&[&text[..cut], &text[cut..]]).unwrap();
            assert_eq!(body, b"Wiki0123456789", "{cut}");
        }
        let (body, end) = unchunk(&text[..text.len() - 4].chunks(1).collect::<Vec<_>>()).unwrap();
        assert_eq!((body, end), (b"Wiki0123456789".to_vec(), Some(1)));
    }

    /// Broken chunks are refused where they break.
    #[test]
    fn broken_chunks() {
        let long = [&b"5;"[..], &[b'x'; 20_000]].concat();
        for text in [
            &b"x\r\n"[..],
            b"0x5\r\n",
            b"\r\n",
            b"-1\r\n",
            b"5\nabcde\r\n",
            b"5\r\nabcdef\r\n",
            b"5\r\nabcde\n",
            b"10000000000000000\r\n",
            b"0\r\nTrailer\n",
            &long,
        ] {
            assert_eq!(
                unchunk(&[text]),
                Err(Kind::BadChunk),
                "{:?}",
                String::from_utf8_lossy(&text[..text.len().min(40)])
            );
        }
    }
}
