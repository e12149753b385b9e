//! Steps that are conversations: a stream of server-sent events, or a WebSocket.
//!
//! Such a step is one request of the books: due, sent, and one row. The row's times are those of the opening, from the
//! due moment to the head of the answer, because what comes after lasts as long as the plan wants it to; its outcome is
//! that of the whole. What comes after are messages, each timed from what it answers: the last that was sent, or else the
//! message before it, or the request itself, from when it was due. They are counted beside the books, as transactions are.

use crate::answer::{Answer, Check, Extract};
use crate::clock::{Ns, SECOND};
use crate::conn::Completion;
use crate::events::EventStream;
use crate::http1;
use crate::outcome::{Kind, Outcome, Reason};
use crate::plan::Step;
use crate::record::{NO_PROTOCOL, Recorder};
use crate::template::Template;
use crate::websocket::{self, Incoming, Opcode, Reader};

use super::{End, User, Worker};

/// How long the server may take to answer our closing: what browsers and servers give it is of this order.
const CLOSING: Ns = 5 * SECOND;
const KEY_HEADER: &[u8] = b"Sec-WebSocket-Key: ";

/// A conversation, compiled. Numbers are of `Program::messages`.
#[derive(Debug)]
pub enum Talk {
    /// Server-sent events.
    Events(Until),
    /// A WebSocket.
    Socket {
        /// What is done, one after the other; it closes after the last.
        items: Vec<Item>,
        /// The conversation as a whole.
        whole: usize,
    },
}

/// What ends a stream of events; the first that happens does.
#[derive(Debug)]
pub struct Until {
    /// So many messages.
    pub messages: Option<u64>,
    /// A message with this text in it.
    pub text: Option<Template>,
    /// So long after the opening.
    pub time: Option<Ns>,
    /// The first message, the others, and the stream as a whole.
    pub first: usize,
    /// The others.
    pub next: usize,
    /// The stream as a whole.
    pub whole: usize,
}

/// One thing to do on a WebSocket.
#[derive(Debug)]
pub enum Item {
    /// A message, of text or of bytes.
    Send(Opcode, Template),
    /// Waits for a message that fits; others are passed over.
    Expect {
        /// What it must be like.
        check: Box<Check>,
        /// What is taken from it.
        extract: Vec<Extract>,
        /// How long it is waited for.
        timeout: Option<Ns>,
        /// Which message it is.
        message: usize,
    },
    /// Takes whatever comes for so long.
    Listen {
        /// How long.
        time: Ns,
        /// Which message it is.
        message: usize,
    },
    /// Closes, and waits until the server has.
    Close(u16),
}

impl Talk {
    fn whole(&self) -> usize {
        match self {
            Self::Events(until) => until.whole,
            Self::Socket { whole, .. } => *whole,
        }
    }
}

/// A conversation of a user under way.
pub struct Session {
    /// The request, for evidence.
    request: Vec<u8>,
    key: [u8; websocket::KEY],
    /// When the head of the answer had come; -1 before.
    opened: Ns,
    status: u16,
    minor: u8,
    /// What the next message answers: when.
    since: Ns,
    messages: u64,
    until: Option<Vec<u8>>,
    events: EventStream,
    socket: Reader,
    item: usize,
    /// Our closing has been sent.
    closing: bool,
    /// When the present wait ends.
    limit: Ns,
}

/// How a conversation goes on.
enum Course {
    /// It waits for more.
    On,
    /// It has ended well.
    Done,
    /// It has ended.
    Over(Reason, Outcome),
}

impl Course {
    fn broken(kind: Kind) -> Self {
        Self::Over(Reason::kind(kind), kind.outcome())
    }
}

impl Worker<'_> {
    /// Makes a session for the request in `scratch`, which has been filled.
    #[cold]
    pub(super) fn begin_talk(&mut self, slot: u32, talk: &Talk) {
        let user = &mut self.users[slot as usize];
        let key = websocket::key(&mut user.draws);
        let mut until = None;
        match talk {
            Talk::Socket { .. } => write_key(&key, &mut self.scratch),
            Talk::Events(Until { text: Some(text), .. }) => {
                let mut filled = Vec::new();
                // A text that cannot be filled is in no message.
                until = text.fill(&mut user.filling(), &mut filled).is_ok().then_some(filled);
            }
            Talk::Events(_) => {}
        }
        user.talk = Some(Box::new(Session {
            request: self.scratch.clone(),
            key,
            opened: -1,
            status: 0,
            minor: NO_PROTOCOL,
            since: -1,
            messages: 0,
            until,
            events: EventStream::default(),
            socket: Reader::default(),
            item: 0,
            closing: false,
            limit: Ns::MAX,
        }));
    }

    /// The same session goes on with the request in `scratch`, after a redirect.
    pub(super) fn redirect_talk(&mut self, slot: u32) {
        if let Some(session) = &mut self.users[slot as usize].talk {
            write_key(&session.key, &mut self.scratch);
            session.request.clone_from(&self.scratch);
        }
    }

    /// Something has come on a conversation, or it has ended, or a wait has.
    #[cold]
    pub(super) fn talk(&mut self, completion: Completion) {
        let slot = completion.owner;
        let program = self.program;
        let step = &program.steps[self.users[slot as usize].step];
        let (Some(talk), Some(mut session)) = (&step.talk, self.users[slot as usize].talk.take()) else {
            // Left by an opening that ended in a redirect; this is an exchange like others.
            return self.complete(completion);
        };
        let mut course = Course::On;
        if session.opened < 0 && completion.status > 0 && completion.error.is_none() {
            course = self.open_talk(&completion, step, talk, &mut session);
        }
        if matches!(course, Course::On) && completion.error.is_none() {
            course = match talk {
                Talk::Events(until) => self.hear_events(&completion, until, &mut session),
                Talk::Socket { items, .. } => self.hear_socket(&completion, step, items, &mut session),
            };
        }
        if let (Course::On, Some(kind)) = (&course, completion.error) {
            course = self.interrupted(&completion, step, talk, &mut session, kind);
        }
        if matches!(course, Course::On) && !completion.more {
            course = match talk {
                Talk::Events(Until { messages: None, text: None, .. }) => Course::Done,
                Talk::Socket { .. } if session.closing => Course::Done,
                _ => Course::broken(Kind::ClosedEarly),
            };
        }
        let (reason, outcome) = match course {
            Course::On => {
                self.users[slot as usize].talk = Some(session);
                return;
            }
            Course::Done => (Reason::NONE, Outcome::Ok),
            Course::Over(reason, outcome) => (reason, outcome),
        };
        self.users[slot as usize].talk = Some(session);
        self.end_talk(&completion, step, talk, reason, outcome);
    }

    /// The head of the answer has come: whether the conversation begins.
    fn open_talk(&mut self, completion: &Completion, step: &Step, talk: &Talk, session: &mut Session) -> Course {
        if completion.sets_cookie {
            self.keep_cookies(completion);
        }
        let user = &mut self.users[completion.owner as usize];
        let head = self.conns.head(completion);
        (session.opened, session.since) = (completion.end, user.flight.intended);
        (session.status, session.minor) = (completion.status, completion.minor);
        user.add_phases(completion);
        let answer = Answer::new(completion.status, head, b"", completion.end - user.flight.start);
        let reason = step.check.judge(&answer, &mut user.filling(), &mut self.scratch);
        if reason != Reason::NONE {
            return Course::Over(reason, Outcome::Failure);
        }
        let missing = step.extract.iter().filter(|extract| !extract.apply(&answer, &mut user.slots)).count();
        if missing > 0 {
            return Course::broken(Kind::ExtractMissing);
        }
        let wrong = match talk {
            Talk::Events(_) if !is_event_stream(head) => Some(Kind::NotEvents),
            Talk::Socket { .. } if completion.status != 101 || !websocket::accepts(head, &session.key) => {
                Some(Kind::BadUpgrade)
            }
            _ => None,
        };
        if let Some(kind) = wrong {
            return Course::broken(kind);
        }
        match talk {
            Talk::Events(until) => {
                session.limit = match until.time {
                    Some(time) => completion.end.saturating_add(time),
                    None => user.flight.deadline,
                };
                if completion.more {
                    self.conns.set_deadline(completion.conn, session.limit);
                }
                Course::On
            }
            Talk::Socket { items, .. } => self.go_on(completion, step, items, session),
        }
    }

    /// Reads events.
    fn hear_events(&mut self, completion: &Completion, until: &Until, session: &mut Session) -> Course {
        let stage = self.users[completion.owner as usize].flight.stage;
        let (now, recorder) = (completion.end, &mut self.recorder);
        let Session { events, messages, since, until: text, .. } = session;
        let mut done = false;
        let read = events.read(self.conns.body(completion), |data| {
            if done {
                return;
            }
            let number = if *messages == 0 { until.first } else { until.next };
            hear(recorder, number, since, stage, now, data.len());
            *messages += 1;
            done = until.messages.is_some_and(|wanted| *messages >= wanted)
                || text.as_ref().is_some_and(|text| memchr::memmem::find(data, text).is_some());
        });
        match read {
            _ if done => Course::Done,
            Ok(()) => Course::On,
            Err(kind) => Course::broken(kind),
        }
    }

    /// Reads messages of a WebSocket, and does what is next when one was waited for.
    fn hear_socket(&mut self, completion: &Completion, step: &Step, items: &[Item], session: &mut Session) -> Course {
        session.socket.push(self.conns.body(completion));
        loop {
            // Out of the session, so that what it says can be read while the session goes on.
            let mut socket = std::mem::take(&mut session.socket);
            let course = match socket.next() {
                Err(kind) => Some(Course::broken(kind)),
                Ok(None) => Some(Course::On),
                Ok(Some(Incoming::Ping(payload))) => {
                    let draws = &mut self.users[completion.owner as usize].draws;
                    self.scratch.clear();
                    websocket::write(Opcode::Pong, payload, draws, &mut self.scratch);
                    self.conns.write(completion.conn, &self.scratch);
                    None
                }
                Ok(Some(Incoming::Close(_))) if session.closing => Some(Course::Done),
                Ok(Some(Incoming::Close(_))) => Some(Course::broken(Kind::ClosedEarly)),
                Ok(Some(Incoming::Message(message))) => match self.take(completion, items, session, message) {
                    Ok(false) => None,
                    Ok(true) => match self.go_on(completion, step, items, session) {
                        Course::On => None,
                        other => Some(other),
                    },
                    Err(kind) => Some(Course::broken(kind)),
                },
            };
            session.socket = socket;
            if let Some(course) = course {
                return course;
            }
        }
    }

    /// A message has come; whether it was waited for.
    fn take(
        &mut self,
        completion: &Completion,
        items: &[Item],
        session: &mut Session,
        message: &[u8],
    ) -> Result<bool, Kind> {
        let user = &mut self.users[completion.owner as usize];
        let (now, stage) = (completion.end, user.flight.stage);
        match items.get(session.item) {
            Some(Item::Listen { message: number, .. }) => {
                hear(&mut self.recorder, *number, &mut session.since, stage, now, message.len());
                Ok(false)
            }
            Some(Item::Expect { check, extract, message: number, .. }) => {
                let answer = Answer::new(200, b"", message, now - session.since);
                if check.judge(&answer, &mut user.filling(), &mut self.scratch) != Reason::NONE {
                    return Ok(false);
                }
                if extract.iter().filter(|extract| !extract.apply(&answer, &mut user.slots)).count() > 0 {
                    return Err(Kind::ExtractMissing);
                }
                hear(&mut self.recorder, *number, &mut session.since, stage, now, message.len());
                session.item += 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Does what is next on a WebSocket, until something has to be waited for.
    fn go_on(&mut self, completion: &Completion, step: &Step, items: &[Item], session: &mut Session) -> Course {
        let now = completion.end;
        loop {
            let user = &mut self.users[completion.owner as usize];
            let mut frame = Vec::new();
            let wait = match items.get(session.item) {
                Some(Item::Send(opcode, template)) => {
                    self.scratch.clear();
                    if template.fill(&mut user.filling(), &mut self.scratch).is_err() {
                        return Course::broken(Kind::ExtractMissing);
                    }
                    websocket::write(*opcode, &self.scratch, &mut user.draws, &mut frame);
                    None
                }
                Some(Item::Expect { timeout, .. }) => Some(timeout.unwrap_or(step.timeout)),
                Some(Item::Listen { time, .. }) => Some(*time),
                Some(Item::Close(_)) | None => {
                    let code = match items.get(session.item) {
                        Some(Item::Close(code)) => *code,
                        _ => 1000,
                    };
                    websocket::write(Opcode::Close, &code.to_be_bytes(), &mut user.draws, &mut frame);
                    session.closing = true;
                    Some(CLOSING.min(step.timeout))
                }
            };
            if !frame.is_empty() {
                self.conns.write(completion.conn, &frame);
                session.since = self.clock.now();
                if !session.closing {
                    session.item += 1;
                }
            }
            if let Some(wait) = wait {
                session.limit = now.max(session.since).saturating_add(wait);
                self.conns.set_deadline(completion.conn, session.limit);
                return Course::On;
            }
        }
    }

    /// The wait is over, or the connection broke.
    fn interrupted(
        &mut self,
        completion: &Completion,
        step: &Step,
        talk: &Talk,
        session: &mut Session,
        kind: Kind,
    ) -> Course {
        if session.opened < 0 {
            return Course::broken(kind);
        }
        let timed_out = completion.more;
        if timed_out && completion.end < session.limit {
            self.conns.set_deadline(completion.conn, session.limit);
            return Course::On;
        }
        match talk {
            Talk::Events(Until { time: Some(_), .. }) if timed_out => Course::Done,
            Talk::Events(until) if timed_out => {
                let number = if session.messages == 0 { until.first } else { until.next };
                self.wait_in_vain(completion, number, session.since)
            }
            Talk::Socket { .. } if session.closing && timed_out => Course::broken(Kind::CloseTimeout),
            Talk::Socket { .. } if session.closing => Course::Done,
            Talk::Socket { items, .. } if timed_out => match items.get(session.item) {
                Some(Item::Expect { message, .. }) => self.wait_in_vain(completion, *message, session.since),
                _ => {
                    session.item += 1;
                    self.go_on(completion, step, items, session)
                }
            },
            _ => Course::broken(match kind {
                Kind::ShortBody => Kind::ClosedEarly,
                other => other,
            }),
        }
    }

    /// A message has not come in time since `since`.
    fn wait_in_vain(&mut self, completion: &Completion, number: usize, since: Ns) -> Course {
        let stage = self.users[completion.owner as usize].flight.stage;
        self.recorder.message(number, since, stage, Outcome::Timeout, completion.end - since, 0);
        Course::broken(Kind::MessageTimeout)
    }

    /// Writes the conversation down and goes on with what the user does next.
    fn end_talk(&mut self, completion: &Completion, step: &Step, talk: &Talk, reason: Reason, outcome: Outcome) {
        let slot = completion.owner;
        // Of an exchange that goes on, only its closing says how many bytes there were.
        let last = if completion.more { self.conns.abort(completion.conn, slot) } else { None };
        let last = last.as_ref().unwrap_or(completion);
        let user = &mut self.users[slot as usize];
        let (opening, status, minor) = match &user.talk {
            Some(session) => (session.opened, session.status, session.minor),
            None => (-1, 0, NO_PROTOCOL),
        };
        let (phases, reused) = (user.flight.phases, user.flight.reused);
        user.add(last);
        let opened = opening >= 0;
        if opened {
            (user.flight.phases, user.flight.reused) = (phases, reused);
        }
        user.busy = false;
        user.flight.conn = None;
        self.in_flight -= 1;
        let (intended, stage) = (user.flight.intended, user.flight.stage);
        let at = if opened { opening } else { completion.end };
        let ended = completion.end;
        if opened {
            let bytes = user.flight.bytes_in as usize;
            self.recorder.message(talk.whole(), intended, stage, outcome, ended - intended, bytes);
        }
        if let Some(why) = self.exchanges.judge(step.endpoint, at - intended, reason) {
            self.keep_evidence(why, completion, step, reason, at - intended);
        }
        self.users[slot as usize].talk = None;
        self.record(slot, &End { at, outcome, reason, status, minor }, None);
        if completion.open && !completion.more {
            match self.program.pooled {
                // Who refuses to speak WebSocket may well close, without a word of it in the answer; and so must the
                // client (RFC 6455 section 7.1.7).
                _ if matches!(talk, Talk::Socket { .. }) => self.conns.close(completion.conn),
                true => self.conns.release(completion.conn),
                false => self.users[slot as usize].conn = Some(completion.conn),
            }
        }
        let unreachable = completion.error.is_some_and(super::is_unreachable);
        let missing = reason == Reason::kind(Kind::ExtractMissing);
        self.proceed(slot, ended, (outcome, status), missing, unreachable);
    }
}

impl User {
    /// Forgets the conversation, when the run ends in it: whether it had been opened, its row's phases stay.
    pub(super) fn drop_talk(&mut self) -> bool {
        self.talk.take().is_some_and(|session| session.opened >= 0)
    }
}

impl Session {
    /// What was asked.
    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }
}

/// Writes down a message that came after what it answers, and answers the next one in its turn.
fn hear(recorder: &mut Recorder, number: usize, since: &mut Ns, stage: u32, now: Ns, bytes: usize) {
    recorder.message(number, *since, stage, Outcome::Ok, now - *since, bytes);
    *since = now;
}

fn write_key(key: &[u8; websocket::KEY], request: &mut [u8]) {
    if let Some(at) = memchr::memmem::find(request, KEY_HEADER) {
        let begin = at + KEY_HEADER.len();
        request[begin..begin + key.len()].copy_from_slice(key);
    }
}

fn is_event_stream(head: &[u8]) -> bool {
    let mut found = false;
    http1::each_header(head, |name, value| {
        if name.eq_ignore_ascii_case("content-type") {
            let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
            found |= kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream");
        }
    });
    found
}
