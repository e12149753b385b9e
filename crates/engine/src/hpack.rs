//! HPACK (RFC 7541): fields of HTTP/2 heads, from and to bytes.
//!
//! A field is handled as the line `name: value\r\n` that it would be in HTTP/1: decoding copies such lines into a head's
//! text, encoding takes them from a request's. So both tables hold lines, and what has been seen before is one copy.
//!
//! Both sides keep to the memory that HPACK itself allows (4,096 bytes of table each); what a block decodes into is
//! bounded by who calls.

use std::collections::VecDeque;

use crate::outcome::Kind;

/// What a table may hold, by RFC 7541's way of counting. The protocol's default, which neither side asks to change.
pub const TABLE_SIZE: usize = 4096;
/// What a field costs beside its name and value (RFC 7541 section 4.1).
const OVERHEAD: usize = 32;
/// Bytes of `": "` and CRLF.
const PUNCTUATION: usize = 4;

/// RFC 7541 appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Lengths of the codes of bytes 0 to 255 and of the end of a string (RFC 7541 appendix B). The code is canonical: codes
/// of one length follow each other in the order of their bytes, those of the next length behind them.
const CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];
const LONGEST_CODE: usize = 30;
const END_OF_STRING: u16 = 256;
/// What a string of this many bytes can become: the shortest code has 5 bits.
const fn most_decoded(bytes: usize) -> usize {
    bytes * 8 / 5 + 1
}

struct Huffman {
    /// Symbol and length of the code that a byte begins with; length 0 where the code is longer than the byte.
    short: [(u8, u8); 256],
    /// By length: the first code, left-aligned in 32 bits, behind those of this length.
    ends: [u64; LONGEST_CODE + 1],
    /// By length: what to add to a code to get its place in `symbols`.
    offsets: [i64; LONGEST_CODE + 1],
    symbols: [u16; 257],
}

const HUFFMAN: Huffman = huffman();

const fn huffman() -> Huffman {
    let (mut short, mut symbols) = ([(0, 0); 256], [0; 257]);
    let (mut ends, mut offsets) = ([0; LONGEST_CODE + 1], [0; LONGEST_CODE + 1]);
    let (mut code, mut place, mut length) = (0_u64, 0, 1);
    while length <= LONGEST_CODE {
        code <<= 1;
        offsets[length] = place as i64 - code as i64;
        let mut symbol = 0;
        while symbol < 257 {
            if CODE_LENGTHS[symbol] as usize == length {
                symbols[place] = symbol as u16;
                if length <= 8 {
                    let mut rest = 0;
                    while rest < 1 << (8 - length) {
                        short[(code as usize) << (8 - length) | rest] = (symbol as u8, length as u8);
                        rest += 1;
                    }
                }
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        ends[length] = code << (32 - length);
        length += 1;
    }
    Huffman { short, ends, offsets, symbols }
}

/// Appends what the code says. The error is of a code that is none.
fn unhuffman(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Kind> {
    static TABLE: Huffman = HUFFMAN;
    let begin = out.len();
    out.resize(begin + most_decoded(bytes.len()), 0);
    let (mut bits, mut count, mut at, mut end) = (0_u64, 0_u32, 0, begin);
    loop {
        while count <= 56 && at < bytes.len() {
            bits |= u64::from(bytes[at]) << (56 - count);
            count += 8;
            at += 1;
        }
        let (symbol, length) = TABLE.short[(bits >> 56) as usize];
        let (symbol, length) = if length > 0 { (symbol, u32::from(length)) } else { long_code(&TABLE, bits)? };
        if length > count {
            // What is left fills up the last byte with the beginning of the end's code, which is all ones.
            let padding = count < 8 && bits.leading_ones() >= count;
            out.truncate(end);
            return if padding { Ok(()) } else { Err(Kind::Http2Compression) };
        }
        out[end] = symbol;
        end += 1;
        bits <<= length;
        count -= length;
    }
}

#[cold]
fn long_code(table: &Huffman, bits: u64) -> Result<(u8, u32), Kind> {
    let top = bits >> 32;
    for length in 9..=LONGEST_CODE {
        if top < table.ends[length] {
            let place = (top >> (32 - length)) as i64 + table.offsets[length];
            let symbol = table.symbols[place as usize];
            // The end of a string is not to be written (section 5.2); padding is shorter than it.
            return if symbol == END_OF_STRING { Ok((0, u32::MAX)) } else { Ok((symbol as u8, length as u32)) };
        }
    }
    Ok((0, u32::MAX))
}

/// Where a decoded field lies in the text it was appended to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    /// Where its line begins.
    pub begin: usize,
    /// Length of its name.
    pub name: usize,
    /// Whether it may not be in a head: a name with capitals or spaces, a value with control characters.
    pub malformed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Counted from the first line ever.
    begin: usize,
    length: usize,
    name: usize,
    malformed: bool,
}

/// Reads blocks of fields, with what earlier blocks have put into its table.
#[derive(Debug, Default)]
pub struct Decoder {
    lines: Vec<u8>,
    /// Bytes of lines that have been forgotten.
    base: usize,
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    /// What the other side has limited the table to, below `TABLE_SIZE`.
    lowered: Option<usize>,
}

impl Decoder {
    /// Appends the next field's line to `out` and takes its bytes off `block`; None at its end. `first` says whether the
    /// block begins here. The error is that the block cannot be read; then no later one can.
    pub fn next(&mut self, block: &mut &[u8], first: bool, out: &mut Vec<u8>) -> Result<Option<Field>, Kind> {
        loop {
            let Some(&byte) = block.first() else { return Ok(None) };
            if byte & 0x80 != 0 {
                let index = integer(block, 7)?;
                return self.indexed(index, out).map(Some);
            }
            if byte & 0xe0 == 0x20 {
                let size = integer(block, 5)?;
                if size > TABLE_SIZE || !first {
                    return Err(Kind::Http2Compression);
                }
                self.lowered = (size < TABLE_SIZE).then_some(size);
                self.shrink_to(size);
                continue;
            }
            let keeps = byte & 0x40 != 0;
            let index = integer(block, if keeps { 6 } else { 4 })?;
            let field = self.literal(index, block, out)?;
            if keeps {
                self.keep(&out[field.begin..], field);
            }
            return Ok(Some(field));
        }
    }

    fn indexed(&self, index: usize, out: &mut Vec<u8>) -> Result<Field, Kind> {
        let begin = out.len();
        if let Some((name, value)) = index.checked_sub(1).and_then(|place| STATIC.get(place)) {
            push_line(name.as_bytes(), value.as_bytes(), out);
            return Ok(Field { begin, name: name.len(), malformed: false });
        }
        let entry = self.entry(index)?;
        out.extend_from_slice(self.line(entry));
        Ok(Field { begin, name: entry.name, malformed: entry.malformed })
    }

    fn literal(&self, index: usize, block: &mut &[u8], out: &mut Vec<u8>) -> Result<Field, Kind> {
        let begin = out.len();
        let mut malformed = false;
        if let Some((name, _)) = index.checked_sub(1).and_then(|place| STATIC.get(place)) {
            out.extend_from_slice(name.as_bytes());
        } else if index > 0 {
            let entry = self.entry(index)?;
            malformed = entry.malformed;
            out.extend_from_slice(&self.line(entry)[..entry.name]);
        } else {
            string(block, out)?;
            let name = &out[begin..];
            let plain = name.strip_prefix(b":").unwrap_or(name);
            malformed = plain.is_empty() || !plain.iter().all(|byte| is_name(*byte));
        }
        let name = out.len() - begin;
        out.extend_from_slice(b": ");
        let value = out.len();
        string(block, out)?;
        malformed |= out[value..].iter().any(|byte| is_control(*byte));
        out.extend_from_slice(b"\r\n");
        Ok(Field { begin, name, malformed })
    }

    fn entry(&self, index: usize) -> Result<Entry, Kind> {
        let place = index.checked_sub(STATIC.len() + 1);
        place.and_then(|place| self.entries.get(place)).copied().ok_or(Kind::Http2Compression)
    }

    fn line(&self, entry: Entry) -> &[u8] {
        let begin = entry.begin - self.base;
        &self.lines[begin..begin + entry.length]
    }

    fn keep(&mut self, line: &[u8], field: Field) {
        let cost = line.len() - PUNCTUATION + OVERHEAD;
        let most = self.lowered.unwrap_or(TABLE_SIZE);
        self.shrink_to(most.saturating_sub(cost));
        if cost > most {
            return;
        }
        // Forgotten lines are dropped when there are several tables of them.
        if self.lines.len() > 4 * TABLE_SIZE {
            let begin = self.entries.back().map_or(self.base + self.lines.len(), |oldest| oldest.begin);
            self.lines.drain(..begin - self.base);
            self.base = begin;
        }
        let begin = self.base + self.lines.len();
        self.lines.extend_from_slice(line);
        let Field { name, malformed, .. } = field;
        self.entries.push_front(Entry { begin, length: line.len(), name, malformed });
        self.size += cost;
    }

    fn shrink_to(&mut self, size: usize) {
        while self.size > size {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.length - PUNCTUATION + OVERHEAD;
        }
    }
}

/// An integer whose first byte has so many bits for it (section 5.1).
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Kind> {
    let (&first, mut rest) = block.split_first().ok_or(Kind::Http2Compression)?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, behind) = rest.split_first().ok_or(Kind::Http2Compression)?;
            rest = behind;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(Kind::Http2Compression);
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// Appends a string (section 5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Kind> {
    let coded = block.first().is_some_and(|byte| byte & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Kind::Http2Compression)?;
    *block = rest;
    if coded {
        return unhuffman(text, out);
    }
    out.extend_from_slice(text);
    Ok(())
}

fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Lines that are only seen once are not put into the table; so many of the last are remembered to know.
const REMEMBERED: usize = 128;
/// Blocks of whole heads that are kept.
const MOST_BLOCKS: usize = 64;
/// A head that is longer is not kept as a block.
const LONGEST_BLOCK: usize = 2048;

/// Writes heads of requests, which come as HTTP/1 text, as blocks.
///
/// A line that comes a second time goes into the table and is one or two bytes from then on. Nothing ever leaves the
/// table: when it is full, what is not in it is written out. So it soon does not change any more, and the block of a
/// request that is always the same is kept until it does.
#[derive(Debug)]
pub struct Encoder {
    https: bool,
    /// What the other side lets the table hold, at most `TABLE_SIZE`.
    most: usize,
    size: usize,
    lines: Vec<u8>,
    /// Hash, and where the line lies in `lines`, in the order in which they were put into the table.
    hashes: Vec<u32>,
    places: Vec<(u32, u32)>,
    seen: Box<[u32; REMEMBERED]>,
    /// The other side has changed the table's size: to be said in the next block.
    resized: bool,
    blocks: Vec<Block>,
}

/// A head that comes again and again.
#[derive(Debug)]
struct Block {
    /// Where its text lay.
    place: usize,
    text: Box<[u8]>,
    /// What became of it.
    bytes: Box<[u8]>,
}

impl Encoder {
    /// For requests to `https` or `http`.
    pub fn new(https: bool) -> Self {
        Self {
            https,
            most: TABLE_SIZE,
            size: 0,
            lines: Vec::new(),
            hashes: Vec::new(),
            places: Vec::new(),
            seen: Box::new([0; REMEMBERED]),
            resized: false,
            blocks: Vec::new(),
        }
    }

    /// What the other side allows the table to hold.
    pub fn limit(&mut self, size: usize) {
        let most = size.min(TABLE_SIZE);
        if most == self.most {
            return;
        }
        self.most = most;
        self.size = 0;
        self.lines.clear();
        self.hashes.clear();
        self.places.clear();
        self.blocks.clear();
        self.resized = true;
    }

    /// Appends the block of the request that begins `text`, and returns where its head ends. `constant` says that the
    /// same text comes again.
    pub fn encode(&mut self, text: &[u8], constant: bool, out: &mut Vec<u8>) -> usize {
        // The place only finds the block, the text itself is what counts.
        let place = text.as_ptr() as usize;
        let known = self.blocks.iter().find(|block| constant && block.place == place);
        if let Some(block) = known.filter(|block| text.starts_with(&block.text)) {
            out.extend_from_slice(&block.bytes);
            return block.text.len();
        }
        let known = known.is_some();
        let begin = out.len();
        let resized = std::mem::take(&mut self.resized);
        if resized {
            // The table is emptied first, as this side has emptied its own.
            push_integer(0, 5, 0x20, out);
            push_integer(self.most, 5, 0x20, out);
        }
        let stays = self.encode_lines(text, constant, out) && !resized;
        let head = head_end(text);
        if constant && stays && !known && head <= LONGEST_BLOCK && self.blocks.len() < MOST_BLOCKS {
            self.blocks.push(Block { place, text: text[..head].into(), bytes: out[begin..].into() });
        }
        head
    }

    /// Whether the same text would be written in the same way again.
    fn encode_lines(&mut self, text: &[u8], constant: bool, out: &mut Vec<u8>) -> bool {
        let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let request_line = lines.next().unwrap_or_default();
        let mut words = request_line.split(|byte| *byte == b' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut all = match method {
            b"GET" => push_index(2, out),
            b"POST" => push_index(3, out),
            _ => self.field(b":method", method, true, out),
        };
        push_index(if self.https { 7 } else { 6 }, out);
        all &= if path == b"/" { push_index(4, out) } else { self.field(b":path", path, constant, out) };
        let fields = lines.clone().take_while(|line| !line.is_empty()).filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        });
        // The name of the server belongs among what begins with a colon, and goes first.
        let host = |name: &[u8]| name.eq_ignore_ascii_case(b"host");
        for (_, value) in fields.clone().filter(|(name, _)| host(name)).take(1) {
            all &= self.field(b":authority", value, true, out);
        }
        for (name, value) in fields.filter(|(name, _)| !host(name) && !is_of_the_connection(name)) {
            let varies = !constant && name.eq_ignore_ascii_case(b"content-length");
            all &= self.field(name, value, !varies, out);
        }
        all
    }

    /// Appends a field; whether it would be written in the same way again. `repeats` where it is worth a place in the
    /// table once it is seen again.
    fn field(&mut self, name: &[u8], value: &[u8], repeats: bool, out: &mut Vec<u8>) -> bool {
        if repeats {
            let hash = hash(name, value);
            let mut from = 0;
            while let Some(found) = self.hashes[from..].iter().position(|other| *other == hash) {
                let place = from + found;
                let (begin, end) = self.places[place];
                let line = &self.lines[begin as usize..end as usize];
                if line.len() == name.len() + value.len() && line.starts_with(name) && line.ends_with(value) {
                    return push_index(STATIC.len() + self.places.len() - place, out);
                }
                from = place + 1;
            }
            let cost = name.len() + value.len() + OVERHEAD;
            if self.size + cost > self.most {
                push_literal(0, 4, name, value, out);
                return true;
            }
            let seen = &mut self.seen[hash as usize % REMEMBERED];
            if *seen == hash {
                self.size += cost;
                self.blocks.clear();
                let begin = self.lines.len();
                self.lines.extend_from_slice(name);
                self.lines.extend_from_slice(value);
                self.hashes.push(hash);
                self.places.push((begin as u32, self.lines.len() as u32));
                push_literal(0x40, 6, name, value, out);
                return false;
            }
            *seen = hash;
        }
        push_literal(0, 4, name, value, out);
        false
    }
}

/// Where the head of a request ends, the empty line included.
fn head_end(text: &[u8]) -> usize {
    memchr::memmem::find(text, b"\r\n\r\n").map_or(text.len(), |at| at + 4)
}

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2).
fn is_of_the_connection(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] =
        [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"];
    NAMES.iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// FNV-1a over eight bytes at a time.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ name.len() as u64;
    for part in [name, value] {
        let mut words = part.chunks_exact(8);
        for word in &mut words {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3_0001);
            hash ^= hash >> 29;
        }
        for byte in words.remainder() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    (hash ^ hash >> 32) as u32 | 1
}

fn push_index(index: usize, out: &mut Vec<u8>) -> bool {
    push_integer(index, 7, 0x80, out);
    true
}

/// A name that the static table has is an index; no string is coded: bytes on a loopback or a LAN cost less than coding.
fn push_literal(pattern: u8, bits: u32, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let known = match name {
        b":path" => 4,
        b":authority" => 1,
        _ => 0,
    };
    push_integer(known, bits, pattern, out);
    if known == 0 {
        push_integer(name.len(), 7, 0, out);
        out.extend(name.iter().map(u8::to_ascii_lowercase));
    }
    push_integer(value.len(), 7, 0, out);
    out.extend_from_slice(value);
}

fn push_integer(value: usize, bits: u32, pattern: u8, out: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<String, Kind> {
        let (mut rest, mut out, mut first) = (block, Vec::new(), true);
        while decoder.next(&mut rest, first, &mut out)?.is_some() {
            first = false;
        }
        Ok(String::from_utf8(out).unwrap())
    }

    /// The examples of RFC 7541 appendix C.6: three answers with Huffman codes and a table of 256 bytes that forgets.
    #[test]
    fn decodes_the_examples_of_the_standard() {
        let mut decoder = Decoder::default();
        let first = "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e \
                     919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
        let date = "date: Mon, 21 Oct 2013 20:13:21 GMT\r\nlocation: https://www.example.com\r\n";
        let text = format!(":status: 302\r\ncache-control: private\r\n{date}");
        assert_eq!(decode(&mut decoder, &bytes(first)).unwrap(), text);
        assert_eq!(decode(&mut decoder, &bytes("4883 640e ffc1 c0bf")).unwrap(), text.replace("302", "307"));
        let third = "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
                     e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
        let answer = decode(&mut decoder, &bytes(third)).unwrap();
        assert!(
            answer.starts_with(":status: 200\r\ncache-control: private\r\ndate: Mon, 21 Oct 2013 20:13:22 GMT\r\n")
        );
        assert!(answer.ends_with("set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\r\n"));
        assert_eq!(decoder.entries.len(), 3);
    }

    /// Each byte has a code, and comes back from it.
    #[test]
    fn every_byte_comes_back_from_its_code() {
        let mut codes = [0_u64; 257];
        let (mut code, mut order) = (0, (0..257).collect::<Vec<usize>>());
        order.sort_by_key(|symbol| CODE_LENGTHS[*symbol]);
        let mut last = CODE_LENGTHS[order[0]];
        for symbol in order {
            code <<= CODE_LENGTHS[symbol] - last;
            last = CODE_LENGTHS[symbol];
            codes[symbol] = code;
            code += 1;
        }
        for symbol in 0..=255_usize {
            // Thrice, so that codes begin anywhere in a byte.
            let (mut bits, mut count, mut coded) = (0_u128, 0, Vec::new());
            for _ in 0..3 {
                bits = bits << CODE_LENGTHS[symbol] | u128::from(codes[symbol]);
                count += u32::from(CODE_LENGTHS[symbol]);
            }
            let padding = (8 - count % 8) % 8;
            bits = bits << padding | ((1 << padding) - 1);
            count += padding;
            coded.extend((0..count / 8).rev().map(|byte| (bits >> (8 * byte)) as u8));
            let mut out = b"x".to_vec();
            unhuffman(&coded, &mut out).unwrap();
            assert_eq!(out, [b'x', symbol as u8, symbol as u8, symbol as u8], "{symbol}");
        }
    }

    /// What cannot be read is said to be so, and nothing breaks.
    #[test]
    fn broken_blocks() {
        for hex in [
            "80",             // index 0
            "be",             // an entry that is not there
            "ffffffffffff0f", // a number without end
            "40",             // no name
            "4005616263",     // a name that is longer than the block
            "008161",         // a code that ends in zeros
            "0084ffffffff",   // the end of a string within it
            "00820fff 0161",  // eight bits of padding
            "3fe21f",         // a table larger than allowed
            "8820",           // a table that changes in mid-block
        ] {
            assert_eq!(decode(&mut Decoder::default(), &bytes(hex)), Err(Kind::Http2Compression), "{hex}");
        }
    }

    /// Names with capitals and values with line breaks are told, also when they come back from the table.
    #[test]
    fn malformed_fields_are_told() {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for (block, malformed) in [
            (&b"\x40\x01a\x03b\r\n"[..], true),
            (b"\xbe", true),
            (b"\x40\x01A\x01b", true),
            (b"\x40\x01a\x01b", false),
            (b"\x40\x00\x01b", true),
            (b"\xc0", true),
            (b"\xbf", false),
        ] {
            let field = decoder.next(&mut &block[..], true, &mut out).unwrap().unwrap();
            assert_eq!(field.malformed, malformed, "{block:?}");
        }
    }

    /// The table forgets the oldest first, holds nothing larger than itself, and its memory stays bounded.
    #[test]
    fn the_table_is_bounded() {
        let mut decoder = Decoder::default();
        for round in 0..10_000 {
            let value = format!("{round:0100}");
            let block = [b"\x40\x01a\x64", value.as_bytes()].concat();
            decode(&mut decoder, &block).unwrap();
            assert_eq!(decode(&mut decoder, b"\xbe").unwrap(), format!("a: {value}\r\n"));
            assert!(decoder.size <= TABLE_SIZE && decoder.lines.len() <= 5 * TABLE_SIZE);
        }
        assert_eq!(decoder.entries.len(), TABLE_SIZE / 133);
        let mut long = vec![0x40, 1, b'a', 0x7f, 0x81, 0x7f];
        long.extend([b'x'; 127 + 1 + 127 * 128]);
        decode(&mut decoder, &long).unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    }

    const REQUEST: &[u8] =
        b"GET /a?b HTTP/1.1\r\nHost: h:1\r\nUser-Agent: s\r\nConnection: close\r\nX-Y:  1 \r\n\r\nbody";

    /// What is written is read back, is short from the third time on, and stays right when the table is made smaller.
    #[test]
    fn encodes_what_the_decoder_reads() {
        let (mut encoder, mut decoder) = (Encoder::new(true), Decoder::default());
        let expected =
            ":method: GET\r\n:scheme: https\r\n:path: /a?b\r\n:authority: h:1\r\nuser-agent: s\r\nx-y: 1\r\n";
        for round in 0..5 {
            let mut block = Vec::new();
            assert_eq!(encoder.encode(REQUEST, true, &mut block), REQUEST.len() - 4);
            assert_eq!(decode(&mut decoder, &block).unwrap(), expected);
            assert!(round < 2 || block.len() == 6, "{block:?}");
            assert_eq!(encoder.blocks.len(), usize::from(round >= 2));
        }
        encoder.limit(60);
        for _ in 0..4 {
            let mut block = Vec::new();
            encoder.encode(REQUEST, true, &mut block);
            assert_eq!(decode(&mut decoder, &block).unwrap(), expected);
            assert!(decoder.size <= 60);
        }
        encoder.limit(0);
        let mut block = Vec::new();
        encoder.encode(REQUEST, false, &mut block);
        assert_eq!(decode(&mut decoder, &block).unwrap(), expected);
        assert_eq!(decoder.size, 0);
    }

    /// What varies does not push out what repeats.
    #[test]
    fn varying_lines_leave_the_table_alone() {
        let (mut encoder, mut decoder) = (Encoder::new(false), Decoder::default());
        for round in 0..2000 {
            let path = format!("/items/{}", round * 7919 % 1000);
            let text = format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nX-Id: {round}\r\nContent-Length:         {}\r\n\r\n",
                round % 9
            );
            let mut block = Vec::new();
            encoder.encode(text.as_bytes(), false, &mut block);
            let read = decode(&mut decoder, &block).unwrap();
            let start =
                format!(":method: POST\r\n:scheme: http\r\n:path: {path}\r\n:authority: h\r\nx-id: {round}\r\n");
            assert_eq!(read, format!("{start}content-length: {}\r\n", round % 9));
            assert!(round < 3 || block.len() < 55, "{}", block.len());
        }
        assert!(encoder.size < 100);
    }
}
