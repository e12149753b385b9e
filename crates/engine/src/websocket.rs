//! WebSocket (RFC 6455), the client's side, without sockets: the key and its answer, frames out, messages in.
//!
//! Extensions are not asked for, so whatever uses one is broken. Memory is bounded: a frame or a message beyond
//! `LONGEST_MESSAGE` is refused by its length, before it has come.

use ring::digest;

use crate::events::LONGEST_MESSAGE;
use crate::http1;
use crate::outcome::Kind;
use crate::schedule::SplitMix64;

/// Bytes of a key as it stands in the request.
pub const KEY: usize = 24;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const LONGEST_CONTROL: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub enum Opcode {
    /// A message of text.
    Text = 1,
    /// A message of bytes.
    Binary = 2,
    /// The end of the conversation.
    Close = 8,
    /// A question whether anybody is there.
    Ping = 9,
    /// The answer to it.
    Pong = 10,
}

/// What came from the server.
#[derive(Debug, PartialEq)]
pub enum Incoming<'r> {
    /// A whole message, text or not.
    Message(&'r [u8]),
    /// It wants a pong with the same content.
    Ping(&'r [u8]),
    /// It closes; 1005 where it gives no code.
    Close(u16),
}

/// A key for the request's `Sec-WebSocket-Key`.
pub fn key(draws: &mut SplitMix64) -> [u8; KEY] {
    let mut bytes = [0; 16];
    for half in bytes.chunks_mut(8) {
        half.copy_from_slice(&draws.next_u64().to_le_bytes());
    }
    base64(&bytes).try_into().expect("sixteen bytes are twenty-four digits")
}

/// What the server must answer to a key in `Sec-WebSocket-Accept`.
pub fn accept(key: &[u8]) -> Vec<u8> {
    // The protocol's own choice of hash; it protects nothing.
    let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    base64(sum.as_ref())
}

/// Whether the server has agreed to speak WebSocket: RFC 6455 section 4.1. It answers once (section 11.3.3).
pub fn accepts(head: &[u8], key: &[u8]) -> bool {
    let (mut upgrade, mut connection, mut answered, mut extension) = (false, false, false, false);
    let (wanted, mut answers) = (accept(key), 0);
    http1::each_header(head, |name, value| {
        let mut words = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        match name.to_ascii_lowercase().as_str() {
            "upgrade" => upgrade |= words.any(|word| word.eq_ignore_ascii_case(b"websocket")),
            "connection" => connection |= words.any(|word| word.eq_ignore_ascii_case(b"upgrade")),
            "sec-websocket-accept" => (answers, answered) = (answers + 1, value == wanted),
            "sec-websocket-extensions" => extension |= !value.is_empty(),
            _ => {}
        }
    });
    upgrade && connection && answered && answers == 1 && !extension
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let value = group.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            text.push(if digit <= group.len() { DIGITS[value >> (18 - 6 * digit) & 63] } else { b'=' });
        }
    }
    text
}

/// Adds a whole frame to `out`, masked as a client's must be.
pub fn write(opcode: Opcode, payload: &[u8], draws: &mut SplitMix64, out: &mut Vec<u8>) {
    out.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = (draws.next_u64() as u32).to_le_bytes();
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Reads frames and puts messages together.
#[derive(Debug, Default)]
pub struct Reader {
    /// What came and has not been read yet, from `at`.
    bytes: Vec<u8>,
    at: usize,
    /// The message whose last frame has not come yet.
    message: Vec<u8>,
    /// Whether there is one, and whether it is text.
    open: Option<bool>,
    /// The message was told, and can be forgotten.
    told: bool,
}

impl Reader {
    /// Takes what came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next thing that is whole; None until more has come.
    #[allow(clippy::should_implement_trait)] // what it gives borrows from it
    pub fn next(&mut self) -> Result<Option<Incoming<'_>>, Kind> {
        loop {
            if std::mem::take(&mut self.told) {
                self.message.clear();
            }
            let Some((first, begin, length)) = self.header()? else { return Ok(None) };
            if self.bytes.len() - begin < length {
                return Ok(None);
            }
            let payload = begin..begin + length;
            self.at = payload.end;
            let (last, opcode) = (first & 0x80 != 0, first & 15);
            match (opcode, self.open) {
                (0, Some(_)) => {}
                (1 | 2, None) => self.open = Some(opcode == 1),
                (8, _) => {
                    return match self.bytes[payload] {
                        [] => Ok(Some(Incoming::Close(1005))),
                        [_] => Err(Kind::BadFrame),
                        [high, low, ref reason @ ..] => {
                            let code = u16::from_be_bytes([high, low]);
                            let known = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                            if !known || std::str::from_utf8(reason).is_err() {
                                return Err(Kind::BadFrame);
                            }
                            Ok(Some(Incoming::Close(code)))
                        }
                    };
                }
                (9, _) => return Ok(Some(Incoming::Ping(&self.bytes[payload]))),
                (10, _) => continue,
                _ => return Err(Kind::BadFrame),
            }
            self.message.extend_from_slice(&self.bytes[payload]);
            if last {
                let text = self.open.take() == Some(true);
                if text && std::str::from_utf8(&self.message).is_err() {
                    return Err(Kind::BadUtf8);
                }
                self.told = true;
                return Ok(Some(Incoming::Message(&self.message)));
            }
        }
    }

    /// First byte, begin and length of the next frame's payload; None while its header is not whole.
    fn header(&self) -> Result<Option<(u8, usize, usize)>, Kind> {
        let rest = &self.bytes[self.at..];
        let &[first, second, ref more @ ..] = rest else { return Ok(None) };
        let (control, whole) = (first & 8 != 0, first & 0x80 != 0);
        // No extension was asked for, a server masks nothing, and a control frame is short and whole.
        if first & 0x70 != 0 || second & 0x80 != 0 || control && (!whole || usize::from(second) > LONGEST_CONTROL) {
            return Err(Kind::BadFrame);
        }
        let (length, size) = match (second, more) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, eight) if eight.len() >= 8 => (u64::from_be_bytes(eight[..8].try_into().expect("eight bytes")), 10),
            (126 | 127, _) => return Ok(None),
            (length, _) => (u64::from(length), 2),
        };
        let message = if self.told { 0 } else { self.message.len() };
        if length > (LONGEST_MESSAGE - message.min(LONGEST_MESSAGE)) as u64 {
            return Err(Kind::MessageTooLarge);
        }
        Ok(Some((first, self.at + size, length as usize)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..=125 => frame.push(length as u8),
            length @ 126..=0xffff => frame.extend([&[126], &(length as u16).to_be_bytes()[..]].concat()),
            length => frame.extend([&[127], &(length as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend_from_slice(payload);
        frame
    }

    fn read(bytes: &[u8], step: usize) -> (Vec<String>, Option<Kind>) {
        let mut reader = Reader::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(step) {
            reader.push(part);
            loop {
                match reader.next() {
                    Ok(None) => break,
                    Ok(Some(Incoming::Message(text))) => seen.push(String::from_utf8_lossy(text).into_owned()),
                    Ok(Some(other)) => seen.push(format!("{other:?}")),
                    Err(kind) => return (seen, Some(kind)),
                }
            }
        }
        (seen, None)
    }

    /// The example of RFC 6455 section 1.3, and keys that differ.
    #[test]
    fn keys_are_answered() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(base64(b"a"), b"YQ==");
        let mut draws = SplitMix64::new(1);
        assert_ne!(key(&mut draws), key(&mut draws));
    }

    /// What is written is masked, and unmasked it is a frame with the same payload, of every form of length.
    #[test]
    fn frames_are_masked() {
        let mut draws = SplitMix64::new(1);
        for (length, header) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let payload = vec![b'x'; length];
            let mut out = Vec::new();
            write(Opcode::Text, &payload, &mut draws, &mut out);
            let plain = frame(0x81, &payload);
            assert_eq!((out[0], out[1] & 0x80, out[1] & 0x7f), (0x81, 0x80, plain[1]));
            assert_eq!(out[2..header], plain[2..header]);
            let mask = &out[header..header + 4];
            let read: Vec<u8> = out[header + 4..].iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            assert_eq!(read, payload);
        }
    }

    /// Messages come out whole however their frames and bytes are cut, with pings between their parts.
    #[test]
    fn messages_are_put_together() {
        let long = "é".repeat(40_000);
        let bytes = [
            frame(0x81, b"one"),
            frame(0x01, &"é".as_bytes()[..1]),
            frame(0x89, b"?"),
            frame(0x00, b""),
            frame(0x80, &"é".as_bytes()[1..]),
            frame(0x8a, b"unasked"),
            frame(0x82, b"\xff"),
            frame(0x81, long.as_bytes()),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        let wanted = ["one", "Ping([63])", "é", "\u{fffd}", &long, "Close(1000)"];
        for step in [1, 2, 3, 7, 1000, bytes.len()] {
            let (seen, kind) = read(&bytes, step);
            assert_eq!((seen.len(), kind), (6, None));
            assert!(seen.iter().eq(wanted), "{step}");
        }
    }

    /// What breaks the protocol is refused, by a kind of its own where that tells more.
    #[test]
    fn broken_frames_are_told_apart() {
        for (bytes, kind) in [
            (frame(0xc1, b"compressed"), Kind::BadFrame),
            (frame(0x83, b"reserved"), Kind::BadFrame),
            (frame(0x80, b"goes on from nothing"), Kind::BadFrame),
            ([frame(0x01, b"one"), frame(0x81, b"two")].concat(), Kind::BadFrame),
            (frame(0x09, b"a ping in parts"), Kind::BadFrame),
            (frame(0x89, &[0; 126]), Kind::BadFrame),
            (frame(0x88, b"\x03"), Kind::BadFrame),
            (frame(0x88, b"\x03\xed"), Kind::BadFrame),
            (vec![0x81, 0x81, 0, 0, 0, 0, b'x'], Kind::BadFrame),
            (frame(0x81, b"\xff"), Kind::BadUtf8),
            (vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0], Kind::MessageTooLarge),
            ([&frame(0x02, &[0; 60_000])[..], &frame(0x00, &[0; 60_000]).repeat(20)].concat(), Kind::MessageTooLarge),
        ] {
            assert_eq!(read(&bytes, 5000).1, Some(kind), "{:?}", &bytes[..bytes.len().min(8)]);
        }
    }

    /// Whatever bytes come, messages or a refusal come out.
    #[test]
    fn any_bytes_are_read() {
        let mut draws = SplitMix64::new(3);
        for _ in 0..2000 {
            let size = draws.between(1, 60) as usize;
            let bytes: Vec<u8> = (0..size).map(|_| draws.next_u64() as u8 & 0x8f).collect();
            read(&bytes, 3);
        }
    }
}
