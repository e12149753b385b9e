//! Connections that carry many exchanges at once, as streams of HTTP/2.
//!
//! `h2::Session` knows what the bytes mean; this is the way between it and the socket. What exchanges want to send is
//! gathered and written once: when all that one read has brought has been dealt with, or before the next wait.

use std::cmp::Reverse;
use std::io::{ErrorKind, Write};

use super::{
    Completion, ConnId, Connections, Exchange, Fault, Fill, Payload, Place, READS_PER_TURN, Readiness, State, Wire,
};
use super::{phases, socket_write};
use crate::clock::Ns;
use crate::h2::{Ended, Session};
use crate::outcome::Kind;

/// The connection whose bytes are being taken in.
#[derive(Clone, Copy)]
pub(super) struct Current {
    id: ConnId,
    /// What of the read buffer is still to be taken in.
    at: usize,
    end: usize,
    reads: usize,
}

/// What a server that speaks something else is said to do.
pub(super) fn no_http2() -> Fault {
    Fault::new(Kind::NoHttp2, "the server does not speak HTTP/2, which the plan asks for (connection: http)")
}

impl Connections {
    /// Has new connections speak HTTP/2, with so many streams at once. `pooled` where `acquire_idle` is to find those with
    /// room, new ones included.
    pub fn speak_http2(&mut self, streams: usize, pooled: bool) {
        self.streams = streams;
        self.pooled = pooled;
    }

    /// Whether another exchange may be sent on this connection: it lives, and takes more.
    pub fn takes_more(&self, id: ConnId) -> bool {
        let session = self.slots[id.slot as usize].h2.as_ref().filter(|_| self.is_open(id));
        session.is_some_and(|session| !session.is_retired())
    }

    /// A connection with room; it stays in the pool.
    pub(super) fn acquire_shared(&mut self) -> Option<ConnId> {
        while let Some(&id) = self.idle.last() {
            let open = self.is_open(id);
            if let Some(session) = self.slots[id.slot as usize].h2.as_mut().filter(|_| open) {
                if session.has_room() {
                    return Some(id);
                }
                session.pooled = false;
            }
            self.idle.pop();
        }
        None
    }

    /// Gives a new connection its session.
    pub(super) fn begin_session(&mut self, id: ConnId) {
        let conn = &mut self.slots[id.slot as usize];
        let mut session = Session::new(self.streams, conn.setup.is_some());
        session.pooled = self.pooled;
        session.bodies = self.room.clone();
        conn.h2 = Some(Box::new(session));
        if self.pooled {
            self.idle.push(id);
        }
    }

    /// Starts an exchange as a stream.
    pub(super) fn submit(&mut self, id: ConnId, payload: Payload<'_>, exchange: Exchange) {
        let conn = &mut self.slots[id.slot as usize];
        let Some(session) = &mut conn.h2 else { return };
        let opener = conn.state == State::Connecting && session.in_flight() == 0;
        session.submit(payload, &mut conn.out, exchange, opener);
        if conn.state == State::Streaming && !session.listed && session.wants_write() {
            session.listed = true;
            self.unflushed.push(id);
        }
        if exchange.deadline < conn.queued {
            conn.queued = exchange.deadline;
            self.deadlines.push(Reverse((exchange.deadline, id.slot, id.generation)));
        }
    }

    /// The connection is there.
    pub(super) fn start_streaming(&mut self, slot: usize) -> Option<Completion> {
        let conn = &mut self.slots[slot];
        if conn.tls.as_ref().is_some_and(|tls| tls.alpn_protocol() != Some(b"h2")) {
            return self.fail_with(slot, no_http2());
        }
        conn.state = State::Streaming;
        (conn.unsent, conn.write_failed, conn.reset) = (false, false, false);
        if let Some(session) = &mut conn.h2 {
            session.establish();
        }
        self.flush(slot);
        self.look_at(slot);
        None
    }

    /// Has `next_completion` look at this connection next.
    pub(super) fn look_at(&mut self, slot: usize) {
        self.current = Some(Current { id: self.id(slot), at: 0, end: 0, reads: 0 });
    }

    /// Something can be read or written.
    pub(super) fn on_streaming(&mut self, slot: usize, readiness: Readiness) {
        if readiness.writable && self.slots[slot].unsent {
            self.flush(slot);
        }
        self.look_at(slot);
    }

    /// Writes what has gathered since the last time.
    pub(super) fn flush_all(&mut self) {
        let mut ids = std::mem::take(&mut self.unflushed);
        for id in ids.drain(..).filter(|id| self.is_open(*id)).collect::<Vec<_>>() {
            self.flush(id.slot as usize);
        }
        self.unflushed = ids;
    }

    /// Writes what there is to write, as far as the socket takes it.
    fn flush(&mut self, slot: usize) {
        let id = self.id(slot);
        let conn = &mut self.slots[slot];
        let (Some(session), Some(stream)) = (&mut conn.h2, &conn.stream) else { return };
        session.listed = false;
        let done = loop {
            let written = match &mut conn.tls {
                Some(tls) if tls.wants_write() => tls.write_tls(&mut Wire::new(stream)).map(|_| ()),
                Some(tls) if session.wants_write() => {
                    let bytes = &session.out[session.out_at..];
                    // The session's buffer has no limit; what goes wrong shows when it is flushed.
                    let _ = tls.writer().write_all(bytes);
                    session.out_at = session.out.len();
                    Ok(())
                }
                None if session.wants_write() => socket_write(stream, &session.out[session.out_at..]).map(|size| {
                    session.out_at += size;
                }),
                _ if session.out.is_empty() => break Ok(()),
                _ => {
                    session.written(self.clock.now());
                    Ok(())
                }
            };
            match written {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Err(false),
                Err(_) => break Err(true),
                Ok(()) => {}
            }
        };
        conn.unsent = done.is_err();
        if done == Err(true) && !conn.write_failed {
            // What the server has said before it closed is still to be read.
            conn.write_failed = true;
            self.again.push(id);
        }
    }

    /// Takes in what has come, up to the next exchange that has ended.
    pub(super) fn read_streams(&mut self, mut current: Current) -> Option<Completion> {
        let slot = current.id.slot as usize;
        self.current = None;
        if !self.is_open(current.id) {
            return None;
        }
        loop {
            let conn = &mut self.slots[slot];
            let session = conn.h2.as_mut()?;
            match session.next(&self.buffer[..current.end], &mut current.at, self.now, self.max_body) {
                Ok(Some(ended)) => {
                    let completion = self.ended(slot, ended);
                    self.current = Some(current);
                    return Some(completion);
                }
                Ok(None) if session.is_dead() || (session.is_retired() && session.in_flight() == 0) => {
                    self.flush(slot);
                    self.close_slot(slot);
                    return None;
                }
                Ok(None) if conn.state != State::Streaming => return None,
                Ok(None) => {}
                Err(kind) => {
                    session.say_why(kind);
                    if kind == Kind::NoHttp2 {
                        self.fault.get_or_insert_with(|| no_http2().why);
                    }
                    self.flush(slot);
                    self.fail_streams(slot, |_, _| kind);
                    continue;
                }
            }
            if current.reads == READS_PER_TURN {
                self.flush(slot);
                self.again.push(current.id);
                return None;
            }
            match self.slots[slot].fill(&mut self.buffer) {
                Fill::Data(size) => {
                    self.now = self.clock.now();
                    current = Current { at: 0, end: size, reads: current.reads + 1, ..current };
                    if let Some(session) = &mut self.slots[slot].h2 {
                        session.heard = self.now;
                    }
                }
                Fill::Drained if self.slots[slot].write_failed => self.lose_streams(slot),
                Fill::Drained => {
                    self.flush(slot);
                    return None;
                }
                Fill::Eof { .. } => self.lose_streams(slot),
                // In TLS 1.3 a server looks at the client's certificate after the client has finished its handshake.
                Fill::Refused(fault) if self.slots[slot].h2.as_ref().is_some_and(|session| session.heard == 0) => {
                    self.fault.get_or_insert(fault.why);
                    self.fail_streams(slot, |_, _| fault.kind);
                }
                Fill::Broken | Fill::Refused(_) => {
                    self.slots[slot].reset = true;
                    self.lose_streams(slot);
                }
            }
        }
    }

    /// The connection is gone: which kind that is for a stream depends on how far it had come.
    fn lose_streams(&mut self, slot: usize) {
        let conn = &self.slots[slot];
        let (reset, served, write_failed) = (conn.reset, conn.served > 0, conn.write_failed);
        self.fail_streams(slot, |answered, heard| match (answered, heard) {
            (true, _) if reset => Kind::ResetMidBody,
            (true, _) => Kind::ShortBody,
            (false, false) if served => Kind::StaleConnection,
            (false, false) if write_failed => Kind::WriteFailed,
            _ => Kind::ResetBeforeHeaders,
        });
    }

    /// Ends all streams of a connection and closes it. They are told one by one by `next_completion`.
    pub(super) fn fail_streams(&mut self, slot: usize, kind: impl Fn(bool, bool) -> Kind) {
        self.now = self.clock.now();
        let id = self.id(slot);
        let conn = &mut self.slots[slot];
        conn.stream = None;
        conn.tls = None;
        conn.state = State::Streaming;
        if let Some(session) = &mut conn.h2 {
            session.fail(kind);
        }
        self.ready.push((id, Readiness { readable: false, writable: false, closed: false }));
    }

    /// Ends streams whose deadline has come.
    pub(super) fn expire_streams(&mut self, slot: usize) {
        let id = self.id(slot);
        let conn = &mut self.slots[slot];
        let Some(session) = &mut conn.h2 else { return };
        conn.queued = session.expire(self.now);
        if conn.queued < Ns::MAX {
            self.deadlines.push(Reverse((conn.queued, id.slot, id.generation)));
        }
        self.ready.push((id, Readiness { readable: false, writable: false, closed: false }));
        if conn.state == State::Connecting && conn.stream.is_none() {
            self.begin_again(slot);
        }
    }

    /// Gives up one exchange of several.
    pub(super) fn abort_stream(&mut self, slot: usize, owner: u32) -> Option<Completion> {
        let ended = self.slots[slot].h2.as_mut()?.abort(owner)?;
        Some(self.ended(slot, Ended { slot: ended, error: Some(Kind::EngineFault), body: None }))
    }

    fn ended(&mut self, slot: usize, ended: Ended) -> Completion {
        let id = self.id(slot);
        let end = self.now;
        let conn = &mut self.slots[slot];
        let Some(session) = &mut conn.h2 else { unreachable!("only streams end so") };
        let stream = session.stream(ended.slot);
        std::mem::swap(&mut conn.head_bytes, &mut stream.head);
        std::mem::swap(&mut conn.body, &mut stream.body);
        std::mem::swap(&mut conn.out, &mut stream.request);
        let opening = stream.opener.then_some((conn.connected, conn.setup.as_ref().map(|_| conn.secured)));
        let completion = Completion {
            owner: stream.exchange.owner,
            conn: id,
            error: ended.error,
            end,
            phases: phases(stream.exchange.begin, opening, stream.sent, stream.first, end),
            status: stream.status,
            minor: 2,
            reused: !stream.opener,
            open: false,
            more: false,
            sets_cookie: stream.sets_cookie,
            encoded: stream.encoded,
            reset: conn.reset,
            surplus: false,
            bytes_out: stream.bytes_out,
            bytes_in: stream.bytes_in,
            body_length: stream.body_length,
            head: Some(Place::Connection).filter(|_| stream.status > 0),
            body: ended.body.map_or(Place::Connection, Place::ReadBuffer),
            location: stream.location.take(),
            server_timing: stream.server_timing.take(),
        };
        session.release(ended.slot);
        conn.served = conn.served.saturating_add(1);
        if self.pooled && !session.pooled && session.has_room() {
            session.pooled = true;
            self.idle.push(id);
        }
        completion
    }
}
