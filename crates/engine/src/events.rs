//! Server-sent events: messages out of a stream of text (WHATWG HTML, section 9.2).
//!
//! Bytes come in as the network cut them; what leaves are the messages' data. A message ends at an empty line, and has
//! what its `data` lines say, with line breaks between them; one without such a line is none. Other fields, and lines
//! that begin with a colon, are passed over.

use crate::outcome::Kind;

/// Bytes of one message, and of one line. Taste: what is longer is no message but a file.
pub const LONGEST_MESSAGE: usize = 1024 * 1024;

/// A stream of messages under way.
#[derive(Debug, Default)]
pub struct EventStream {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was a CR: an LF behind it is part of the same line break.
    after_cr: bool,
    begun: bool,
}

impl EventStream {
    /// Reads what came; `see` is told the data of each message that is whole.
    pub fn read(&mut self, bytes: &[u8], mut see: impl FnMut(&[u8])) -> Result<(), Kind> {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.keep(rest)?;
                break;
            };
            self.keep(&rest[..end])?;
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            self.end_line(&mut see)?;
        }
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), Kind> {
        if self.line.len() + part.len() > LONGEST_MESSAGE {
            return Err(Kind::MessageTooLarge);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn end_line(&mut self, see: &mut impl FnMut(&[u8])) -> Result<(), Kind> {
        let mut line = &self.line[..];
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                see(&self.data);
            }
            self.data.clear();
        } else if let Some(value) = line.strip_prefix(b"data") {
            let value = match value {
                [] => Some(value),
                [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
                _ => None,
            };
            if let Some(value) = value {
                if self.data.len() + value.len() >= LONGEST_MESSAGE {
                    return Err(Kind::MessageTooLarge);
                }
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
        }
        self.line.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<Vec<String>, Kind> {
        let mut stream = EventStream::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(step) {
            stream.read(part, |data| seen.push(String::from_utf8_lossy(data).into_owned()))?;
        }
        Ok(seen)
    }

    /// However the stream is cut and whichever line breaks it has, its messages are the same.
    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        let text = "\u{feff}data: one\n\n: a comment\nevent: x\nid: 7\n\ndata:two\ndata: lines\ndata\n\ndatum: no\n\n\
                    data: \u{e9}\nretry: 5\n\ndata: unfinished\n";
        let wanted = ["one", "two\nlines\n", "\u{e9}"];
        for breaks in ["\n", "\r", "\r\n"] {
            let text = text.replace('\n', breaks);
            for step in 1..text.len() {
                assert_eq!(read(text.as_bytes(), step).unwrap(), wanted, "{breaks:?} {step}");
            }
        }
    }

    /// A line or a message without end is refused when it has become too long, not kept.
    #[test]
    fn endless_messages_are_refused() {
        let line = vec![b'x'; LONGEST_MESSAGE + 1];
        assert_eq!(read(&line, 1000), Err(Kind::MessageTooLarge));
        let lines = b"data: 0123456789\n".repeat(LONGEST_MESSAGE / 10);
        assert_eq!(read(&lines, 100_000), Err(Kind::MessageTooLarge));
        assert_eq!(read(&b"data: 0123456789\n\n".repeat(1000), 77).unwrap().len(), 1000);
    }
}
