//! What a body was before its content coding (RFC 9110 section 8.4): gzip, deflate, br and zstd, alone or in a row.
//!
//! Bodies come from a program nobody here trusts: a small one may stand for any amount of zeros, or be cut, or be none of
//! what its head says. No more than `most` bytes are made by any coding, no more than `MOST_CODINGS` are undone, and what
//! is not exactly one whole stream is refused. Memory and time are bounded by `most`, whatever comes.

use std::io::{self, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::http1;

/// Codings of one body; servers use one.
const MOST_CODINGS: usize = 3;
/// What is made at once.
const PIECE: usize = 128 * 1024;
/// The largest window that zstd may ask for: more than RFC 9659 allows, and no more than bodies are read into.
const ZSTD_WINDOW: u64 = 16 * 1024 * 1024;

/// The body cannot be brought back: its coding is unknown or broken, or what it stands for is too large.
#[derive(Debug, PartialEq)]
pub struct BadEncoding;

/// The body without the codings that `head` says it has; it must not become longer than `most` on the way.
pub fn undo(head: &[u8], body: &[u8], most: usize) -> Result<Vec<u8>, BadEncoding> {
    let mut codings = Vec::new();
    http1::each_header(head, |name, value| {
        if name.eq_ignore_ascii_case("content-encoding") {
            codings.extend(value.split(|byte| *byte == b',').map(|word| word.trim_ascii().to_ascii_lowercase()));
        }
    });
    codings.retain(|word| !word.is_empty() && word != b"identity");
    if codings.len() > MOST_CODINGS {
        return Err(BadEncoding);
    }
    let mut whole = body.to_vec();
    // An answer without a body has nothing to undo, whatever its head says.
    if body.is_empty() {
        return Ok(whole);
    }
    for coding in codings.iter().rev() {
        let mut made = Vec::new();
        undo_one(coding, &whole, most, &mut made)?;
        whole = made;
    }
    Ok(whole)
}

/// Undoes one coding. What is made, whole or not, is appended to `whole`, and is never much more than `most`: that is what
/// bounds the work that a small body can ask for.
fn undo_one(coding: &[u8], body: &[u8], most: usize, whole: &mut Vec<u8>) -> Result<(), BadEncoding> {
    match coding {
        b"gzip" | b"x-gzip" => read_all(MultiGzDecoder::new(body), most, whole),
        b"deflate" => inflate(body, most, whole),
        b"br" => unbrotli(body, most, whole),
        b"zstd" => unzstd(body, most, whole),
        _ => Err(BadEncoding),
    }
}

fn read_all(from: impl Read, most: usize, whole: &mut Vec<u8>) -> Result<(), BadEncoding> {
    match from.take(most as u64 + 1).read_to_end(whole) {
        Ok(_) if whole.len() <= most => Ok(()),
        _ => Err(BadEncoding),
    }
}

/// With the wrapping of zlib, as it should be, or without it, as some servers send it.
fn inflate(body: &[u8], most: usize, whole: &mut Vec<u8>) -> Result<(), BadEncoding> {
    let wrapped = body.len() > 1 && body[0] & 15 == 8 && u16::from_be_bytes([body[0], body[1]]) % 31 == 0;
    let mut state = Decompress::new(wrapped);
    loop {
        let (seen, made) = (state.total_in(), whole.len());
        whole.resize(made + PIECE, 0);
        let status = state.decompress(&body[seen as usize..], &mut whole[made..], FlushDecompress::None);
        whole.truncate(state.total_out() as usize);
        if whole.len() > most {
            return Err(BadEncoding);
        }
        match status {
            Ok(Status::StreamEnd) if state.total_in() == body.len() as u64 => return Ok(()),
            Ok(Status::Ok) if state.total_in() > seen || whole.len() > made => {}
            _ => return Err(BadEncoding),
        }
    }
}

fn unbrotli(body: &[u8], most: usize, whole: &mut Vec<u8>) -> Result<(), BadEncoding> {
    let (bytes, words, codes) = (StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    // Strict: windows beyond RFC 7932, of up to a gigabyte, are refused.
    let mut state = BrotliState::new_strict(bytes, words, codes);
    let (mut available, mut offset, mut total) = (body.len(), 0, 0);
    let mut piece = vec![0; PIECE];
    loop {
        let (mut room, mut end) = (PIECE, 0);
        let (left, at) = (&mut available, &mut offset);
        let result = BrotliDecompressStream(left, at, body, &mut room, &mut end, &mut piece, &mut total, &mut state);
        whole.extend_from_slice(&piece[..end]);
        if whole.len() > most {
            return Err(BadEncoding);
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if offset == body.len() => return Ok(()),
            _ => return Err(BadEncoding),
        }
    }
}

fn unzstd(body: &[u8], most: usize, whole: &mut Vec<u8>) -> Result<(), BadEncoding> {
    let mut rest = body;
    let mut decoder = FrameDecoder::new();
    while !rest.is_empty() {
        if zstd_window(rest).is_some_and(|window| window > ZSTD_WINDOW) {
            return Err(BadEncoding);
        }
        match decoder.reset(&mut rest) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                rest = rest.get(length as usize..).ok_or(BadEncoding)?;
                continue;
            }
            Err(_) => return Err(BadEncoding),
        }
        let mut sink = Sink { whole, most };
        loop {
            let ended = decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(PIECE));
            decoder.collect_to_writer(&mut sink).map_err(|_| BadEncoding)?;
            if ended.map_err(|_| BadEncoding)? {
                break;
            }
        }
        let told = decoder.get_checksum_from_data();
        if told.is_some() && told != decoder.get_calculated_checksum() {
            return Err(BadEncoding);
        }
    }
    Ok(())
}

/// How much of what it has made a zstd frame needs to keep (RFC 8878 section 3.1.1.1); None where no frame begins.
fn zstd_window(frame: &[u8]) -> Option<u64> {
    let told = frame.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])?;
    let descriptor = *told.first()?;
    if descriptor & 0x20 == 0 {
        let (base, parts) = (1u64 << (10 + (told.get(1)? >> 3)), u64::from(told.get(1)? & 7));
        return Some(base + base / 8 * parts);
    }
    let skipped = 1 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let bytes = told.get(skipped..skipped + size)?;
    let value = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Some(if size == 2 { value + 256 } else { value })
}

/// Takes what a decoder makes, up to a limit.
struct Sink<'w> {
    whole: &'w mut Vec<u8>,
    most: usize,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.whole.extend_from_slice(bytes);
        if self.whole.len() > self.most { Err(io::ErrorKind::OutOfMemory.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const MOST: usize = 1 << 20;

    fn all(from: impl Read) -> Vec<u8> {
        let mut whole = Vec::new();
        read_all(from, usize::MAX - 1, &mut whole).unwrap();
        whole
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        all(GzEncoder::new(body, Compression::fast()))
    }

    fn undone(codings: &str, body: &[u8]) -> Result<Vec<u8>, BadEncoding> {
        undo(format!("HTTP/1.1 200 OK\r\nContent-Encoding: {codings}\r\n\r\n").as_bytes(), body, MOST)
    }

    /// What one and the same text looks like in each coding.
    fn packed(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("gzip", gzip(text)),
            ("X-GZip", [gzip(&text[..5]), gzip(&text[5..])].concat()),
            ("deflate", all(ZlibEncoder::new(text, Compression::fast()))),
            ("deflate", all(DeflateEncoder::new(text, Compression::fast()))),
            ("zstd", compress_to_vec(text, CompressionLevel::Fastest)),
            // As `brotli` makes it of this text.
            ("br", BROTLI.to_vec()),
            ("gzip, zstd", compress_to_vec(&gzip(text)[..], CompressionLevel::Fastest)),
            ("identity", text.to_vec()),
        ]
    }

    const TEXT: &[u8] = b"hello hello hello hello hello hello hello, brave new world of codings";
    const BROTLI: &[u8] = &[
        27, 68, 0, 248, 69, 111, 120, 189, 235, 247, 62, 104, 229, 16, 69, 209, 138, 72, 82, 207, 64, 242, 128, 92, 0,
        74, 131, 153, 13, 43, 176, 209, 35, 138, 143, 249, 245, 142, 89,
    ];

    /// Every coding gives the text back, and a body cut anywhere, or with something behind it, does not.
    #[test]
    fn codings_are_undone_whole_or_not_at_all() {
        for (coding, body) in packed(TEXT) {
            assert_eq!(undone(coding, &body).as_deref(), Ok(TEXT), "{coding}");
            if coding == "identity" {
                continue;
            }
            for cut in 1..body.len() {
                // Whole members of gzip are whole bodies.
                let whole = coding == "X-GZip" && cut == gzip(&TEXT[..5]).len();
                assert_eq!(undone(coding, &body[..cut]).is_ok(), whole, "{coding} cut at {cut}");
            }
            assert_eq!(undone(coding, &[&body[..], b"\x01x"].concat()), Err(BadEncoding), "{coding} and more");
        }
        assert_eq!(undone("gzip", b""), Ok(Vec::new()));
        assert_eq!(undone("gzip", TEXT), Err(BadEncoding));
        assert_eq!(undone("compress", TEXT), Err(BadEncoding));
        assert_eq!(undone("gzip, gzip, gzip, gzip", &gzip(&gzip(&gzip(&gzip(TEXT))))), Err(BadEncoding));
    }

    /// A body whose check sum is not its own is refused, and so is one that was changed anywhere it shows.
    #[test]
    fn sums_are_checked() {
        let mut body = gzip(TEXT);
        let sum = body.len() - 8;
        body[sum] ^= 1;
        assert_eq!(undone("gzip", &body), Err(BadEncoding));
        let mut body = all(ZlibEncoder::new(TEXT, Compression::fast()));
        *body.last_mut().unwrap() ^= 1;
        assert_eq!(undone("deflate", &body), Err(BadEncoding));
        let mut body = compress_to_vec(TEXT, CompressionLevel::Fastest);
        *body.last_mut().unwrap() ^= 1;
        assert_eq!(undone("zstd", &body), Err(BadEncoding));
    }

    /// What would become too large is refused as soon as it does, in each coding and behind each other.
    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![0; 4 * MOST];
        let huge = vec![0; 64 * MOST];
        for (coding, body) in [
            ("gzip", gzip(&huge)),
            ("deflate", all(ZlibEncoder::new(&huge[..], Compression::fast()))),
            ("zstd", compress_to_vec(&huge[..], CompressionLevel::Fastest)),
            ("gzip, gzip", gzip(&gzip(&zeros))),
            // 16 MiB of zeros, as `brotli` makes it.
            ("br", BROTLI_BOMB.to_vec()),
        ] {
            assert_eq!(undone(coding, &body), Err(BadEncoding), "{coding}");
        }
        assert_eq!(undone("gzip", &gzip(&zeros[..MOST])).map(|body| body.len()), Ok(MOST));
        // A frame that claims a window of two gigabytes; a brotli stream that asks for a large one.
        assert_eq!(undone("zstd", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"), Err(BadEncoding));
        assert_eq!(undone("br", b"\x11\x1e\x03"), Err(BadEncoding));
    }

    /// The work for a bomb is that for a body of the size that is allowed, however much it stands for.
    #[test]
    fn bombs_cost_no_more_than_bodies() {
        let huge = vec![0; 64 * MOST];
        for (coding, body) in [
            ("gzip", gzip(&huge)),
            ("deflate", all(ZlibEncoder::new(&huge[..], Compression::fast()))),
            ("zstd", compress_to_vec(&huge[..], CompressionLevel::Fastest)),
            ("br", BROTLI_BOMB.to_vec()),
        ] {
            for most in [0, 1000, MOST] {
                let mut made = Vec::new();
                assert_eq!(undo_one(coding.as_bytes(), &body, most, &mut made), Err(BadEncoding), "{coding}");
                // A block of zstd's is as long as a piece and may begin just below one.
                assert!((most + 1..=most + 2 * PIECE).contains(&made.len()), "{coding}: {} of {most}", made.len());
            }
        }
    }

    const BROTLI_BOMB: &[u8] = &[
        203, 255, 255, 63, 248, 39, 0, 226, 177, 64, 32, 247, 254, 143, 255, 255, 127, 240, 79, 0, 196, 97, 17, 128,
        238, 253, 223,
    ];

    /// Whatever bytes come, the answer is a body or a refusal.
    #[test]
    fn broken_bodies_break_nothing() {
        let mut draws = crate::schedule::SplitMix64::new(7);
        for (coding, body) in packed(TEXT) {
            for _ in 0..2000 {
                let mut body = body.clone();
                for _ in 0..draws.between(1, 4) {
                    let at = draws.between(0, body.len() as i64 - 1) as usize;
                    body[at] = draws.between(0, 255) as u8;
                }
                let _ = undone(coding, &body);
            }
        }
    }
}
