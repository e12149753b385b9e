//! HTTP/2 (RFC 9113) as a client speaks it: many exchanges on one connection, each a stream of its own.
//!
//! Bytes that came in are given to `next`, which says what has ended; bytes to send gather in `out`. There are no sockets
//! and no clocks here. Requests come as HTTP/1 text and heads of answers leave as such, so that whoever renders, checks
//! and shows them knows of one form only.
//!
//! What a server may do wrong, and what is made of it. Where the connection cannot go on, all of its streams end so:
//!
//! | what comes | kind | goes on |
//! |---|---|---|
//! | no SETTINGS first, and nothing that looks like a frame | `no_http2` | no |
//! | a frame where it may not be, a push, a stream that was never opened | `http2_protocol` | no |
//! | a frame longer than 16 KiB, or of a wrong size | `http2_frame_size` | no |
//! | fields that cannot be decoded | `http2_compression` | no |
//! | more data than there was room for; windows above 2³¹−1 | `http2_flow_control` | a stream's own: yes |
//! | 10,000 frames in a row that bring no answer on | `http2_flood` | no |
//! | a head of more than 256 kB or 4,096 fields | `header_too_large` | where it can be decoded: yes |
//! | a head without a status, fields with capitals or control characters | `invalid_http` | yes |
//! | a body that is shorter, or longer, than announced | `short_body`, `invalid_http` | yes |
//! | RST_STREAM | `http2_reset`, `http2_refused` | yes |
//! | GOAWAY | `http2_goaway` for streams above its last | for the others, until they have ended |
//!
//! Nothing is sent twice: what a server left undone has failed.

use std::collections::VecDeque;
use std::ops::Range;

use crate::clock::Ns;
use crate::conn::{Exchange, Payload};
use crate::hpack::{Decoder, Encoder};
use crate::http1::{self, LONGEST_HEAD, MOST_HEADERS};
use crate::kept::{Kept, Room};
use crate::outcome::Kind;
use crate::upload::Outgoing;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
/// The longest frame that this side takes: the protocol's default.
const LONGEST_FRAME: usize = 16 * 1024;
/// Frames of a request's body are not longer, even where the other side takes more. Taste.
const LONGEST_SENT: usize = 256 * 1024;
/// Room for the answers of a stream, and of the whole connection. Large, so that no answer waits for more of it: bytes
/// are taken as they come.
const STREAM_WINDOW: u32 = 16 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 1 << 30;
const DEFAULT_WINDOW: u32 = 65_535;
const LARGEST_WINDOW: i64 = (1 << 31) - 1;
const LAST_ID: u32 = (1 << 31) - 1;
/// Bytes that wait to be written above which no more of a body is framed, and above which the other side floods.
const OUT_ENOUGH: usize = 256 * 1024;
const OUT_TOO_MUCH: usize = 8 * 1024 * 1024;
/// Frames in a row that bring no answer on. Taste: a server that pings each second needs hours for it.
const MOST_IDLE_FRAMES: u32 = 10_000;
/// Pieces of a head: each may be as long as a frame, so a head within the bounds needs few.
const MOST_CONTINUATIONS: u32 = 256;
/// Streams that this side has reset after which a connection gets no more of them: servers take many for an attack.
const MOST_RESETS: u32 = 500;
/// What buffers of a stream keep between exchanges.
const KEPT_CAPACITY: usize = 4 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const WITH_PRIORITY: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;
const HTTP_1_1_REQUIRED: u32 = 13;

/// One exchange, on its way or just ended.
#[derive(Debug)]
pub struct Stream {
    /// What was asked for.
    pub exchange: Exchange,
    /// Whether the connection was begun for it.
    pub opener: bool,
    /// When its last byte was handed to the kernel; -1 before.
    pub sent: Ns,
    /// When its answer began; -1 before.
    pub first: Ns,
    /// Bytes of its frames.
    pub bytes_out: u64,
    /// Bytes of its frames.
    pub bytes_in: u64,
    /// 0 before its head.
    pub status: u16,
    /// Whether the head has a `Set-Cookie`.
    pub sets_cookie: bool,
    /// Whether the head has a `Content-Encoding`.
    pub encoded: bool,
    /// Where the value of `Location` lies in `head`.
    pub location: Option<Range<usize>>,
    /// Where the value of `Server-Timing` lies in `head`.
    pub server_timing: Option<Range<usize>>,
    /// The head as HTTP/1 text, from its status line to its empty line.
    pub head: Vec<u8>,
    /// As much of the body as is kept; empty where it came in one piece.
    pub body: Kept,
    /// The request's text; empty where it is a shared one that went out at once.
    pub request: Vec<u8>,
    /// Length of the body.
    pub body_length: u64,
    /// A body that is read while it is sent.
    upload: Option<Box<Outgoing>>,
    /// It is on its way.
    live: bool,
    constant: bool,
    length: Option<u64>,
    interim: usize,
    /// Up to where `request` has been framed.
    request_at: usize,
    /// Its body waits for room.
    blocked: bool,
    /// Its last frame has been written into `out`, and `out` has not been sent.
    unsent: bool,
    /// Room for its body at the other side.
    window: i64,
    /// Room for its answer here.
    room: i64,
}

/// The end of an exchange. What it consisted of is in `Session::stream` until `release`.
#[derive(Debug, PartialEq)]
pub struct Ended {
    /// Which.
    pub slot: u16,
    /// Why there is no whole answer.
    pub error: Option<Kind>,
    /// Where the body lies in the bytes that were read, if it came in one piece.
    pub body: Option<Range<usize>>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    id: u32,
}

/// The DATA frame that is being read.
#[derive(Clone, Copy, Debug)]
struct Data {
    /// None where nobody waits for it.
    slot: Option<u16>,
    /// Whether the next byte is the length of the padding.
    padded: bool,
    left: usize,
    padding: usize,
    end: bool,
}

/// One connection's side of the conversation.
#[derive(Debug)]
pub struct Session {
    /// Bytes to send.
    pub out: Vec<u8>,
    /// Up to where they have been sent.
    pub out_at: usize,
    /// Whether it is on its connection's list of those that have something to send.
    pub listed: bool,
    /// Whether it is among those that have room.
    pub pooled: bool,
    /// When something was read last.
    pub heard: Ns,
    /// What bodies of answers may take, on this and other connections.
    pub bodies: Room,
    most: usize,
    peer_most: usize,
    decoder: Decoder,
    encoder: Encoder,
    streams: Vec<Stream>,
    /// Ids of `streams`; 0 for none.
    ids: Vec<u32>,
    free: Vec<u16>,
    /// Streams without an id: the connection is not there yet, or the other side allows no more.
    waiting: VecDeque<u16>,
    /// Streams with an id.
    active: usize,
    /// Streams that went wrong, to be told by `next`.
    over: VecDeque<(u16, Kind)>,
    unsent: Vec<u16>,
    blocked: usize,
    next_id: u32,
    established: bool,
    greeted: bool,
    retired: bool,
    dead: bool,
    resets: u32,
    idle_frames: u32,
    /// Room at the other side for bodies.
    window: i64,
    initial_window: i64,
    longest_sent: usize,
    /// Room here for answers.
    room: i64,
    /// A frame that came in pieces.
    held: Vec<u8>,
    data: Option<Data>,
    /// A head that comes in several frames: its stream, whether it ends it, and its pieces.
    continuing: Option<(u32, bool, u32)>,
    block: Vec<u8>,
    unasked: Vec<u8>,
}

impl Session {
    /// A session on a connection that is not there yet, with so many streams at once.
    pub fn new(most: usize, https: bool) -> Self {
        Self {
            out: Vec::new(),
            out_at: 0,
            listed: false,
            pooled: false,
            heard: 0,
            bodies: Room::default(),
            most: most.clamp(1, usize::from(u16::MAX)),
            peer_most: usize::MAX,
            decoder: Decoder::default(),
            encoder: Encoder::new(https),
            streams: Vec::new(),
            ids: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            active: 0,
            over: VecDeque::new(),
            unsent: Vec::new(),
            blocked: 0,
            next_id: 1,
            established: false,
            greeted: false,
            retired: false,
            dead: false,
            resets: 0,
            idle_frames: 0,
            window: i64::from(DEFAULT_WINDOW),
            initial_window: i64::from(DEFAULT_WINDOW),
            longest_sent: LONGEST_FRAME,
            room: i64::from(CONNECTION_WINDOW),
            held: Vec::new(),
            data: None,
            continuing: None,
            block: Vec::new(),
            unasked: Vec::new(),
        }
    }

    // --- For whom the connection is ---------------------------------------------------------------------------------

    /// Exchanges that have not been released.
    pub fn in_flight(&self) -> usize {
        self.streams.len() - self.free.len()
    }

    /// Whether another exchange would begin at once.
    pub fn has_room(&self) -> bool {
        !self.retired && self.in_flight() < self.most.min(self.peer_most)
    }

    /// Whether the connection takes no further exchanges; then it is to be closed when the last has ended.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether the connection is gone: what is left is to tell of its exchanges.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether bytes wait to be sent.
    pub fn wants_write(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// An exchange that `next` has said to be ended.
    pub fn stream(&mut self, slot: u16) -> &mut Stream {
        &mut self.streams[usize::from(slot)]
    }

    /// Begins an exchange, whose request is `payload` (`own` where that does not bring the text itself; another buffer
    /// comes back).
    pub fn submit(&mut self, payload: Payload<'_>, own: &mut Vec<u8>, exchange: Exchange, opener: bool) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.streams.push(Stream::new(exchange));
            self.ids.push(0);
            self.streams.len() as u16 - 1
        });
        let stream = &mut self.streams[usize::from(slot)];
        stream.begin(exchange, opener, matches!(payload, Payload::Shared(_)), &self.bodies);
        let at_once = self.established && self.active < self.peer_most && self.waiting.is_empty();
        match payload {
            Payload::Own => std::mem::swap(own, &mut stream.request),
            Payload::Upload(mut upload) => {
                upload.leave_unframed();
                stream.upload = Some(upload);
                std::mem::swap(own, &mut stream.request);
            }
            Payload::Shared(text) if at_once => return self.start(slot, text),
            Payload::Shared(text) => stream.request.extend_from_slice(text),
        }
        if at_once {
            return self.start_own(slot);
        }
        self.waiting.push_back(slot);
    }

    /// The connection is there: says what has to be said first, and starts what waits.
    pub fn establish(&mut self) {
        self.established = true;
        self.out.extend_from_slice(PREFACE);
        let settings =
            [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, STREAM_WINDOW), (MAX_HEADER_LIST_SIZE, LONGEST_HEAD as u32)];
        push_frame_head(&mut self.out, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            self.out.extend_from_slice(&name.to_be_bytes());
            self.out.extend_from_slice(&value.to_be_bytes());
        }
        self.push_number(WINDOW_UPDATE, 0, CONNECTION_WINDOW - DEFAULT_WINDOW);
        self.start_waiting();
    }

    /// Everything in `out` has been handed to the kernel at `now`. More may be in it afterwards.
    pub fn written(&mut self, now: Ns) {
        self.out.clear();
        self.out_at = 0;
        if self.out.capacity() > 2 * OUT_ENOUGH {
            self.out = Vec::new();
        }
        for slot in self.unsent.drain(..) {
            let stream = &mut self.streams[usize::from(slot)];
            (stream.sent, stream.unsent) = (now, false);
        }
        if self.blocked > 0 {
            self.go_on_sending();
        }
    }

    /// Ends exchanges whose deadline has come, and says when the next one does.
    pub fn expire(&mut self, now: Ns) -> Ns {
        let mut next = Ns::MAX;
        for slot in 0..self.streams.len() as u16 {
            let stream = &self.streams[usize::from(slot)];
            let deadline = stream.exchange.deadline;
            if !stream.live || deadline > now {
                next = if stream.live { next.min(deadline) } else { next };
                continue;
            }
            let kind = match stream.status {
                _ if !self.established => Kind::ConnectTimeout,
                0 => Kind::HeaderTimeout,
                _ => Kind::BodyTimeout,
            };
            // A connection that never came, or on which nothing has come since, gets no further exchanges.
            self.retired |= !self.established || self.heard < stream.exchange.begin;
            self.fail_stream(slot, kind, CANCEL);
        }
        next
    }

    /// Ends all exchanges, as the connection cannot go on: `kind` says why, knowing whether a head has come and whether
    /// anything has since the exchange began.
    pub fn fail(&mut self, kind: impl Fn(bool, bool) -> Kind) {
        self.retired = true;
        self.dead = true;
        self.waiting.clear();
        for slot in 0..self.streams.len() as u16 {
            let stream = &self.streams[usize::from(slot)];
            if stream.live {
                let kind = kind(stream.status > 0, self.heard >= stream.exchange.begin);
                self.close(slot);
                self.over.push_back((slot, kind));
            }
        }
    }

    /// Says why this side gives the connection up.
    pub fn say_why(&mut self, kind: Kind) {
        let code = match kind {
            Kind::Http2FrameSize => FRAME_SIZE_ERROR,
            Kind::Http2Compression => COMPRESSION_ERROR,
            Kind::Http2FlowControl => FLOW_CONTROL_ERROR,
            Kind::Http2Flood | Kind::HeaderTooLarge => ENHANCE_YOUR_CALM,
            _ => PROTOCOL_ERROR,
        };
        push_frame_head(&mut self.out, 8, GOAWAY, 0, 0);
        self.out.extend_from_slice(&0_u32.to_be_bytes());
        self.out.extend_from_slice(&code.to_be_bytes());
    }

    /// The exchange of this owner, given up without anybody being told.
    pub fn abort(&mut self, owner: u32) -> Option<u16> {
        let slot = self.streams.iter().position(|stream| stream.live && stream.exchange.owner == owner)? as u16;
        self.reset(slot, CANCEL);
        self.close(slot);
        Some(slot)
    }

    /// Forgets an exchange that has ended.
    pub fn release(&mut self, slot: u16) {
        self.free.push(slot);
    }

    // --- What goes out ----------------------------------------------------------------------------------------------

    fn start_waiting(&mut self) {
        while self.established && !self.dead && self.active < self.peer_most {
            let Some(slot) = self.waiting.pop_front() else { return };
            self.start_own(slot);
        }
    }

    /// Starts a stream whose request it has itself.
    fn start_own(&mut self, slot: u16) {
        let text = std::mem::take(&mut self.streams[usize::from(slot)].request);
        self.start(slot, &text);
        self.streams[usize::from(slot)].request = text;
    }

    fn start(&mut self, slot: u16, text: &[u8]) {
        let (id, place) = (self.next_id, usize::from(slot));
        self.next_id += 2;
        // The ids of a connection are used up after 2³⁰ streams.
        self.retired |= self.next_id > LAST_ID;
        self.ids[place] = id;
        self.active += 1;
        let stream = &mut self.streams[place];
        stream.window = self.initial_window;
        let begin = self.out.len();
        self.out.extend_from_slice(&[0; FRAME_HEAD]);
        let head = self.encoder.encode(text, stream.constant, &mut self.out);
        let length = self.out.len() - begin - FRAME_HEAD;
        let whole = head == text.len() && self.streams[place].upload.is_none();
        let end = if whole { END_STREAM } else { 0 };
        if length > LONGEST_FRAME {
            self.cut_head(begin, end, id);
        } else {
            self.out[begin..begin + FRAME_HEAD].copy_from_slice(&frame_head(length, HEADERS, end | END_HEADERS, id));
        }
        let stream = &mut self.streams[place];
        stream.bytes_out = (self.out.len() - begin) as u64;
        stream.request_at = head;
        if whole {
            stream.unsent = true;
            return self.unsent.push(slot);
        }
        if !self.send_body(slot, text) {
            let stream = &mut self.streams[place];
            stream.blocked = true;
            self.blocked += 1;
            if stream.constant && stream.request.is_empty() {
                // The text itself need not live as long as this takes. Whoever started from `request` puts it back.
                stream.request = text.to_vec();
            }
        }
    }

    /// Makes several frames of a head that is longer than one may be.
    #[cold]
    fn cut_head(&mut self, begin: usize, end: u8, id: u32) {
        let block = self.out.split_off(begin + FRAME_HEAD);
        self.out.truncate(begin);
        let last = block.len().div_ceil(LONGEST_FRAME) - 1;
        for (number, piece) in block.chunks(LONGEST_FRAME).enumerate() {
            let (kind, flags) = if number == 0 { (HEADERS, end) } else { (CONTINUATION, 0) };
            let flags = if number == last { flags | END_HEADERS } else { flags };
            push_frame_head(&mut self.out, piece.len(), kind, flags, id);
            self.out.extend_from_slice(piece);
        }
    }

    /// Frames as much of the body as there is room for; whether that is all of it.
    fn send_body(&mut self, slot: u16, text: &[u8]) -> bool {
        if let Some(upload) = self.streams[usize::from(slot)].upload.take() {
            return self.send_upload(slot, upload);
        }
        let (stream, id) = (&mut self.streams[usize::from(slot)], self.ids[usize::from(slot)]);
        loop {
            let rest = &text[stream.request_at..];
            let room = self.window.min(stream.window).max(0) as usize;
            let enough = OUT_ENOUGH.saturating_sub(self.out.len() - self.out_at);
            let part = rest.len().min(room).min(self.longest_sent).min(enough);
            if part == 0 {
                return false;
            }
            let last = part == rest.len();
            push_frame_head(&mut self.out, part, DATA, if last { END_STREAM } else { 0 }, id);
            self.out.extend_from_slice(&rest[..part]);
            self.window -= part as i64;
            stream.window -= part as i64;
            stream.request_at += part;
            stream.bytes_out += (FRAME_HEAD + part) as u64;
            self.idle_frames = 0;
            if last {
                stream.unsent = true;
                self.unsent.push(slot);
                return true;
            }
        }
    }

    /// The same with a body that is read while it is sent.
    #[cold]
    fn send_upload(&mut self, slot: u16, mut upload: Box<Outgoing>) -> bool {
        loop {
            let (stream, id) = (&mut self.streams[usize::from(slot)], self.ids[usize::from(slot)]);
            let piece = match upload.piece() {
                Ok(piece) => piece,
                Err(kind) => {
                    self.fail_stream(slot, kind, CANCEL);
                    return true;
                }
            };
            let room = self.window.min(stream.window).max(0) as usize;
            let enough = OUT_ENOUGH.saturating_sub(self.out.len() - self.out_at);
            let part = piece.len().min(room).min(self.longest_sent).min(enough);
            let last = piece.is_empty();
            if part == 0 && !last {
                stream.upload = Some(upload);
                return false;
            }
            push_frame_head(&mut self.out, part, DATA, if last { END_STREAM } else { 0 }, id);
            self.out.extend_from_slice(&piece[..part]);
            upload.advance(part);
            self.window -= part as i64;
            stream.window -= part as i64;
            stream.bytes_out += (FRAME_HEAD + part) as u64;
            self.idle_frames = 0;
            if last {
                stream.unsent = true;
                self.unsent.push(slot);
                return true;
            }
        }
    }

    /// Goes on with bodies, now that there is room.
    #[cold]
    fn go_on_sending(&mut self) {
        for slot in 0..self.streams.len() as u16 {
            let stream = &mut self.streams[usize::from(slot)];
            if std::mem::take(&mut stream.blocked) {
                self.blocked -= 1;
                let text = std::mem::take(&mut stream.request);
                let done = self.send_body(slot, &text);
                let stream = &mut self.streams[usize::from(slot)];
                stream.request = text;
                stream.blocked = !done;
                self.blocked += usize::from(!done);
            }
        }
    }

    fn push_number(&mut self, kind: u8, id: u32, number: u32) {
        push_frame_head(&mut self.out, 4, kind, 0, id);
        self.out.extend_from_slice(&number.to_be_bytes());
    }

    /// Resets a stream at the other side, if it knows of it.
    fn reset(&mut self, slot: u16, code: u32) {
        let id = self.ids[usize::from(slot)];
        if id > 0 && !self.dead {
            self.push_number(RST_STREAM, id, code);
            self.resets += 1;
            self.retired |= self.resets >= MOST_RESETS;
        }
    }

    // --- How streams end --------------------------------------------------------------------------------------------

    /// The stream is no longer on its way.
    fn close(&mut self, slot: u16) {
        let place = usize::from(slot);
        if self.ids[place] > 0 {
            self.ids[place] = 0;
            self.active -= 1;
        } else if !self.waiting.is_empty() {
            self.waiting.retain(|other| *other != slot);
        }
        if let Some(data) = self.data.as_mut().filter(|data| data.slot == Some(slot)) {
            data.slot = None;
        }
        let stream = &mut self.streams[place];
        stream.live = false;
        stream.upload = None;
        if std::mem::take(&mut stream.unsent) {
            self.unsent.retain(|other| *other != slot);
        }
        if std::mem::take(&mut stream.blocked) {
            self.blocked -= 1;
        }
        if !self.waiting.is_empty() {
            self.start_waiting();
        }
    }

    fn fail_stream(&mut self, slot: u16, kind: Kind, code: u32) {
        self.reset(slot, code);
        self.close(slot);
        self.over.push_back((slot, kind));
    }

    /// The answer has come to its end.
    fn finish(&mut self, slot: u16, body: Option<Range<usize>>) -> Option<Ended> {
        let stream = &self.streams[usize::from(slot)];
        let bodyless = stream.exchange.bodyless || matches!(stream.status, 204 | 304);
        let expected = stream.length.filter(|_| !bodyless).unwrap_or(stream.body_length);
        let error = match stream.body_length {
            length if length < expected => Some(Kind::ShortBody),
            length if length > expected => Some(Kind::InvalidHttp),
            _ => None,
        };
        if stream.blocked {
            // It has answered without the rest of the request, so the rest is not sent.
            self.reset(slot, CANCEL);
        }
        self.idle_frames = 0;
        self.close(slot);
        Some(Ended { slot, error, body })
    }

    // --- What comes in ----------------------------------------------------------------------------------------------

    /// Takes in `bytes` from `at` on, up to the next exchange that has ended; None when all have been taken in. The
    /// error is that the connection cannot go on.
    pub fn next(&mut self, bytes: &[u8], at: &mut usize, now: Ns, max_body: u64) -> Result<Option<Ended>, Kind> {
        loop {
            if let Some((slot, kind)) = self.over.pop_front() {
                return Ok(Some(Ended { slot, error: Some(kind), body: None }));
            }
            if self.dead {
                return Ok(None);
            }
            let rest = &bytes[*at..];
            if let Some(data) = self.data {
                if rest.is_empty() {
                    return Ok(None);
                }
                if let Some(ended) = self.take_data(data, bytes, at, max_body)? {
                    return Ok(Some(ended));
                }
                continue;
            }
            let ended = if self.held.is_empty() && rest.len() >= FRAME_HEAD {
                let frame = Frame::read(rest);
                self.check(frame)?;
                let whole = FRAME_HEAD + frame.length;
                if frame.kind == DATA {
                    *at += FRAME_HEAD;
                    self.begin_data(frame)?
                } else if rest.len() >= whole {
                    *at += whole;
                    self.take_frame(frame, &rest[FRAME_HEAD..whole], now)?
                } else {
                    *at += rest.len();
                    self.held.extend_from_slice(rest);
                    return Ok(None);
                }
            } else if rest.is_empty() {
                return Ok(None);
            } else {
                self.take_piece(bytes, at, now)?
            };
            if ended.is_some() {
                return Ok(ended);
            }
        }
    }

    /// Takes in bytes of a frame that comes in pieces.
    #[cold]
    fn take_piece(&mut self, bytes: &[u8], at: &mut usize, now: Ns) -> Result<Option<Ended>, Kind> {
        let mut take = |held: &mut Vec<u8>, whole: usize| {
            let part = whole.saturating_sub(held.len()).min(bytes.len() - *at);
            held.extend_from_slice(&bytes[*at..*at + part]);
            *at += part;
            held.len() >= whole
        };
        if !take(&mut self.held, FRAME_HEAD) {
            return Ok(None);
        }
        let frame = Frame::read(&self.held);
        self.check(frame)?;
        if frame.kind == DATA {
            self.held.clear();
            return self.begin_data(frame);
        }
        if !take(&mut self.held, FRAME_HEAD + frame.length) {
            return Ok(None);
        }
        let mut held = std::mem::take(&mut self.held);
        let ended = self.take_frame(frame, &held[FRAME_HEAD..], now);
        held.clear();
        self.held = held;
        ended
    }

    /// Whether the frame may come here at all.
    #[inline]
    fn check(&self, frame: Frame) -> Result<(), Kind> {
        if !self.greeted && (frame.kind != SETTINGS || frame.flags & ACK != 0) {
            // Something else answers: its text makes no sense as a frame.
            let like_a_frame = frame.kind <= CONTINUATION && frame.length <= LONGEST_FRAME;
            return Err(if like_a_frame { Kind::Http2Protocol } else { Kind::NoHttp2 });
        }
        if frame.length > LONGEST_FRAME {
            return Err(Kind::Http2FrameSize);
        }
        let continued = self.continuing.map(|(id, ..)| id);
        let expected = if frame.kind == CONTINUATION { Some(frame.id) } else { None };
        if continued != expected { Err(Kind::Http2Protocol) } else { Ok(()) }
    }

    /// Counts a frame that brings no answer on.
    fn idle(&mut self) -> Result<(), Kind> {
        self.idle_frames += 1;
        let flood = self.idle_frames > MOST_IDLE_FRAMES || self.out.len() > OUT_TOO_MUCH;
        if flood { Err(Kind::Http2Flood) } else { Ok(()) }
    }

    fn find(&self, id: u32) -> Option<u16> {
        self.ids.iter().position(|other| *other == id).map(|place| place as u16)
    }

    /// Whether this stream was never opened.
    fn is_unknown(&self, id: u32) -> bool {
        id % 2 == 0 || id >= self.next_id
    }

    fn begin_data(&mut self, frame: Frame) -> Result<Option<Ended>, Kind> {
        if self.is_unknown(frame.id) {
            return Err(Kind::Http2Protocol);
        }
        self.room -= frame.length as i64;
        if self.room < 0 {
            return Err(Kind::Http2FlowControl);
        }
        if self.room < i64::from(CONNECTION_WINDOW / 2) {
            self.push_number(WINDOW_UPDATE, 0, (i64::from(CONNECTION_WINDOW) - self.room) as u32);
            self.room = i64::from(CONNECTION_WINDOW);
        }
        let end = frame.flags & END_STREAM != 0;
        let mut slot = self.find(frame.id);
        if let Some(own) = slot {
            let stream = &mut self.streams[usize::from(own)];
            stream.bytes_in += (FRAME_HEAD + frame.length) as u64;
            stream.room -= frame.length as i64;
            if stream.status == 0 || stream.room < 0 {
                let early = stream.status == 0;
                let (kind, code) = match early {
                    true => (Kind::Http2Protocol, PROTOCOL_ERROR),
                    false => (Kind::Http2FlowControl, FLOW_CONTROL_ERROR),
                };
                self.fail_stream(own, kind, code);
                slot = None;
            } else if !end && stream.room < i64::from(STREAM_WINDOW / 2) {
                let more = (i64::from(STREAM_WINDOW) - stream.room) as u32;
                stream.room = i64::from(STREAM_WINDOW);
                self.push_number(WINDOW_UPDATE, frame.id, more);
            }
        }
        let padded = frame.flags & PADDED != 0;
        if frame.length == 0 {
            if padded {
                return Err(Kind::Http2FrameSize);
            }
            if let Some(slot) = slot.filter(|_| end) {
                return Ok(self.finish(slot, None));
            }
            self.idle()?;
            return Ok(None);
        }
        if slot.is_some() {
            self.idle_frames = 0;
        } else {
            self.idle()?;
        }
        self.data = Some(Data { slot, padded, left: frame.length, padding: 0, end });
        Ok(None)
    }

    #[inline]
    fn take_data(
        &mut self,
        mut data: Data,
        bytes: &[u8],
        at: &mut usize,
        max_body: u64,
    ) -> Result<Option<Ended>, Kind> {
        if data.padded {
            let padding = usize::from(bytes[*at]);
            *at += 1;
            data.padded = false;
            data.left = (data.left - 1).checked_sub(padding).ok_or(Kind::Http2Protocol)?;
            data.padding = padding;
        }
        let part = data.left.min(bytes.len() - *at);
        let place = *at..*at + part;
        *at += part;
        data.left -= part;
        let mut range = None;
        if let Some(slot) = data.slot.filter(|_| part > 0) {
            let stream = &mut self.streams[usize::from(slot)];
            let whole = stream.body_length == 0 && data.left == 0 && data.end;
            stream.body_length += part as u64;
            if stream.body_length > max_body {
                self.fail_stream(slot, Kind::BodyTooLarge, CANCEL);
                data.slot = None;
            } else if whole {
                range = Some(place);
            } else {
                stream.body.add(&bytes[place], stream.exchange.keep, &self.bodies);
            }
        }
        let skipped = data.padding.min(bytes.len() - *at);
        if data.left == 0 {
            *at += skipped;
            data.padding -= skipped;
        }
        let over = data.left == 0 && data.padding == 0;
        if !over {
            if let (Some(range), Some(slot)) = (range, data.slot) {
                // Its padding comes with another read, until which these bytes do not stay.
                let stream = &mut self.streams[usize::from(slot)];
                stream.body.add(&bytes[range], stream.exchange.keep, &self.bodies);
            }
            self.data = Some(data);
            return Ok(None);
        }
        self.data = None;
        Ok(data.slot.filter(|_| data.end).and_then(|slot| self.finish(slot, range)))
    }

    fn take_frame(&mut self, frame: Frame, payload: &[u8], now: Ns) -> Result<Option<Ended>, Kind> {
        let sized = |right: bool| if right { Ok(()) } else { Err(Kind::Http2FrameSize) };
        let placed = |right: bool| if right { Ok(()) } else { Err(Kind::Http2Protocol) };
        let number = || u32::from_be_bytes(payload[..4].try_into().unwrap_or_default()) & LAST_ID;
        match frame.kind {
            HEADERS => return self.take_headers(frame, payload, now),
            CONTINUATION => return self.take_continuation(frame, payload),
            PUSH_PROMISE => return Err(Kind::Http2Protocol),
            SETTINGS => {
                placed(frame.id == 0)?;
                sized(payload.len() % 6 == 0 && (frame.flags & ACK == 0 || payload.is_empty()))?;
                if frame.flags & ACK == 0 {
                    self.greeted = true;
                    self.settle(payload)?;
                    push_frame_head(&mut self.out, 0, SETTINGS, ACK, 0);
                }
            }
            PING => {
                placed(frame.id == 0)?;
                sized(payload.len() == 8)?;
                if frame.flags & ACK == 0 {
                    push_frame_head(&mut self.out, 8, PING, ACK, 0);
                    self.out.extend_from_slice(payload);
                }
            }
            WINDOW_UPDATE => {
                sized(payload.len() == 4)?;
                self.widen(frame.id, i64::from(number()))?;
            }
            RST_STREAM => {
                sized(payload.len() == 4)?;
                placed(!self.is_unknown(frame.id))?;
                if let Some(slot) = self.find(frame.id) {
                    let kind = match u32::from_be_bytes(payload.try_into().unwrap_or_default()) {
                        REFUSED_STREAM => Kind::Http2Refused,
                        HTTP_1_1_REQUIRED => Kind::NoHttp2,
                        _ => Kind::Http2Reset,
                    };
                    self.streams[usize::from(slot)].bytes_in += (FRAME_HEAD + payload.len()) as u64;
                    self.close(slot);
                    self.over.push_back((slot, kind));
                    return Ok(None);
                }
            }
            GOAWAY => {
                placed(frame.id == 0)?;
                sized(payload.len() >= 8)?;
                self.leave(number());
            }
            PRIORITY => sized(payload.len() == 5)?,
            _ => {}
        }
        self.idle()?;
        Ok(None)
    }

    fn settle(&mut self, payload: &[u8]) -> Result<(), Kind> {
        for setting in payload.chunks_exact(6) {
            let name = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match name {
                HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
                ENABLE_PUSH if value != 0 => return Err(Kind::Http2Protocol),
                MAX_CONCURRENT_STREAMS => self.peer_most = value as usize,
                INITIAL_WINDOW_SIZE => {
                    let window = i64::from(value);
                    let more = window - self.initial_window;
                    self.initial_window = window;
                    let streams = self.streams.iter_mut().zip(&self.ids).filter(|(_, id)| **id > 0);
                    let widest = streams.map(|(stream, _)| {
                        stream.window += more;
                        stream.window
                    });
                    if widest.fold(window, i64::max) > LARGEST_WINDOW {
                        return Err(Kind::Http2FlowControl);
                    }
                }
                MAX_FRAME_SIZE => {
                    if !(LONGEST_FRAME..1 << 24).contains(&(value as usize)) {
                        return Err(Kind::Http2Protocol);
                    }
                    self.longest_sent = (value as usize).min(LONGEST_SENT);
                }
                _ => {}
            }
        }
        if self.blocked > 0 {
            self.go_on_sending();
        }
        self.start_waiting();
        Ok(())
    }

    /// The other side has more room for bodies.
    fn widen(&mut self, id: u32, more: i64) -> Result<(), Kind> {
        if id == 0 {
            self.window += more;
            match (more, self.window) {
                (0, _) => return Err(Kind::Http2Protocol),
                (_, window) if window > LARGEST_WINDOW => return Err(Kind::Http2FlowControl),
                _ => {}
            }
        } else if self.is_unknown(id) {
            return Err(Kind::Http2Protocol);
        } else if let Some(slot) = self.find(id) {
            let stream = &mut self.streams[usize::from(slot)];
            stream.window += more;
            match (more, stream.window) {
                (0, _) => self.fail_stream(slot, Kind::Http2Protocol, PROTOCOL_ERROR),
                (_, window) if window > LARGEST_WINDOW => {
                    self.fail_stream(slot, Kind::Http2FlowControl, FLOW_CONTROL_ERROR);
                }
                _ => {}
            }
        }
        if self.blocked > 0 {
            self.go_on_sending();
        }
        Ok(())
    }

    /// The other side takes no further streams, and does nothing about those above `last`.
    fn leave(&mut self, last: u32) {
        self.retired = true;
        for slot in std::mem::take(&mut self.waiting) {
            self.close(slot);
            self.over.push_back((slot, Kind::Http2Goaway));
        }
        for slot in 0..self.streams.len() as u16 {
            if self.ids[usize::from(slot)] > last {
                self.close(slot);
                self.over.push_back((slot, Kind::Http2Goaway));
            }
        }
    }

    fn take_headers(&mut self, frame: Frame, payload: &[u8], now: Ns) -> Result<Option<Ended>, Kind> {
        if self.is_unknown(frame.id) {
            return Err(Kind::Http2Protocol);
        }
        let mut block = payload;
        if frame.flags & PADDED != 0 {
            let (&padding, rest) = block.split_first().ok_or(Kind::Http2FrameSize)?;
            let length = rest.len().checked_sub(usize::from(padding)).ok_or(Kind::Http2Protocol)?;
            block = &rest[..length];
        }
        if frame.flags & WITH_PRIORITY != 0 {
            block = block.get(5..).ok_or(Kind::Http2FrameSize)?;
        }
        let slot = self.find(frame.id);
        if let Some(slot) = slot {
            let stream = &mut self.streams[usize::from(slot)];
            stream.bytes_in += (FRAME_HEAD + payload.len()) as u64;
            if stream.first < 0 {
                stream.first = now;
            }
        }
        let end = frame.flags & END_STREAM != 0;
        if frame.flags & END_HEADERS != 0 {
            return self.take_head(slot, end, block);
        }
        self.block.clear();
        self.block.extend_from_slice(block);
        self.continuing = Some((frame.id, end, 0));
        Ok(None)
    }

    #[cold]
    fn take_continuation(&mut self, frame: Frame, payload: &[u8]) -> Result<Option<Ended>, Kind> {
        let Some((id, end, pieces)) = self.continuing else { return Err(Kind::Http2Protocol) };
        self.block.extend_from_slice(payload);
        // What is not decoded is missing for all later heads too, so the connection ends with it.
        if self.block.len() > LONGEST_HEAD || pieces >= MOST_CONTINUATIONS {
            return Err(Kind::HeaderTooLarge);
        }
        let slot = self.find(id);
        if let Some(slot) = slot {
            self.streams[usize::from(slot)].bytes_in += (FRAME_HEAD + payload.len()) as u64;
        }
        if frame.flags & END_HEADERS == 0 {
            self.continuing = Some((id, end, pieces + 1));
            return Ok(None);
        }
        self.continuing = None;
        let block = std::mem::take(&mut self.block);
        self.take_head(slot, end, &block)
    }

    /// Takes in a whole head, or what comes in this form behind the body.
    fn take_head(&mut self, slot: Option<u16>, end: bool, block: &[u8]) -> Result<Option<Ended>, Kind> {
        let waited_for = slot.filter(|slot| self.streams[usize::from(*slot)].status == 0);
        let Some(own) = waited_for else {
            // Nobody looks at it, but later heads may refer to it.
            let mut text = std::mem::take(&mut self.unasked);
            let mut told = Told::default();
            read_head(&mut self.decoder, block, &mut text, &mut told)?;
            self.unasked = text;
            match slot {
                None => self.idle()?,
                Some(slot) if !end => self.fail_stream(slot, Kind::Http2Protocol, PROTOCOL_ERROR),
                Some(slot) => return Ok(self.finish(slot, None)),
            }
            return Ok(None);
        };
        let stream = &mut self.streams[usize::from(own)];
        let mut told = Told::default();
        let read = read_head(&mut self.decoder, block, &mut stream.head, &mut told);
        let fault = match read {
            Err(kind) => {
                stream.head.clear();
                return Err(kind);
            }
            Ok(()) if told.large => Some(Kind::HeaderTooLarge),
            Ok(()) if told.malformed || told.status < 100 || told.status == 101 => Some(Kind::InvalidHttp),
            Ok(()) if told.status < 200 => {
                stream.interim += stream.head.len();
                stream.head.clear();
                match stream.interim {
                    _ if end => Some(Kind::InvalidHttp),
                    interim if interim > LONGEST_HEAD => Some(Kind::HeaderTooLarge),
                    _ => {
                        self.idle()?;
                        return Ok(None);
                    }
                }
            }
            Ok(()) => None,
        };
        if let Some(kind) = fault {
            stream.head.clear();
            self.fail_stream(own, kind, PROTOCOL_ERROR);
            return Ok(None);
        }
        stream.status = told.status;
        (stream.sets_cookie, stream.encoded) = (told.sets_cookie, told.encoded);
        (stream.location, stream.server_timing, stream.length) = (told.location, told.server_timing, told.length);
        self.idle_frames = 0;
        Ok(if end { self.finish(own, None) } else { None })
    }
}

/// What a head says.
#[derive(Default)]
struct Told {
    status: u16,
    length: Option<u64>,
    sets_cookie: bool,
    encoded: bool,
    location: Option<Range<usize>>,
    server_timing: Option<Range<usize>>,
    large: bool,
    malformed: bool,
}

/// Decodes a block into a head's text. The error is that it cannot be decoded.
fn read_head(decoder: &mut Decoder, mut block: &[u8], head: &mut Vec<u8>, told: &mut Told) -> Result<(), Kind> {
    head.clear();
    let mut count = 0;
    while let Some(field) = decoder.next(&mut block, count == 0, head)? {
        count += 1;
        told.malformed |= field.malformed;
        let value = field.begin + field.name + 2..head.len() - 2;
        let line = &head[field.begin..];
        let name = &line[..field.name];
        if name.first() == Some(&b':') {
            let right = count == 1 && name == b":status" && head[value.clone()].iter().all(u8::is_ascii_digit);
            let digits: Option<[u8; 3]> = head[value].try_into().ok().filter(|_| right);
            told.malformed |= digits.is_none();
            head.truncate(field.begin);
            if let Some(digits) = digits {
                told.status = digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
                head.extend_from_slice(b"HTTP/1.1 ");
                head.extend_from_slice(&digits);
                head.extend_from_slice(b"\r\n");
            }
            continue;
        }
        match name.len() {
            14 if name == b"content-length" => match http1::parse_length(&head[value]) {
                Ok(length) if told.length.is_none_or(|before| before == length) => told.length = Some(length),
                _ => told.malformed = true,
            },
            10 if name == b"set-cookie" => told.sets_cookie = true,
            16 if name == b"content-encoding" => told.encoded = true,
            8 if name == b"location" => told.location = Some(value),
            13 if name == b"server-timing" => told.server_timing = Some(value),
            _ => {}
        }
        if head.len() > LONGEST_HEAD || count > MOST_HEADERS {
            told.large = true;
            head.truncate(field.begin);
        }
    }
    head.extend_from_slice(b"\r\n");
    Ok(())
}

impl Drop for Session {
    fn drop(&mut self) {
        self.streams.iter_mut().for_each(|stream| stream.body.clear(&self.bodies));
    }
}

impl Stream {
    fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            opener: false,
            sent: -1,
            first: -1,
            bytes_out: 0,
            bytes_in: 0,
            status: 0,
            sets_cookie: false,
            encoded: false,
            location: None,
            server_timing: None,
            head: Vec::new(),
            body: Kept::default(),
            request: Vec::new(),
            body_length: 0,
            upload: None,
            live: false,
            constant: false,
            length: None,
            interim: 0,
            request_at: 0,
            blocked: false,
            unsent: false,
            window: 0,
            room: 0,
        }
    }

    fn begin(&mut self, exchange: Exchange, opener: bool, constant: bool, room: &Room) {
        self.body.clear(room);
        for bytes in [&mut self.head, &mut self.request] {
            bytes.clear();
            if bytes.capacity() > KEPT_CAPACITY {
                *bytes = Vec::new();
            }
        }
        let (head, body) = (std::mem::take(&mut self.head), std::mem::take(&mut self.body));
        let request = std::mem::take(&mut self.request);
        let room = i64::from(STREAM_WINDOW);
        *self = Self { opener, constant, live: true, head, body, request, room, ..Self::new(exchange) };
    }
}

impl Frame {
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { length: (number(0) >> 8) as usize, kind: bytes[3], flags: bytes[4], id: number(5) & LAST_ID }
    }
}

#[inline]
fn frame_head(length: usize, kind: u8, flags: u8, id: u32) -> [u8; FRAME_HEAD] {
    let ([_, a, b, c], [d, e, f, g]) = ((length as u32).to_be_bytes(), id.to_be_bytes());
    [a, b, c, kind, flags, d, e, f, g]
}

fn push_frame_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, id: u32) {
    out.extend_from_slice(&frame_head(length, kind, flags, id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::SplitMix64;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const POST: &[u8] = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";

    fn exchange(owner: u32) -> Exchange {
        Exchange { owner, begin: 0, deadline: 1000, keep: 100, bodyless: false, piecewise: false }
    }

    /// A session with `count` streams under way, to a server that has greeted.
    fn session(count: u32) -> Session {
        let mut session = Session::new(10, false);
        session.establish();
        for owner in 0..count {
            let text = if owner % 2 == 0 { GET } else { POST };
            session.submit(Payload::Shared(text), &mut Vec::new(), exchange(owner), owner == 0);
        }
        let greeting = frame_head(0, SETTINGS, 0, 0);
        assert_eq!(session.next(&greeting, &mut 0, 1, 100), Ok(None));
        session
    }

    fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
        [&frame_head(payload.len(), kind, flags, id)[..], payload].concat()
    }

    /// What ends, by owner, until nothing more does.
    fn all(session: &mut Session, bytes: &[u8]) -> Result<Vec<(u32, Option<Kind>)>, Kind> {
        let (mut at, mut ended) = (0, Vec::new());
        while let Some(end) = session.next(bytes, &mut at, 1, 100)? {
            ended.push((session.stream(end.slot).exchange.owner, end.error));
            session.release(end.slot);
        }
        assert!(at == bytes.len() || session.is_dead());
        Ok(ended)
    }

    /// The ids run out: then the connection takes nothing more.
    #[test]
    fn ids_are_used_up() {
        let mut session = session(0);
        session.next_id = LAST_ID - 2;
        assert!(session.has_room());
        for owner in 0..2 {
            session.submit(Payload::Shared(GET), &mut Vec::new(), exchange(owner), false);
        }
        assert!(session.is_retired() && !session.has_room());
        assert_eq!(session.ids, [LAST_ID - 2, LAST_ID]);
    }

    /// Streams that time out over and over end the connection's use; a silent connection's at once.
    #[test]
    fn resets_are_bounded() {
        let mut session = session(0);
        session.heard = 1;
        for round in 1..=MOST_RESETS {
            assert!(!session.is_retired());
            session.submit(Payload::Shared(GET), &mut Vec::new(), exchange(round), false);
            assert_eq!(session.expire(1000), Ns::MAX);
            assert_eq!(all(&mut session, b""), Ok(vec![(round, Some(Kind::HeaderTimeout))]));
            session.written(1000);
        }
        assert!(session.is_retired());
        let mut silent = self::session(2);
        silent.streams[0].exchange.begin = 5;
        silent.streams[1].exchange.deadline = 2000;
        assert_eq!(silent.expire(1500), 2000);
        assert!(silent.is_retired() && silent.in_flight() == 2);
        assert_eq!(all(&mut silent, b""), Ok(vec![(0, Some(Kind::HeaderTimeout))]));
        assert_eq!(silent.in_flight(), 1);
    }

    /// What comes late for a stream that was given up is passed over; its slot belongs to the next one.
    #[test]
    fn late_frames_meet_nobody() {
        let mut session = session(1);
        let begun =
            [frame(HEADERS, END_HEADERS, 1, &[0x88]), frame(DATA, END_STREAM, 1, b"abcdef")[..12].to_vec()].concat();
        assert_eq!(all(&mut session, &begun), Ok(vec![]));
        let slot = session.abort(0).unwrap();
        session.release(slot);
        session.submit(Payload::Shared(GET), &mut Vec::new(), exchange(7), false);
        assert_eq!(all(&mut session, b"def"), Ok(vec![]));
        let late = [
            frame(HEADERS, END_HEADERS, 1, &[0x88]),
            frame(RST_STREAM, 0, 1, &[0; 4]),
            frame(WINDOW_UPDATE, 0, 1, &[0; 4]),
        ];
        assert_eq!(all(&mut session, &late.concat()), Ok(vec![]));
        assert_eq!(session.stream(slot).body_length, 0);
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x88]);
        assert_eq!(all(&mut session, &answer), Ok(vec![(7, None)]));
    }

    /// Long heads go out in pieces, and come back as one.
    #[test]
    fn long_heads_are_cut() {
        let mut session = session(0);
        session.written(1);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(40_000));
        session.submit(Payload::Shared(text.as_bytes()), &mut Vec::new(), exchange(0), false);
        let (mut at, mut block, mut kinds) = (0, Vec::new(), Vec::new());
        while at < session.out.len() {
            let frame = Frame::read(&session.out[at..]);
            kinds.push((frame.kind, frame.flags));
            block.extend_from_slice(&session.out[at + FRAME_HEAD..at + FRAME_HEAD + frame.length]);
            at += FRAME_HEAD + frame.length;
        }
        assert_eq!(kinds, [(HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)]);
        let (mut rest, mut out, mut first) = (&block[..], Vec::new(), true);
        while Decoder::default().next(&mut rest, first, &mut out).unwrap().is_some() {
            first = false;
        }
        assert!(out.ends_with(b"yyy\r\n") && out.len() > 40_000);
    }

    /// Whatever comes, in whatever pieces, each exchange ends at most once, memory stays bounded, and nothing breaks off.
    #[test]
    fn nonsense_is_survived() {
        let rounds = std::env::var("SURGELINE_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
        let head = [&[0x88, 0x40, 1, b'a', 1, b'b', 0xbe, 0x5c, 1, b'3'][..]].concat();
        for seed in 0..rounds {
            let mut draws = SplitMix64::new(seed);
            let mut below = |end: u64| (draws.next_u64() % end) as usize;
            let mut session = session(4);
            let (mut ended, mut submitted) = (0, 4);
            for _ in 0..below(40) {
                let ids = [0, 1, 3, 5, 7, 9, 11, 2, LAST_ID];
                let mut payload = match below(5) {
                    0 => head.clone(),
                    1 => vec![0; below(40)],
                    2 => (0..below(60)).map(|byte| (byte * 37) as u8).collect(),
                    3 => vec![0, 0, 0, below(255) as u8],
                    _ => b"abc".to_vec(),
                };
                if below(4) == 0 && !payload.is_empty() {
                    let at = below(payload.len() as u64);
                    payload[at] = below(256) as u8;
                }
                let mut bytes = frame(below(11) as u8, below(64) as u8, ids[below(9)], &payload);
                if below(10) == 0 {
                    let at = below(bytes.len() as u64);
                    bytes[at] = below(256) as u8;
                }
                let mut over = false;
                for piece in bytes.chunks(1 + below(30)) {
                    let mut at = 0;
                    loop {
                        match session.next(piece, &mut at, 1, 100) {
                            Ok(None) => break,
                            Ok(Some(end)) => {
                                assert!(end.body.is_none_or(|body| body.end <= piece.len()));
                                let stream = session.stream(end.slot);
                                assert!(stream.body.bytes().len() <= 100 && !stream.live);
                                session.release(end.slot);
                                ended += 1;
                            }
                            Err(_) => {
                                session.fail(|_, _| Kind::Http2Protocol);
                                over = true;
                            }
                        }
                    }
                }
                if over {
                    break;
                }
                match below(6) {
                    0 if session.has_room() => {
                        let text = if below(2) == 0 { GET } else { POST };
                        session.submit(Payload::Shared(text), &mut Vec::new(), exchange(submitted), false);
                        submitted += 1;
                    }
                    1 => session.written(1),
                    2 => drop(session.expire(1)),
                    _ => {}
                }
                assert!(session.held.len() <= FRAME_HEAD + LONGEST_FRAME && session.out.len() < 100_000);
            }
            session.fail(|_, _| Kind::Http2Protocol);
            ended += all(&mut session, b"").unwrap().len() as u32;
            assert_eq!((ended, session.in_flight(), session.active, session.blocked), (submitted, 0, 0, 0), "{seed}");
        }
    }
}
