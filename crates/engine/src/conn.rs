//! Bytes out, bytes in: connections to one target, and the exchanges on them.
//!
//! `Connections` owns no loop. Whoever drives it (a worker's thread, or an event loop of somebody else's that watches
//! `fd`) says when to look (`wait`), takes what has ended (`next_completion`), and submits what is next (`acquire`,
//! `buffer`, `send`). Nothing happens in between: there is no thread and no callback here.
//!
//! One exchange at a time runs on a connection:
//!
//! ```text
//!     acquire ─► Connecting ─► Handshaking ─► Busy ─► Idle ─► Busy …          Idle: kept by its user, or in the pool
//!                    │  connect    │   tls      │  send, wait, receive
//!                    └─────────────┴────────────┴──► closed, with a Completion that says why
//! ```
//!
//! Where TLS goes through a proxy, it is asked for the way between the two (Tunnelling), as a part of connecting.
//!
//! With HTTP/2 (`speak_http2`) a connection carries many exchanges at once (`streams`): it is Streaming from its
//! handshakes on to its end, an exchange may be sent while others run, and nobody keeps or releases it.
//!
//! Readiness is edge-triggered. A read that fills less than the buffer has emptied the socket, so the next read waits for
//! the next event; an event that says the peer has closed is remembered, because no further one will come.
//! An answer that fits one read is parsed where it lies: its head and body are borrowed from the read buffer and are
//! valid until the next call that changes anything. Only what is cut in pieces is copied, into the connection's own
//! memory; an idle connection holds none.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustls::ClientConnection;

use crate::clock::{Clock, Ns, Offset};
use crate::h2::Session;
use crate::host::{Receive, Stamps};
use crate::http1::{self, Chunks, Framing, Head, Heads, LONGEST_HEAD};
use crate::kept::{Kept, Room};
use crate::outcome::Kind;
use crate::tls::{self, Tls};
use crate::upload::Outgoing;
use crate::way::{Way, connect_kind};

mod streams;

use streams::Current;

const READ_BUFFER: usize = 64 * 1024;
/// Reads of one connection before others get their turn.
const READS_PER_TURN: usize = 16;
/// Writes of one connection's files before others get their turn.
const WRITES_PER_TURN: usize = 16;
/// What a connection's own buffers may keep between exchanges.
const KEPT_CAPACITY: usize = 4 * 1024;
const EVENTS: usize = 1024;
/// A listener whose queue was full is tried again after this long, where the system does not say when it has room: Unix
/// sockets. Taste.
const LISTENER_PAUSE: Ns = 1_000_000;
const TIMER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

// A token holds a slot and its generation.
const _: () = assert!(usize::BITS == 64, "the engine needs 64-bit tokens");

/// A connection, as long as it lives; afterwards the id refers to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    fn token(self) -> Token {
        Token((self.generation as usize) << 32 | self.slot as usize)
    }

    fn of(token: Token) -> Self {
        Self { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

/// What an exchange needs to know beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Comes back with the completion.
    pub owner: u32,
    /// When the request was actually started: before its connection was, where that is new.
    pub begin: Ns,
    /// When it has taken too long.
    pub deadline: Ns,
    /// Bytes of the body to keep where the answer does not fit one read.
    pub keep: usize,
    /// Whether the answer has no body whatever its head says (HEAD).
    pub bodyless: bool,
    /// Whether parts of the answer come as completions of their own as they arrive, `more` of which follow; 101 is such
    /// an answer too. A deadline behind the head is told in the same way and ends nothing.
    pub piecewise: bool,
}

/// The request's bytes.
pub enum Payload<'a> {
    /// What was written into `buffer`.
    Own,
    /// These; copied only if the socket does not take them at once.
    Shared(&'a [u8]),
    /// What was written into `buffer`, and then this.
    Upload(Box<Outgoing>),
}

/// How long each part took; -1 for what did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Phases {
    /// TCP handshake of a new connection.
    pub connect: Ns,
    /// TLS handshake of a new connection.
    pub tls: Ns,
    /// Until the request's last byte was handed to the kernel.
    pub send: Ns,
    /// From there to the first byte of the answer.
    pub wait: Ns,
    /// From there to its last byte.
    pub receive: Ns,
}

/// The end of an exchange.
#[derive(Clone, Debug)]
pub struct Completion {
    /// As given in `Exchange`.
    pub owner: u32,
    /// The connection; it can be used again if `open`.
    pub conn: ConnId,
    /// Why there is no whole answer; None where there is one.
    pub error: Option<Kind>,
    /// When the last byte was read, or when it went wrong.
    pub end: Ns,
    /// Where the time went.
    pub phases: Phases,
    /// 0 where no whole head came.
    pub status: u16,
    /// Of HTTP/1.minor; 2 for HTTP/2.
    pub minor: u8,
    /// Whether the connection had served before.
    pub reused: bool,
    /// Whether the connection lives on and is idle: to be used again, released or closed. Never so with HTTP/2.
    pub open: bool,
    /// Whether the exchange goes on: this is a part of its answer, or a deadline that has passed (with an error).
    pub more: bool,
    /// Whether the head has a `Set-Cookie`.
    pub sets_cookie: bool,
    /// Whether the head has a `Content-Encoding`.
    pub encoded: bool,
    /// Whether the connection was reset, not closed.
    pub reset: bool,
    /// Whether more came behind the whole answer, which nobody had asked for; the connection is closed then.
    pub surplus: bool,
    /// Bytes sent: of the request; plaintext under TLS.
    pub bytes_out: u64,
    /// Bytes received: head and body as framed; plaintext under TLS.
    pub bytes_in: u64,
    /// Length of the body without its framing.
    pub body_length: u64,
    head: Option<Place>,
    body: Place,
    location: Option<Range<usize>>,
    server_timing: Option<Range<usize>>,
}

/// Where bytes of an answer lie.
#[derive(Clone, Debug)]
enum Place {
    ReadBuffer(Range<usize>),
    Connection,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Free,
    Connecting,
    Tunnelling,
    Handshaking,
    Idle,
    Busy,
    /// HTTP/2, with any number of exchanges.
    Streaming,
}

#[derive(Debug)]
enum Receiving {
    Head,
    Length(u64),
    Chunked(Chunks),
    ToTheEnd,
}

struct Conn {
    state: State,
    generation: u32,
    stream: Option<TcpStream>,
    tls: Option<Box<ClientConnection>>,
    /// What its TLS begins from; None for a connection in the clear.
    setup: Option<Arc<Tls>>,
    /// What runs on it, where that is HTTP/2.
    h2: Option<Box<Session>>,
    receive: Receive,
    /// The last receive time stamp, wall clock, ns; 0 for none.
    stamp: Ns,
    /// It was reset.
    reset: bool,
    /// A pause of the target that ends the exchange, ns; 0 where only the deadline does.
    silence: Ns,
    /// Exchanges that have ended on it.
    served: u32,
    exchange: Exchange,
    // What is sent.
    out: Vec<u8>,
    out_at: usize,
    unsent: bool,
    write_failed: bool,
    /// What is sent behind `out`; None once all of it has been.
    upload: Option<Box<Outgoing>>,
    /// It stopped writing so that others get their turn.
    paused: bool,
    // What is received.
    receiving: Receiving,
    head_bytes: Vec<u8>,
    interim: usize,
    body: Kept,
    body_length: u64,
    head: Option<Head>,
    /// The socket is empty until the next event.
    drained: bool,
    /// An event said that the peer has closed.
    hung_up: bool,
    // When.
    connected: Ns,
    secured: Ns,
    sent: Ns,
    first: Ns,
    bytes_in: u64,
    bytes_out: u64,
    /// The deadline that is queued for this connection; `Ns::MAX` for none.
    queued: Ns,
}

enum Fill {
    Data(usize),
    Drained,
    /// `clean` is false where TLS was not closed as it should be.
    Eof {
        clean: bool,
    },
    /// The server refused the TLS session.
    Refused(Fault),
    Broken,
}

/// What has come behind a whole answer.
enum Behind {
    Silence,
    /// What nobody had asked for.
    Bytes,
    /// The connection has ended.
    End,
}

/// Connections to one target.
pub struct Connections {
    poll: Poll,
    events: Events,
    ready: Vec<(ConnId, Readiness)>,
    ready_at: usize,
    current: Option<Current>,
    /// HTTP/2 connections that have something to send.
    unflushed: Vec<ConnId>,
    /// Streams of a connection; 0 for HTTP/1.1.
    streams: usize,
    pooled: bool,
    again: Vec<ConnId>,
    pending: VecDeque<Completion>,
    timer: Timer,
    clock: Clock,
    now: Ns,
    way: Way,
    tls: Option<Arc<Tls>>,
    /// Exchanges after which a connection is closed.
    most_served: u32,
    /// Connections that may be open.
    most_open: usize,
    /// Why no way to the target, or no TLS session, came about for the first time; empty once it was taken.
    fault: Option<String>,
    /// Who has the kernel stamp what sockets receive, and reads the stamps; None for nobody.
    stamps: Option<Stamps>,
    /// How the stamps' clock stands to ours, and what it was ahead when it was looked at last.
    wall: Offset,
    offset: Option<Ns>,
    max_body: u64,
    room: Room,
    /// Idle connections that brought bytes.
    surplus: u64,
    slots: Vec<Conn>,
    free: Vec<u32>,
    idle: Vec<ConnId>,
    open: usize,
    deadlines: BinaryHeap<Reverse<(Ns, u32, u32)>>,
    buffer: Box<[u8]>,
    heads: Heads,
}

#[derive(Clone, Copy)]
struct Readiness {
    readable: bool,
    writable: bool,
    closed: bool,
}

impl Readiness {
    /// Something is to be told that the network has no part in.
    fn is_none(self) -> bool {
        !(self.readable || self.writable || self.closed)
    }
}

impl Connections {
    /// No connection yet.
    pub fn new(clock: Clock, way: Way, tls: Option<Tls>, max_body: u64) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry())?;
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            ready: Vec::with_capacity(EVENTS),
            ready_at: 0,
            current: None,
            unflushed: Vec::new(),
            streams: 0,
            pooled: false,
            again: Vec::new(),
            pending: VecDeque::new(),
            timer,
            clock,
            now: clock.now(),
            way,
            tls: tls.map(Arc::new),
            most_served: u32::MAX,
            most_open: usize::MAX,
            fault: None,
            stamps: None,
            wall: Offset::default(),
            offset: None,
            max_body,
            room: Room::default(),
            surplus: 0,
            slots: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            open: 0,
            deadlines: BinaryHeap::new(),
            buffer: vec![0; READ_BUFFER].into(),
            heads: Heads::default(),
        })
    }

    /// Becomes readable when there is something to do; for a loop of somebody else's.
    pub fn fd(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Has answers end when the kernel received them. Holds for connections that begin later.
    pub fn read_stamps(&mut self, stamps: Stamps) {
        self.stamps = Some(stamps);
    }

    /// How often receive time stamps were discarded because the wall clock had moved.
    pub fn clock_moves(&self) -> u64 {
        self.wall.moves()
    }

    /// Has connections closed after so many exchanges.
    pub fn set_most_served(&mut self, exchanges: u32) {
        self.most_served = exchanges;
    }

    /// Has no more connections open than so many: who asks for another finds no descriptor left.
    pub fn set_most_open(&mut self, connections: usize) {
        self.most_open = connections;
    }

    /// Has bodies take no more than this room, for connections that begin later.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// Why a connection, or a TLS session, did not come about for the first time, as a clause; None afterwards.
    pub fn take_fault(&mut self) -> Option<String> {
        self.fault.as_mut().map(std::mem::take).filter(|text| !text.is_empty())
    }

    /// Has the poll become readable when `next_deadline` comes, for who watches `fd`.
    pub fn arm(&mut self) -> io::Result<()> {
        let next = self.next_deadline();
        self.timer.arm(self.clock, next).map(|_| ())
    }

    /// From now on the exchange on this connection ends when the target is silent for so long, instead of at its
    /// deadline, which then only limits how long a new connection may take.
    pub fn set_silence(&mut self, id: ConnId, silence: Ns) {
        self.slots[id.slot as usize].silence = silence;
    }

    /// Ends a `wait` from another thread.
    pub fn waker(&self) -> io::Result<Arc<Waker>> {
        Ok(Arc::new(Waker::new(self.poll.registry(), WAKER)?))
    }

    /// Connections that are open or opening.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The last moment that was read from the clock.
    #[inline]
    pub fn now(&self) -> Ns {
        self.now
    }

    /// When `wait` must be called next although nothing happens on any connection.
    pub fn next_deadline(&self) -> Ns {
        self.deadlines.peek().map_or(Ns::MAX, |Reverse((at, ..))| *at)
    }

    /// Waits until something happens, but not beyond `until`, which may lie in the past.
    pub fn wait(&mut self, until: Ns) -> io::Result<()> {
        if !self.unflushed.is_empty() {
            self.flush_all();
        }
        self.ready.clear();
        self.ready_at = 0;
        let at_once = !self.again.is_empty() || !self.pending.is_empty() || until <= self.clock.now();
        let timeout = if at_once { Some(Duration::ZERO) } else { self.timer.arm(self.clock, until)? };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        let interesting = self.events.iter().filter(|event| event.token() != TIMER && event.token() != WAKER);
        self.ready.extend(interesting.map(|event| {
            let closed = event.is_read_closed() || event.is_error();
            let readiness = Readiness { readable: event.is_readable(), writable: event.is_writable(), closed };
            (ConnId::of(event.token()), readiness)
        }));
        let readable = Readiness { readable: true, writable: true, closed: false };
        self.ready.extend(self.again.drain(..).map(|id| (id, readable)));
        self.now = self.clock.now();
        if self.stamps.is_some() {
            self.offset = self.wall.look(self.clock, self.now);
        }
        self.expire();
        Ok(())
    }

    /// The next exchange that has ended; None until the next `wait`.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.pending.pop_front() {
                return Some(completion);
            }
            if let Some(current) = self.current {
                match self.read_streams(current) {
                    None => continue,
                    completion => return completion,
                }
            }
            let (id, readiness) = *self.ready.get(self.ready_at)?;
            self.ready_at += 1;
            if self.is_open(id) {
                if let Some(completion) = self.on_ready(id.slot as usize, readiness) {
                    return Some(completion);
                }
            }
        }
    }

    /// Whether the connection has not been closed.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.slots.get(id.slot as usize).is_some_and(|conn| conn.generation == id.generation)
    }

    /// The connection that was used last among those that were `release`d and still live, or one with room.
    pub fn acquire_idle(&mut self) -> Option<ConnId> {
        if self.streams > 0 {
            return self.acquire_shared();
        }
        while let Some(id) = self.idle.pop() {
            if self.is_open(id) {
                return Some(id);
            }
        }
        None
    }

    /// Gives an idle connection to whoever asks next.
    pub fn release(&mut self, id: ConnId) {
        debug_assert!(self.is_open(id) && self.slots[id.slot as usize].state == State::Idle);
        self.idle.push(id);
    }

    /// Begins a new connection. The error's outcome says whether the target or the generator refused it.
    pub fn acquire_new(&mut self) -> Result<ConnId, Kind> {
        if self.open >= self.most_open {
            return Err(Kind::ClientFds);
        }
        let stream = self.way.open()?;
        let later = stream.is_none();
        let id = self.begin(stream, self.tls.clone())?;
        if later {
            self.look_later(id.slot as usize);
        }
        Ok(id)
    }

    /// Begins a new connection to an address of the caller's, over TLS if that is given.
    pub fn acquire_to(&mut self, address: SocketAddr, tls: Option<Arc<Tls>>) -> Result<ConnId, Kind> {
        let stream = TcpStream::connect(address).map_err(|error| connect_kind(&error))?;
        self.begin(Some(stream), tls)
    }

    /// Gives a socket that has begun to connect its slot; None gets it later.
    fn begin(&mut self, mut stream: Option<TcpStream>, tls: Option<Arc<Tls>>) -> Result<ConnId, Kind> {
        // What has ended and was not yet told still has its answer in the slot of a connection that is closed.
        let free = if self.pending.is_empty() { self.free.pop() } else { None };
        let slot = free.unwrap_or_else(|| {
            self.slots.push(Conn::new());
            self.slots.len() as u32 - 1
        });
        let conn = &mut self.slots[slot as usize];
        let id = ConnId { slot, generation: conn.generation };
        if let Some(stream) = &mut stream {
            if register(&self.poll, stream, id, self.stamps).is_err() {
                self.free.push(slot);
                return Err(Kind::ClientFds);
            }
        }
        conn.state = State::Connecting;
        conn.stream = stream;
        conn.setup = tls;
        conn.receive = self.stamps.map_or(socket_read, |stamps| stamps.receive);
        (conn.connected, conn.secured, conn.served) = (-1, -1, 0);
        (conn.drained, conn.hung_up) = (false, false);
        self.open += 1;
        if self.streams > 0 {
            self.begin_session(id);
        }
        Ok(id)
    }

    /// The buffer to render a request into that is then sent as `Payload::Own`.
    pub fn buffer(&mut self, id: ConnId) -> &mut Vec<u8> {
        let conn = &mut self.slots[id.slot as usize];
        if conn.out.capacity() > KEPT_CAPACITY {
            conn.out = Vec::new();
        }
        &mut conn.out
    }

    /// What was sent last as `Payload::Own`, for evidence; empty where a shared payload went out in one piece.
    pub fn sent_bytes(&self, id: ConnId) -> &[u8] {
        &self.slots[id.slot as usize].out
    }

    /// Starts an exchange on an idle or a new connection, or on one that takes more of them. Its end comes as a
    /// completion, whatever happens.
    #[inline]
    pub fn send(&mut self, id: ConnId, payload: Payload<'_>, exchange: Exchange) {
        debug_assert!(self.is_open(id));
        let conn = &mut self.slots[id.slot as usize];
        if conn.h2.is_some() {
            return self.submit(id, payload, exchange);
        }
        conn.begin(exchange, &self.room);
        if exchange.deadline < conn.queued {
            conn.queued = exchange.deadline;
            self.deadlines.push(Reverse((exchange.deadline, id.slot, id.generation)));
            if self.deadlines.len() > 2 * self.slots.len() + 1024 {
                self.forget_deadlines();
            }
        }
        let conn = &mut self.slots[id.slot as usize];
        let payload = match payload {
            Payload::Upload(upload) => {
                conn.upload = Some(upload);
                Payload::Own
            }
            other => other,
        };
        if conn.state == State::Idle {
            conn.state = State::Busy;
            conn.first_write(payload, self.clock);
            if conn.write_failed || conn.paused {
                self.again.push(id);
            }
        } else if let Payload::Shared(bytes) = payload {
            conn.out.clear();
            conn.out.extend_from_slice(bytes);
        }
    }

    /// Sends more on a connection whose exchange goes on.
    pub fn write(&mut self, id: ConnId, bytes: &[u8]) {
        if !self.is_open(id) {
            return;
        }
        let conn = &mut self.slots[id.slot as usize];
        if let Some(session) = &mut conn.tls {
            let _ = session.writer().write_all(bytes);
            conn.bytes_out += bytes.len() as u64;
        } else {
            if conn.out_at == conn.out.len() {
                conn.out.clear();
                conn.out_at = 0;
            }
            conn.out.extend_from_slice(bytes);
        }
        conn.unsent = true;
        conn.write_on(self.clock);
        if conn.write_failed {
            self.again.push(id);
        }
    }

    /// From now on the exchange on this connection has this deadline.
    pub fn set_deadline(&mut self, id: ConnId, at: Ns) {
        if !self.is_open(id) {
            return;
        }
        let conn = &mut self.slots[id.slot as usize];
        conn.exchange.deadline = at;
        if at < conn.queued {
            conn.queued = at;
            self.deadlines.push(Reverse((at, id.slot, id.generation)));
        }
    }

    /// Gives up an exchange, which ends without a completion of its own, so its figures are returned. Its connection is
    /// closed unless it carries others.
    pub fn abort(&mut self, id: ConnId, owner: u32) -> Option<Completion> {
        if !self.is_open(id) {
            return None;
        }
        self.now = self.clock.now();
        if self.slots[id.slot as usize].h2.is_some() {
            return self.abort_stream(id.slot as usize, owner);
        }
        self.fail(id.slot as usize, Kind::EngineFault)
    }

    /// Closes a connection that is idle.
    pub fn close(&mut self, id: ConnId) {
        if self.is_open(id) {
            self.close_slot(id.slot as usize);
        }
    }

    /// The answer's head; empty where no whole head came.
    pub fn head(&self, completion: &Completion) -> &[u8] {
        match &completion.head {
            None => &[],
            Some(Place::ReadBuffer(range)) => &self.buffer[range.clone()],
            Some(Place::Connection) => &self.slots[completion.conn.slot as usize].head_bytes,
        }
    }

    /// The answer's body without its framing: all of it if it came in one read, else as much as was to be kept.
    pub fn body(&self, completion: &Completion) -> &[u8] {
        match &completion.body {
            Place::ReadBuffer(range) => &self.buffer[range.clone()],
            Place::Connection => self.slots[completion.conn.slot as usize].body.bytes(),
        }
    }

    /// Lets go of the memory that the body has taken, where that is much; afterwards there is no body.
    #[inline]
    pub fn forget_body(&mut self, completion: &Completion) {
        let body = &mut self.slots[completion.conn.slot as usize].body;
        if body.is_large() && matches!(completion.body, Place::Connection) {
            body.clear(&self.room);
        }
    }

    /// The value of `Location`.
    pub fn location(&self, completion: &Completion) -> Option<&[u8]> {
        Some(&self.head(completion)[completion.location.clone()?])
    }

    /// The value of `Server-Timing`.
    #[inline]
    pub fn server_timing(&self, completion: &Completion) -> Option<&[u8]> {
        Some(&self.head(completion)[completion.server_timing.clone()?])
    }

    fn expire(&mut self) {
        while let Some(&Reverse((at, slot, generation))) = self.deadlines.peek() {
            if at > self.now {
                return;
            }
            self.deadlines.pop();
            let conn = &mut self.slots[slot as usize];
            if conn.generation != generation || conn.queued != at {
                continue;
            }
            conn.queued = Ns::MAX;
            if conn.state == State::Idle {
                continue;
            }
            if conn.h2.is_some() {
                self.expire_streams(slot as usize);
                continue;
            }
            let deadline = conn.exchange.deadline;
            if deadline > self.now {
                conn.queued = deadline;
                self.deadlines.push(Reverse((deadline, slot, generation)));
                if conn.state == State::Connecting && conn.stream.is_none() {
                    self.begin_again(slot as usize);
                }
                continue;
            }
            if conn.exchange.piecewise && !matches!(conn.receiving, Receiving::Head) {
                conn.exchange.deadline = Ns::MAX;
                let completion = self.part(slot as usize, self.now, Some(Kind::BodyTimeout));
                self.pending.push_back(completion);
                continue;
            }
            let kind = match (conn.state, &conn.receiving) {
                (State::Connecting | State::Tunnelling | State::Handshaking, _) => Kind::ConnectTimeout,
                (_, Receiving::Head) => Kind::HeaderTimeout,
                _ => Kind::BodyTimeout,
            };
            let completion = self.fail(slot as usize, kind);
            self.pending.extend(completion);
        }
    }

    /// Has `expire` look at a connection whose listener had no room.
    #[cold]
    fn look_later(&mut self, slot: usize) {
        let conn = &mut self.slots[slot];
        conn.queued = self.clock.now() + LISTENER_PAUSE;
        self.deadlines.push(Reverse((conn.queued, slot as u32, conn.generation)));
    }

    /// Tries once more to connect.
    #[cold]
    fn begin_again(&mut self, slot: usize) {
        let id = self.id(slot);
        let begun = self.way.open().and_then(|stream| match stream {
            None => Ok(None),
            Some(mut stream) => match register(&self.poll, &mut stream, id, self.stamps) {
                Ok(()) => Ok(Some(stream)),
                Err(_) => Err(Kind::ClientFds),
            },
        });
        match begun {
            Ok(None) => self.look_later(slot),
            Ok(stream) => self.slots[slot].stream = stream,
            Err(kind) => {
                let completion = self.fail(slot, kind);
                self.pending.extend(completion);
            }
        }
    }

    /// Drops the deadlines of connections that are gone, which short connections leave behind.
    #[cold]
    fn forget_deadlines(&mut self) {
        let slots = &self.slots;
        self.deadlines.retain(|Reverse((at, slot, generation))| {
            let conn = &slots[*slot as usize];
            conn.generation == *generation && conn.queued == *at
        });
    }

    fn on_ready(&mut self, slot: usize, readiness: Readiness) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        conn.drained &= !(readiness.readable || readiness.closed);
        conn.hung_up |= readiness.closed;
        match conn.state {
            State::Busy => {
                if readiness.writable && conn.unsent {
                    conn.write_on(self.clock);
                    self.go_on_writing(slot);
                }
                self.read_answer(slot)
            }
            State::Idle => {
                if readiness.readable || readiness.closed {
                    self.probe(slot);
                }
                None
            }
            State::Streaming => {
                self.on_streaming(slot, readiness);
                None
            }
            State::Connecting | State::Tunnelling | State::Handshaking if readiness.is_none() => {
                self.look_at(slot);
                None
            }
            State::Connecting => self.on_connecting(slot),
            State::Tunnelling => self.dig(slot),
            State::Handshaking => self.shake_hands(slot),
            State::Free => None,
        }
    }

    fn on_connecting(&mut self, slot: usize) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        let stream = conn.stream.as_ref()?;
        let failed = match stream.take_error() {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(error),
        };
        if let Some(error) = failed {
            self.now = self.clock.now();
            return self.fail(slot, connect_kind(&error));
        }
        if rustix::net::getpeername(stream).is_err() {
            return None; // not yet
        }
        if conn.setup.is_some() && self.way.tunnel().is_some() {
            conn.state = State::Tunnelling;
            return self.dig(slot);
        }
        self.on_connected(slot)
    }

    /// Asks the proxy for the way to the target, and hears what it says.
    #[cold]
    fn dig(&mut self, slot: usize) -> Option<Completion> {
        let request = self.way.tunnel()?;
        let dug = self.slots[slot].dig(&request);
        self.now = self.clock.now();
        match dug {
            Ok(false) => None,
            Ok(true) => self.on_connected(slot),
            Err(fault) => self.fail_with(slot, fault),
        }
    }

    /// The way to the target is open.
    fn on_connected(&mut self, slot: usize) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        conn.connected = self.clock.now();
        self.now = conn.connected;
        if let Some(tls) = &conn.setup {
            conn.state = State::Handshaking;
            match tls.connect() {
                Ok(mut session) => {
                    session.set_buffer_limit(None);
                    conn.tls = Some(session);
                }
                Err(kind) => return self.fail(slot, kind),
            }
            return self.shake_hands(slot);
        }
        self.start_sending(slot)
    }

    fn shake_hands(&mut self, slot: usize) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        let outcome = conn.shake_hands();
        self.now = self.clock.now();
        match outcome {
            Ok(false) => None,
            Ok(true) => {
                self.slots[slot].secured = self.now;
                self.start_sending(slot)
            }
            // Without HTTP/2 to ask for, it is a handshake that broke off as any other.
            Err(fault) if fault.kind == Kind::NoHttp2 && self.slots[slot].h2.is_none() => {
                self.fail_with(slot, Fault { kind: Kind::TlsHandshake, ..fault })
            }
            Err(fault) if fault.kind == Kind::NoHttp2 => self.fail_with(slot, streams::no_http2()),
            Err(fault) => self.fail_with(slot, fault),
        }
    }

    /// Ends what never became an exchange, and keeps the first reason.
    #[cold]
    fn fail_with(&mut self, slot: usize, fault: Fault) -> Option<Completion> {
        self.fault.get_or_insert(fault.why);
        self.fail(slot, fault.kind)
    }

    fn start_sending(&mut self, slot: usize) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        if conn.h2.is_some() {
            return self.start_streaming(slot);
        }
        conn.state = State::Busy;
        conn.first_write(Payload::Own, self.clock);
        self.go_on_writing(slot);
        let conn = &mut self.slots[slot];
        if conn.silence > 0 {
            conn.exchange.deadline = self.clock.now() + conn.silence;
            if conn.exchange.deadline < conn.queued {
                conn.queued = conn.exchange.deadline;
                let entry = (conn.queued, slot as u32, conn.generation);
                self.deadlines.push(Reverse(entry));
            }
        }
        self.read_answer(slot)
    }

    /// Has a connection that made way for others write on.
    fn go_on_writing(&mut self, slot: usize) {
        if self.slots[slot].paused {
            let id = self.id(slot);
            self.again.push(id);
        }
    }

    /// Looks what an idle connection has to say: anything but silence (or TLS housekeeping) ends it.
    fn probe(&mut self, slot: usize) {
        match self.slots[slot].fill(&mut self.buffer) {
            Fill::Drained => return,
            // Servers say that they waited long enough for a request before they close.
            Fill::Data(size) if !is_request_timeout(&self.buffer[..size]) => self.surplus += 1,
            _ => {}
        }
        self.close_slot(slot);
    }

    /// How often idle connections have brought bytes that nobody had asked for, since the last time this was asked.
    pub fn take_surplus(&mut self) -> u64 {
        std::mem::take(&mut self.surplus)
    }

    fn read_answer(&mut self, slot: usize) -> Option<Completion> {
        for _ in 0..READS_PER_TURN {
            match self.slots[slot].fill(&mut self.buffer) {
                Fill::Data(size) => {
                    self.now = self.clock.now();
                    let conn = &mut self.slots[slot];
                    if conn.silence > 0 {
                        conn.exchange.deadline = self.now + conn.silence;
                    }
                    let arrived = conn.arrived(self.now, self.offset);
                    match conn.feed(&self.buffer[..size], arrived, self.max_body, &self.room, &mut self.heads) {
                        Ok(None) if conn.exchange.piecewise && conn.head.is_some() => {
                            // What has not been read yet may come without a further event.
                            if conn.tls.is_some() || !conn.drained {
                                let id = self.id(slot);
                                self.again.push(id);
                            }
                            return Some(self.part(slot, arrived, None));
                        }
                        Ok(None) => {}
                        Ok(Some(ending)) => return Some(self.complete(slot, ending, arrived)),
                        Err(kind) => return self.fail(slot, kind),
                    }
                }
                Fill::Drained if self.slots[slot].write_failed => {
                    self.now = self.clock.now();
                    return self.fail_broken(slot);
                }
                Fill::Drained => return None,
                Fill::Eof { clean } => {
                    self.now = self.clock.now();
                    return self.end_of_stream(slot, clean);
                }
                // In TLS 1.3 a server looks at the client's certificate after the client has finished its handshake.
                Fill::Refused(fault) if self.slots[slot].served == 0 && self.slots[slot].bytes_in == 0 => {
                    self.now = self.clock.now();
                    return self.fail_with(slot, fault);
                }
                Fill::Broken | Fill::Refused(_) => {
                    self.slots[slot].reset = true;
                    self.now = self.clock.now();
                    return self.fail_broken(slot);
                }
            }
        }
        let id = self.id(slot);
        self.again.push(id);
        None
    }

    fn complete(&mut self, slot: usize, ending: Ending, end: Ns) -> Completion {
        let id = self.id(slot);
        let conn = &mut self.slots[slot];
        conn.bytes_in -= ending.extra as u64;
        let keep_alive = conn.head.as_ref().is_some_and(|head| head.keep_alive);
        let whole = !conn.unsent && !conn.write_failed && !conn.hung_up && ending.extra == 0;
        let mut completion = conn.completion(id, end, None, ending.head, ending.body);
        completion.surplus = ending.extra > 0;
        if keep_alive && whole && conn.served + 1 < self.most_served {
            match conn.behind() {
                Behind::Silence => {
                    conn.state = State::Idle;
                    conn.served += 1;
                    return completion;
                }
                behind => completion.surplus = matches!(behind, Behind::Bytes),
            }
        }
        completion.open = false;
        self.close_slot(slot);
        completion
    }

    /// A part of an answer that comes piece by piece: what was fed last, or the deadline that has passed.
    fn part(&mut self, slot: usize, at: Ns, error: Option<Kind>) -> Completion {
        let id = self.id(slot);
        let part = self.slots[slot].completion(id, at, error, Place::Connection, Place::Connection);
        Completion { more: true, ..part }
    }

    fn end_of_stream(&mut self, slot: usize, clean: bool) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        if conn.exchange.piecewise {
            conn.body.rewind();
        }
        match conn.receiving {
            Receiving::Head if conn.bytes_in > 0 && conn.h2.is_none() => self.fail(slot, Kind::ShortHead),
            Receiving::Head => self.fail_broken(slot),
            Receiving::Length(_) => self.fail(slot, Kind::ShortBody),
            Receiving::Chunked(_) => self.fail(slot, Kind::BadChunk),
            Receiving::ToTheEnd if !clean => self.fail(slot, Kind::ShortBody),
            Receiving::ToTheEnd => {
                let ending = Ending { head: Place::Connection, body: Place::Connection, extra: 0 };
                conn.hung_up = true;
                Some(self.complete(slot, ending, self.now))
            }
        }
    }

    /// The connection is gone: which kind that is depends on how far the exchange had come.
    fn fail_broken(&mut self, slot: usize) -> Option<Completion> {
        let conn = &self.slots[slot];
        let kind = match conn.receiving {
            _ if conn.upload.as_ref().is_some_and(|upload| upload.is_broken()) => Kind::BodyUnread,
            Receiving::Head if conn.bytes_in > 0 => Kind::ResetBeforeHeaders,
            Receiving::Head if conn.served > 0 => Kind::StaleConnection,
            Receiving::Head if conn.write_failed => Kind::WriteFailed,
            Receiving::Head => Kind::ResetBeforeHeaders,
            _ => Kind::ResetMidBody,
        };
        self.fail(slot, kind)
    }

    /// Closes the connection and ends its exchange; None where it has several, which are told one by one.
    fn fail(&mut self, slot: usize, kind: Kind) -> Option<Completion> {
        if self.slots[slot].h2.is_some() {
            self.fail_streams(slot, |_, _| kind);
            return None;
        }
        let id = self.id(slot);
        let conn = &mut self.slots[slot];
        let head = Some(Place::Connection).filter(|_| conn.head.is_some() && !conn.head_bytes.is_empty());
        let mut completion = conn.completion(id, self.now, Some(kind), Place::Connection, Place::Connection);
        completion.head = head;
        completion.open = false;
        self.close_slot(slot);
        Some(completion)
    }

    fn close_slot(&mut self, slot: usize) {
        let conn = &mut self.slots[slot];
        conn.state = State::Free;
        conn.generation = conn.generation.wrapping_add(1);
        // Dropping the socket takes it out of the poll.
        conn.stream = None;
        conn.tls = None;
        conn.setup = None;
        conn.upload = None;
        conn.h2 = None;
        conn.queued = Ns::MAX;
        self.open -= 1;
        self.free.push(slot as u32);
    }

    fn id(&self, slot: usize) -> ConnId {
        ConnId { slot: slot as u32, generation: self.slots[slot].generation }
    }
}

/// Why a connection did not come about.
struct Fault {
    kind: Kind,
    why: String,
}

impl Fault {
    fn new(kind: Kind, why: &str) -> Self {
        Self { kind, why: why.to_owned() }
    }

    fn of(error: &rustls::Error) -> Self {
        Self { kind: tls::handshake_kind(error), why: tls::reason(error) }
    }
}

/// A whole answer.
struct Ending {
    head: Place,
    body: Place,
    /// Bytes that followed it, which nobody asked for.
    extra: usize,
}

impl Conn {
    fn new() -> Self {
        Self {
            state: State::Free,
            generation: 0,
            stream: None,
            tls: None,
            setup: None,
            h2: None,
            receive: socket_read,
            stamp: 0,
            reset: false,
            silence: 0,
            served: 0,
            exchange: Exchange { owner: 0, begin: 0, deadline: Ns::MAX, keep: 0, bodyless: false, piecewise: false },
            out: Vec::new(),
            out_at: 0,
            unsent: false,
            write_failed: false,
            upload: None,
            paused: false,
            receiving: Receiving::Head,
            head_bytes: Vec::new(),
            interim: 0,
            body: Kept::default(),
            body_length: 0,
            head: None,
            drained: false,
            hung_up: false,
            connected: -1,
            secured: -1,
            sent: -1,
            first: -1,
            bytes_in: 0,
            bytes_out: 0,
            queued: Ns::MAX,
        }
    }

    fn begin(&mut self, exchange: Exchange, room: &Room) {
        self.exchange = exchange;
        self.receiving = Receiving::Head;
        self.head = None;
        (self.out_at, self.unsent, self.write_failed) = (0, false, false);
        (self.interim, self.body_length) = (0, 0);
        (self.stamp, self.silence, self.reset) = (0, 0, false);
        (self.sent, self.first, self.bytes_in, self.bytes_out) = (-1, -1, 0, 0);
        self.head_bytes.clear();
        if self.head_bytes.capacity() > KEPT_CAPACITY {
            self.head_bytes = Vec::new();
        }
        self.body.clear(room);
    }

    /// When what was read last came in: by the kernel's stamp where there is one, within what is possible.
    #[inline]
    fn arrived(&self, now: Ns, offset: Option<Ns>) -> Ns {
        match offset {
            Some(offset) if self.stamp != 0 => {
                // Not `sent`: that is read when the call returns, which may be after the answer has come.
                let ready = if self.served == 0 { self.connected.max(self.secured) } else { 0 };
                let earliest = self.exchange.begin.max(ready).max(self.first).min(now);
                (self.stamp - offset).clamp(earliest, now)
            }
            _ => now,
        }
    }

    /// Writes as much as the socket takes; the rest waits in `out`.
    fn first_write(&mut self, payload: Payload<'_>, clock: Clock) {
        if let Some(session) = &mut self.tls {
            let bytes = match payload {
                Payload::Shared(bytes) => bytes,
                Payload::Own | Payload::Upload(_) => &self.out[..],
            };
            // The session's buffer has no limit; what goes wrong shows when it is flushed.
            let _ = session.writer().write_all(bytes);
            self.bytes_out = bytes.len() as u64;
            self.unsent = true;
            return self.write_on(clock);
        }
        let Payload::Shared(bytes) = payload else {
            self.unsent = true;
            return self.write_on(clock);
        };
        let Some(stream) = &mut self.stream else { return };
        match socket_write(stream, bytes) {
            Ok(size) if size == bytes.len() => {
                self.bytes_out = size as u64;
                self.sent = clock.now();
                self.out.clear();
                return;
            }
            Ok(size) => self.out_at = size,
            Err(error) if is_retry(&error) => self.out_at = 0,
            Err(_) => self.write_failed = true,
        }
        self.out.clear();
        self.out.extend_from_slice(bytes);
        self.bytes_out = self.out_at as u64;
        self.unsent = true;
        if !self.write_failed {
            self.write_on(clock);
        }
    }

    /// Writes more of what waits.
    fn write_on(&mut self, clock: Clock) {
        let Some(stream) = &mut self.stream else { return };
        self.paused = false;
        let mut pieces = 0;
        loop {
            let written = match &mut self.tls {
                Some(session) if session.wants_write() => session.write_tls(&mut Wire::new(stream)).map(|_| ()),
                None if self.out_at < self.out.len() => socket_write(stream, &self.out[self.out_at..]).map(|size| {
                    self.out_at += size;
                    self.bytes_out += size as u64;
                }),
                _ if pieces == WRITES_PER_TURN && self.upload.is_some() => {
                    self.paused = true;
                    return;
                }
                session if self.upload.is_some() => {
                    pieces += 1;
                    write_upload(&mut self.upload, session, stream).map(|size| self.bytes_out += size as u64)
                }
                _ => {
                    self.unsent = false;
                    self.sent = clock.now();
                    return;
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.write_failed = true;
                    return;
                }
            }
        }
    }

    /// Reads what is there, decrypted.
    #[inline]
    fn fill(&mut self, buffer: &mut [u8]) -> Fill {
        let Some(stream) = &mut self.stream else { return Fill::Broken };
        if let Some(session) = &mut self.tls {
            let hung_up = self.hung_up;
            return fill_tls(session, stream, self.receive, &mut self.stamp, buffer, &mut self.drained, hung_up);
        }
        if self.drained {
            return Fill::Drained;
        }
        loop {
            match (self.receive)(stream, buffer) {
                Ok((0, _)) => return Fill::Eof { clean: true },
                Ok((size, stamp)) => {
                    self.stamp = stamp;
                    self.drained = size < buffer.len() && !self.hung_up;
                    return Fill::Data(size);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.drained = true;
                    return Fill::Drained;
                }
                Err(_) => return Fill::Broken,
            }
        }
    }

    /// What has come behind a whole answer.
    #[inline]
    fn behind(&mut self) -> Behind {
        if self.drained {
            return Behind::Silence;
        }
        let mut byte = [0];
        match (&mut self.tls, &self.stream) {
            (None, Some(stream)) => match stream.peek(&mut byte) {
                Err(error) if is_retry(&error) => Behind::Silence,
                Ok(1) => Behind::Bytes,
                _ => Behind::End,
            },
            _ => match self.fill(&mut byte) {
                Fill::Drained => Behind::Silence,
                Fill::Data(_) => Behind::Bytes,
                _ => Behind::End,
            },
        }
    }

    /// Whether the proxy has opened the way.
    fn dig(&mut self, request: &[u8]) -> Result<bool, Fault> {
        let lost = || Fault::new(Kind::ProxyRefused, "the proxy closed the connection instead of an answer to CONNECT");
        let Some(stream) = &self.stream else { return Err(lost()) };
        while self.out_at < request.len() {
            match socket_write(stream, &request[self.out_at..]) {
                Ok(size) => self.out_at += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(lost()),
            }
        }
        let mut bytes = [0; 1024];
        while self.head_bytes.len() <= LONGEST_HEAD {
            match socket_read(stream, &mut bytes) {
                Ok((0, _)) => return Err(lost()),
                Ok((size, _)) => self.head_bytes.extend_from_slice(&bytes[..size]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(lost()),
            }
            // Interim answers are no answers; behind the last one nothing may come, as the target speaks second.
            while let Some(head) = http1::parse_head(&self.head_bytes, true)
                .map_err(|_| Fault::new(Kind::ProxyRefused, "what the proxy answered to CONNECT is not HTTP"))?
            {
                self.head_bytes.drain(..head.length);
                match head.status {
                    ..200 => {}
                    200..300 if self.head_bytes.is_empty() => {
                        self.out_at = 0;
                        return Ok(true);
                    }
                    status => {
                        let why = format!("the proxy answered {status} to CONNECT");
                        return Err(Fault { kind: Kind::ProxyRefused, why });
                    }
                }
            }
        }
        Err(Fault::new(Kind::ProxyRefused, "the proxy's answer to CONNECT has no end"))
    }

    /// Whether the handshake is done.
    fn shake_hands(&mut self) -> Result<bool, Fault> {
        let lost = || Fault::new(Kind::TlsHandshake, "the connection was closed during the handshake");
        let (Some(session), Some(stream)) = (&mut self.tls, &mut self.stream) else { return Err(lost()) };
        loop {
            let moved = if session.wants_write() {
                session.write_tls(&mut Wire::new(stream))
            } else if !session.is_handshaking() {
                return Ok(true);
            } else {
                session.read_tls(&mut Wire::new(stream))
            };
            match moved {
                Ok(0) => return Err(lost()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Err(lost()),
            }
            if let Err(error) = session.process_new_packets() {
                // The alert tells the server why; whether it still arrives does not matter here.
                let _ = session.write_tls(&mut Wire::new(stream));
                return Err(Fault::of(&error));
            }
        }
    }

    /// Takes in what was read. Some when the answer is whole.
    fn feed(
        &mut self,
        bytes: &[u8],
        now: Ns,
        max_body: u64,
        room: &Room,
        heads: &mut Heads,
    ) -> Result<Option<Ending>, Kind> {
        self.bytes_in += bytes.len() as u64;
        if self.first < 0 {
            self.first = now;
        }
        let mut at = 0;
        let mut head = Place::Connection;
        if matches!(self.receiving, Receiving::Head) {
            let Some((place, end)) = self.feed_head(bytes, heads)? else { return Ok(None) };
            (head, at) = (place, end);
            let framing = self.head.as_ref().map_or(Framing::Empty, |head| head.framing);
            match framing {
                Framing::Empty => {
                    return Ok(Some(Ending { head, body: Place::ReadBuffer(0..0), extra: bytes.len() - at }));
                }
                Framing::Length(length) if length > max_body => {
                    self.keep_head(head, bytes);
                    return Err(Kind::BodyTooLarge);
                }
                Framing::Length(length) if length <= (bytes.len() - at) as u64 => {
                    let end = at + length as usize;
                    self.body_length = length;
                    return Ok(Some(Ending { head, body: Place::ReadBuffer(at..end), extra: bytes.len() - end }));
                }
                Framing::Length(length) => self.receiving = Receiving::Length(length),
                Framing::Chunked => self.receiving = Receiving::Chunked(Chunks::default()),
                Framing::Close => self.receiving = Receiving::ToTheEnd,
            }
        }
        let rest = &bytes[at..];
        if self.exchange.piecewise {
            self.body.rewind();
        }
        let (body, keep, length) = (&mut self.body, self.exchange.keep, &mut self.body_length);
        let mut take = |part: &[u8]| {
            *length += part.len() as u64;
            body.add(part, keep, room);
        };
        let end = match &mut self.receiving {
            Receiving::Length(left) => {
                let part = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                take(&rest[..part]);
                *left -= part as u64;
                Ok((*left == 0).then_some(part))
            }
            Receiving::Chunked(chunks) => chunks.read(rest, take),
            Receiving::Head | Receiving::ToTheEnd => {
                take(rest);
                Ok(None)
            }
        };
        let too_large = self.body_length > max_body && !self.exchange.piecewise;
        match end {
            Ok(Some(end)) if !too_large => Ok(Some(Ending { head, body: Place::Connection, extra: rest.len() - end })),
            other => {
                self.keep_head(head, bytes);
                other.and(if too_large { Err(Kind::BodyTooLarge) } else { Ok(None) })
            }
        }
    }

    /// Takes in bytes of the head. Some with where it lies and where the body begins in `bytes` when it is whole.
    fn feed_head(&mut self, bytes: &[u8], heads: &mut Heads) -> Result<Option<(Place, usize)>, Kind> {
        let mut at = 0;
        loop {
            let direct = self.head_bytes.is_empty();
            if !direct {
                let seen = self.head_bytes.len();
                self.head_bytes.extend_from_slice(&bytes[at..]);
                at = bytes.len();
                // Parsing again from the beginning is worth it only once the empty line is there.
                if !has_empty_line(&self.head_bytes[seen.saturating_sub(3)..]) {
                    let too_large = self.interim + self.head_bytes.len() > LONGEST_HEAD;
                    return if too_large { Err(Kind::HeaderTooLarge) } else { Ok(None) };
                }
            }
            let source = if direct { &bytes[at..] } else { &self.head_bytes[..] };
            if source.is_empty() {
                return Ok(None);
            }
            let parsed = heads.parse(source, self.exchange.bodyless);
            let Some(mut head) = parsed.map_err(|kind| blame(kind, source, self.served > 0 && self.interim == 0))?
            else {
                if direct {
                    self.head_bytes.extend_from_slice(&bytes[at..]);
                }
                let too_large = self.interim + self.head_bytes.len() > LONGEST_HEAD;
                return if too_large { Err(Kind::HeaderTooLarge) } else { Ok(None) };
            };
            let length = head.length;
            if self.interim + length > LONGEST_HEAD {
                return Err(Kind::HeaderTooLarge);
            }
            // What lies behind the head came with this read: a head that was whole before would have been seen.
            let behind = source.len() - length;
            let end = bytes.len() - behind;
            if head.status == 101 {
                if !self.exchange.piecewise {
                    return Err(Kind::InvalidHttp);
                }
                head.framing = Framing::Close;
            } else if head.status < 200 {
                self.interim += length;
                self.head_bytes.clear();
                at = end;
                continue;
            }
            self.head = Some(head);
            if direct {
                return Ok(Some((Place::ReadBuffer(end - length..end), end)));
            }
            self.head_bytes.truncate(length);
            return Ok(Some((Place::Connection, end)));
        }
    }

    /// Copies a head that lies in the read buffer, because the answer goes on in another read.
    fn keep_head(&mut self, head: Place, bytes: &[u8]) {
        if let Place::ReadBuffer(range) = head {
            self.head_bytes.extend_from_slice(&bytes[range]);
        }
    }

    fn completion(&mut self, conn: ConnId, end: Ns, error: Option<Kind>, head: Place, body: Place) -> Completion {
        let (status, minor, sets_cookie, encoded) = match &self.head {
            Some(head) => (head.status, head.minor, head.sets_cookie, head.encoded),
            None => (0, 0, false, false),
        };
        let (location, server_timing) = match &mut self.head {
            Some(head) => (head.location.take(), head.server_timing.take()),
            None => (None, None),
        };
        Completion {
            owner: self.exchange.owner,
            conn,
            error,
            end,
            phases: self.phases(end),
            status,
            minor,
            reused: self.served > 0,
            open: true,
            more: false,
            sets_cookie,
            encoded,
            reset: self.reset,
            surplus: false,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            body_length: self.body_length,
            head: Some(head),
            body,
            location,
            server_timing,
        }
    }

    fn phases(&self, end: Ns) -> Phases {
        let opening = (self.served == 0).then_some((self.connected, self.tls.as_ref().map(|_| self.secured)));
        phases(self.exchange.begin, opening, self.sent, self.first, end)
    }
}

/// Writes a piece of the request's body, to the socket or into the session, and forgets the body when it is at its end.
fn write_upload(
    upload: &mut Option<Box<Outgoing>>,
    session: &mut Option<Box<ClientConnection>>,
    stream: &TcpStream,
) -> io::Result<usize> {
    let Some(outgoing) = upload else { return Ok(0) };
    let piece = outgoing.piece().map_err(|_| ErrorKind::InvalidData)?;
    if piece.is_empty() {
        *upload = None;
        return Ok(0);
    }
    let size = match session {
        Some(session) => session.writer().write(piece)?,
        None => socket_write(stream, piece)?,
    };
    outgoing.advance(size);
    Ok(size)
}

/// The parts of the time from begin to `end`; the one that was under way when it ended takes what is left. `opening`
/// says when the connection was there, and its TLS session if it has one, for the exchange it was begun for.
#[inline]
fn phases(begin: Ns, opening: Option<(Ns, Option<Ns>)>, sent: Ns, first: Ns, end: Ns) -> Phases {
    let mut phases = Phases { connect: -1, tls: -1, send: -1, wait: -1, receive: -1 };
    let mut from = begin;
    if let Some((connected, secured)) = opening {
        let to = if connected >= 0 { connected } else { end };
        phases.connect = to - from;
        from = to;
        if connected < 0 {
            return phases;
        }
        if let Some(secured) = secured {
            let to = if secured >= 0 { secured } else { end };
            phases.tls = to - from;
            from = to;
            if secured < 0 {
                return phases;
            }
        }
    }
    // An answer may begin before the request has been sent whole.
    let sent = match (sent, first) {
        (sent, first) if sent >= 0 && (first < 0 || sent <= first) => sent,
        (_, first) if first >= 0 => first,
        _ => {
            phases.send = end - from;
            return phases;
        }
    };
    phases.send = sent - from;
    phases.wait = if first >= 0 { first } else { end } - sent;
    if first >= 0 {
        phases.receive = end - first;
    }
    phases
}

/// Reads into the session and out of it until plaintext comes, or nothing more does.
fn fill_tls(
    session: &mut ClientConnection,
    stream: &TcpStream,
    receive: Receive,
    stamp: &mut Ns,
    buffer: &mut [u8],
    drained: &mut bool,
    hung_up: bool,
) -> Fill {
    loop {
        match session.reader().read(buffer) {
            Ok(0) => return Fill::Eof { clean: true },
            Ok(size) => return Fill::Data(size),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Fill::Eof { clean: false },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Fill::Broken,
        }
        if *drained {
            return Fill::Drained;
        }
        let mut wire = Wire { stream, receive, stamp: 0, short: false };
        match session.read_tls(&mut wire) {
            Ok(_) => {
                *drained = wire.short && !hung_up;
                *stamp = wire.stamp;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *drained = true;
                return Fill::Drained;
            }
            Err(_) => return Fill::Broken,
        }
        if let Err(error) = session.process_new_packets() {
            let _ = session.write_tls(&mut Wire::new(stream));
            return match error {
                rustls::Error::AlertReceived(_) => Fill::Refused(Fault::of(&error)),
                _ => Fill::Broken,
            };
        }
        if session.wants_write() {
            // Answers to the protocol's own questions; a failure shows at the next read.
            let _ = session.write_tls(&mut Wire::new(stream));
        }
    }
}

/// The socket as TLS sees it; notices whether a read has emptied it.
struct Wire<'a> {
    stream: &'a TcpStream,
    receive: Receive,
    stamp: Ns,
    short: bool,
}

impl<'a> Wire<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        Self { stream, receive: socket_read, stamp: 0, short: false }
    }
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (size, stamp) = (self.receive)(self.stream, buffer)?;
        self.stamp = stamp;
        self.short = 0 < size && size < buffer.len();
        Ok(size)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket_write(self.stream, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `send` without libc's wrapper, which makes every call a cancellation point.
#[cfg(target_os = "linux")]
fn socket_write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL)?)
}

/// `recv`, likewise.
#[cfg(target_os = "linux")]
fn socket_read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
    Ok((rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?.0, 0))
}

#[cfg(not(target_os = "linux"))]
fn socket_write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    stream.write(bytes)
}

#[cfg(not(target_os = "linux"))]
fn socket_read(mut stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
    Ok((stream.read(buffer)?, 0))
}

fn has_empty_line(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\r\n").is_some() || memchr::memmem::find(bytes, b"\n\n").is_some()
}

/// What is wrong with bytes that are no head. On a `kept` connection, what does not even begin as an answer is likely to be
/// left over from the one before, whose length was not what it said; nothing in the bytes tells for sure.
#[cold]
fn blame(kind: Kind, bytes: &[u8], kept: bool) -> Kind {
    if kind == Kind::InvalidHttp && kept && !bytes.starts_with(b"HTTP/") { Kind::Surplus } else { kind }
}

/// Whether this begins an answer 408, with which servers end a connection that waits (RFC 9110 section 15.5.9).
fn is_request_timeout(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.") && bytes.get(8..12) == Some(b" 408")
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn register(poll: &Poll, stream: &mut TcpStream, id: ConnId, stamps: Option<Stamps>) -> io::Result<()> {
    // A socket that does not take the option still works, only later.
    let _ = stream.set_nodelay(true);
    if let Some(stamps) = stamps {
        (stamps.prepare)(stream);
    }
    poll.registry().register(stream, id.token(), Interest::READABLE | Interest::WRITABLE)
}

#[cfg(target_os = "linux")]
use linux_timer::Timer;

/// A timer descriptor inside the poll: exact where a poll's own timeout is in milliseconds, and seen by whoever watches
/// the poll from outside.
#[cfg(target_os = "linux")]
mod linux_timer {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    use crate::clock::{Clock, Ns, SECOND};

    pub struct Timer {
        fd: OwnedFd,
        armed: Ns,
    }

    impl Timer {
        pub fn new(registry: &Registry) -> io::Result<Self> {
            let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
            registry.register(&mut SourceFd(&fd.as_raw_fd()), super::TIMER, Interest::READABLE)?;
            Ok(Self { fd, armed: Ns::MAX })
        }

        /// Makes the poll end at `until`; returns the poll's own timeout, which is none.
        ///
        /// Setting the timer forgets the expiries before, so the descriptor never needs to be read.
        pub fn arm(&mut self, clock: Clock, until: Ns) -> io::Result<Option<Duration>> {
            if until != self.armed && until != Ns::MAX {
                let absolute = clock.absolute(until);
                let at = Timespec { tv_sec: absolute / SECOND, tv_nsec: absolute % SECOND };
                let never = Timespec { tv_sec: 0, tv_nsec: 0 };
                let spec = Itimerspec { it_interval: never, it_value: at };
                timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &spec)?;
                self.armed = until;
            }
            Ok(None)
        }
    }
}

/// Where there is no timer descriptor, the poll's timeout, rounded up to what it can do.
#[cfg(not(target_os = "linux"))]
struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    fn new(_: &mio::Registry) -> io::Result<Self> {
        Ok(Self)
    }

    fn arm(&mut self, clock: Clock, until: Ns) -> io::Result<Option<Duration>> {
        if until == Ns::MAX {
            return Ok(None);
        }
        Ok(Some(Duration::from_nanos((until - clock.now()).max(0) as u64)))
    }
}
