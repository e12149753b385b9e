//! One thread of the engine: users, when they are due, and what becomes of their requests.
//!
//! A worker owns all it needs and shares nothing while requests run. Its loop is: do what is due, wait for the network or
//! for the next moment at which something is due, deal with each answer at once.
//!
//! Open model: each arrival of the schedule is a new user that runs one iteration; its later steps are due when the
//! answer before has come and the think time has passed. Closed model: user u of the run belongs to worker u mod n, is
//! active while u is below the planned number of users, and is due whenever it is ready again. Connections come from one
//! pool, or each user keeps its own, as the plan says.
//!
//! With HTTP/2, users share connections: so many in the order of their numbers as it has streams, or whoever comes where
//! there is one pool.

pub mod talk;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use serde_json::json;

use crate::answer::{Answer, KEPT_BODY, redirect_path};
use crate::clock::{Clock, Ns, SECOND};
use crate::conn::{Completion, ConnId, Connections, Exchange, Payload, Phases};
use crate::decode;
use crate::exchange::{Exchanges, SHOWN_BODY, Seen};
use crate::feed::Turn;
use crate::jar::{Jar, Lost};
use crate::outcome::{Kind, Outcome, Reason};
use crate::plan::{Model, Program, Scenario, Step};
use crate::record::{Doing, Group, NO_PROTOCOL, Recorder, Row};
use crate::schedule::{Arrival, Arrivals, SplitMix64, Stage, Timeline};
use crate::sink::Sink;
use crate::table::Frame;
use crate::template::{Filling, Slot};

/// How long a closed user whose connection could not be made waits before it is ready again. Taste: without it, a
/// target that is down turns every user into a busy loop.
const RECONNECT_PAUSE: Ns = SECOND / 4;
/// Starts in a row before the network gets its turn.
const STARTS_PER_TURN: usize = 256;
/// Streams of random numbers, apart from the schedule's.
const STREAM_SCENARIO: u64 = 1;
const STREAM_USER: u64 = 2;
const STREAM_EVIDENCE: u64 = 3;

/// What an operator asks of a running engine. Moments are taken once, so that all workers act as of the same one.
#[derive(Clone, Debug)]
pub enum Control {
    /// Start nothing that is due after `at`; cut what is still in flight `grace` later.
    Stop {
        /// When it was asked.
        at: Ns,
        /// Time for requests in flight.
        grace: Ns,
    },
    /// Let the schedule stand still.
    Pause(Ns),
    /// Let it go on.
    Resume(Ns),
    /// Multiply the plan's rate or users by this from now on.
    Scale(Ns, f64),
    /// Go on with the next stage; with a number only where that is the stage that holds the moment.
    NextStage(Ns, Option<usize>),
    /// Add a stage behind the last.
    Append(Stage),
}

impl Control {
    /// When it was asked; None where that makes no difference.
    fn at(&self) -> Option<Ns> {
        match self {
            Self::Stop { at, .. }
            | Self::Pause(at)
            | Self::Resume(at)
            | Self::Scale(at, _)
            | Self::NextStage(at, _) => Some(*at),
            Self::Append(_) => None,
        }
    }
}

/// A worker's figures of the moment, for anybody to read.
#[derive(Debug, Default)]
pub struct Gauge {
    /// Requests without an answer yet.
    pub in_flight: AtomicU64,
    /// Users in an iteration (open), or active (closed).
    pub users: AtomicU64,
    /// Connections open or opening.
    pub connections: AtomicU64,
    /// Requests started so far.
    pub sent: AtomicU64,
    /// Requests ended so far, whatever became of them.
    pub ended: AtomicU64,
}

/// A virtual user.
#[derive(Default)]
struct User {
    number: i64,
    iteration: i64,
    step: usize,
    conn: Option<ConnId>,
    draws: SplitMix64,
    slots: Vec<Slot>,
    jar: Jar,
    busy: bool,
    /// When its pass became due.
    began: Ns,
    /// Attempts at the present step after the first.
    tries: u32,
    /// The scenarios whose `once` it has done, by number; shorter where none of the later ones is.
    done: Vec<bool>,
    group: Group,
    flight: Flight,
    /// The conversation it is in.
    talk: Option<Box<talk::Session>>,
    /// URL of the request in flight, where its step does not know it.
    url: Vec<u8>,
    /// Path of the hop in flight, after a redirect.
    hop_path: Vec<u8>,
}

/// The request of a user that is under way.
#[derive(Clone, Default)]
struct Flight {
    conn: Option<ConnId>,
    seq: i64,
    stage: u32,
    intended: Ns,
    start: Ns,
    deadline: Ns,
    hops: u32,
    phases: Phases,
    bytes_out: u64,
    bytes_in: u64,
    reused: u8,
    /// Where the user's random numbers stood before the request was filled.
    draws: SplitMix64,
    method_is_get: bool,
}

/// The next moment at which the planned number of users matters.
#[derive(Clone, Copy)]
struct Activation {
    at: Ns,
    /// Whether it lets in the next user; otherwise there is only reason to look again.
    lets_in: bool,
}

impl Activation {
    const NEVER: Self = Self { at: Ns::MAX, lets_in: false };
}

/// The connections that users share with HTTP/2, each for as many users as it has streams.
#[derive(Default)]
struct Shared(Vec<Option<ConnId>>);

impl Shared {
    /// A connection for the user that is this worker's nth: a new one, or with HTTP/2 the one it shares. What the plan
    /// keeps in a pool is not looked for here.
    fn join(&mut self, program: &Program, conns: &mut Connections, nth: u64) -> Result<ConnId, Kind> {
        if program.streams == 0 || program.pooled {
            return conns.acquire_new();
        }
        let place = nth as usize / program.streams;
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        match self.0[place].filter(|conn| conns.takes_more(*conn)) {
            Some(conn) => Ok(conn),
            None => conns.acquire_new().inspect(|conn| self.0[place] = Some(*conn)),
        }
    }
}

/// How a request ended.
struct End {
    at: Ns,
    outcome: Outcome,
    reason: Reason,
    status: u16,
    minor: u8,
}

/// One thread's share of a run.
pub struct Worker<'p> {
    program: &'p Program,
    clock: Clock,
    conns: Connections,
    recorder: Recorder,
    exchanges: Exchanges,
    sink: Arc<Sink>,
    gauge: Arc<Gauge>,
    controls: Receiver<Control>,
    index: u64,
    of: u64,
    limit: usize,
    users: Vec<User>,
    free: Vec<u32>,
    /// When users that think are ready again.
    wakes: BinaryHeap<Reverse<(Ns, u32)>>,
    /// Users that became ready while the schedule stood still.
    held: Vec<u32>,
    timeline: Timeline,
    arrivals: Arrivals,
    arrival: Option<(Ns, Arrival)>,
    factor: f64,
    /// Rows that were taken of each feed.
    taken: Vec<u64>,
    /// The feed that had no row left.
    used_up: Option<&'p str>,
    /// Closed users above the planned number, with their slots.
    parked: BinaryHeap<Reverse<(u64, u32)>>,
    next_new_user: u64,
    shared: Shared,
    /// Up to where the planned number of users has been followed, and when it lets in the next one.
    cursor: Ns,
    activation: Activation,
    active: usize,
    in_flight: usize,
    started: u64,
    sent: u64,
    ended: u64,
    stop: Option<(Ns, Ns)>,
    next_due: Ns,
    next_flush: Ns,
    /// The stage whose beginning was reported last, if this worker reports them.
    reported: Option<Option<usize>>,
    /// The stage found last: from, to, index.
    stage: (Ns, Ns, u32),
    scratch: Vec<u8>,
}

/// What a worker is made from.
pub struct Parts<'p> {
    /// What to do.
    pub program: &'p Program,
    /// The run's clock.
    pub clock: Clock,
    /// No connection yet.
    pub conns: Connections,
    /// Where to write it down.
    pub recorder: Recorder,
    /// Where frames go.
    pub sink: Arc<Sink>,
    /// Where to show figures.
    pub gauge: Arc<Gauge>,
    /// Where the operator is heard.
    pub controls: Receiver<Control>,
    /// Which worker this is, over all processes.
    pub index: u64,
    /// How many there are, over all processes.
    pub of: u64,
    /// Requests in flight that this worker may have.
    pub limit: usize,
}

impl<'p> Worker<'p> {
    /// A worker that has not begun.
    pub fn new(parts: Parts<'p>) -> Self {
        let Parts { program, clock, conns, recorder, sink, gauge, controls, index, of, limit } = parts;
        let mut worker = Self {
            program,
            clock,
            conns,
            recorder,
            exchanges: Exchanges::new(
                program.endpoints.len(),
                SplitMix64::stream(program.seed, STREAM_EVIDENCE, index),
                program.secrets.clone(),
            ),
            sink,
            gauge,
            controls,
            index,
            of,
            limit,
            users: Vec::new(),
            free: Vec::new(),
            wakes: BinaryHeap::new(),
            held: Vec::new(),
            timeline: Timeline::beginning_at(program.begin, &program.stages),
            arrivals: Arrivals::new(program.uniform, program.seed, index, of),
            arrival: None,
            factor: 1.0,
            taken: vec![0; program.feeds.len()],
            used_up: None,
            parked: BinaryHeap::new(),
            next_new_user: index,
            shared: Shared::default(),
            cursor: 0,
            activation: Activation::NEVER,
            active: 0,
            in_flight: 0,
            started: 0,
            sent: 0,
            ended: 0,
            stop: None,
            next_due: 0,
            next_flush: SECOND,
            reported: (index == 0).then_some(None),
            stage: (0, 0, 0),
            scratch: Vec::new(),
        };
        worker.plan_ahead();
        worker
    }

    /// Runs until the last request has ended.
    pub fn run(mut self) -> std::io::Result<()> {
        loop {
            while let Ok(control) = self.controls.try_recv() {
                self.obey(control);
            }
            let now = self.clock.now();
            self.report_stages(now);
            self.start_due(now);
            if now >= self.next_flush {
                self.flush(now);
            }
            if self.is_done(now) {
                break;
            }
            self.show();
            self.conns.wait(self.next_moment())?;
            while let Some(completion) = self.conns.next_completion() {
                self.complete(completion);
                if self.conns.now() >= self.next_due {
                    self.start_due(self.conns.now());
                }
            }
        }
        self.abort_all();
        self.finish();
        Ok(())
    }

    // --- Time ---------------------------------------------------------------------------------------------------

    /// No request is due from here on.
    fn end(&self) -> Ns {
        self.timeline.end().min(self.stop.map_or(Ns::MAX, |(at, _)| at))
    }

    /// What is in flight then is cut.
    fn grace_end(&self) -> Ns {
        let planned = self.timeline.end().saturating_add(self.program.grace);
        match self.stop {
            None => planned,
            Some((at, grace)) if at <= self.timeline.end() => at.saturating_add(grace),
            // Stopped after the last stage: a grace that already runs can only become shorter.
            Some((at, grace)) => at.saturating_add(grace).min(planned),
        }
    }

    fn is_done(&self, now: Ns) -> bool {
        let all_started = now >= self.end() && self.arrival.is_none_or(|(at, _)| at > self.end());
        all_started && (self.in_flight == 0 || now >= self.grace_end())
    }

    fn next_moment(&self) -> Ns {
        let mut next = self.next_due.min(self.next_flush).min(self.conns.next_deadline());
        if self.conns.now() < self.end() {
            next = next.min(self.end());
        } else {
            next = next.min(self.grace_end());
        }
        if let Some(stage) = self.reported {
            next = next.min(self.timeline.begin(stage.map_or(0, |stage| stage + 1)).max(self.conns.now()));
        }
        next
    }

    /// The stage in which a moment lies.
    fn stage_of(&mut self, at: Ns) -> Option<u32> {
        if self.stage.0 <= at && at < self.stage.1 {
            return Some(self.stage.2);
        }
        let stage = self.timeline.stage_at(at)?;
        if !self.timeline.is_paused() {
            self.stage = (self.timeline.begin(stage), self.timeline.begin(stage + 1), stage as u32);
        }
        Some(stage as u32)
    }

    fn obey(&mut self, control: Control) {
        if let Some(at) = control.at() {
            // What began until then is told by the schedule as it was: what follows moves it.
            self.report_stages(at);
        }
        match control {
            Control::Stop { at, grace } => {
                self.start_due(at);
                let (before, before_grace) = self.stop.unwrap_or((at, grace));
                // A second stop can only shorten the first.
                self.stop = Some((before, before_grace.min((at - before).max(0).saturating_add(grace))));
            }
            Control::Pause(at) => {
                self.start_due(at);
                self.timeline.pause(at);
            }
            Control::Resume(at) => {
                self.timeline.resume(at);
                self.wakes.extend(self.held.drain(..).map(|slot| Reverse((at, slot))));
                self.cursor = self.cursor.max(at);
            }
            Control::Scale(at, factor) => {
                self.start_due(at);
                self.arrivals.scale(&self.timeline, at, factor);
                self.factor = factor;
                self.cursor = self.cursor.max(at);
            }
            Control::NextStage(at, only) => {
                self.start_due(at);
                if only.is_some() && only != self.timeline.stage_at(at) {
                    return;
                }
                self.arrivals.skip_stage(&mut self.timeline, at);
                self.cursor = self.cursor.max(at);
            }
            Control::Append(stage) => self.timeline.append(stage),
        }
        self.stage = (0, 0, 0);
        self.plan_ahead();
    }

    /// Finds what is due next, after anything that moves the schedule.
    fn plan_ahead(&mut self) {
        match self.program.model {
            Model::Open => self.find_arrival(),
            Model::Closed => self.find_activation(),
        }
        self.find_next_due();
    }

    fn find_next_due(&mut self) {
        let arrival = self.arrival.map_or(Ns::MAX, |(at, _)| at);
        let wake = self.wakes.peek().map_or(Ns::MAX, |Reverse((at, _))| *at);
        self.next_due = arrival.min(wake).min(self.activation.at);
    }

    fn find_arrival(&mut self) {
        let next = self.arrivals.peek(&self.timeline);
        self.arrival = next.map(|arrival| (self.timeline.actual(arrival.at), arrival));
        if self.stop.is_some_and(|(stop, _)| self.arrival.is_some_and(|(at, _)| at > stop)) {
            self.arrival = None;
        }
    }

    /// When the planned number of users next lets somebody in, or the next stage begins.
    fn find_activation(&mut self) {
        let candidate = self.next_user();
        let lets_in = |at| Activation { at, lets_in: true };
        let looks_again = |at| Activation { at, lets_in: false };
        self.activation = match self.timeline.stage_at(self.cursor) {
            _ if self.timeline.is_paused() || self.stop.is_some() => Activation::NEVER,
            None if self.cursor < self.timeline.begin(0) => looks_again(self.timeline.begin(0)),
            None => Activation::NEVER,
            Some(_) if (candidate as f64) < self.timeline.level(self.cursor) * self.factor => lets_in(self.cursor),
            Some(stage) => match self.timeline.crossing(self.cursor, candidate, self.factor) {
                Some(at) => lets_in(at),
                None => looks_again(self.timeline.begin(stage + 1)),
            },
        };
    }

    fn next_user(&self) -> u64 {
        self.parked.peek().map_or(u64::MAX, |Reverse((user, _))| *user).min(self.next_new_user)
    }

    /// Starts everything that is due.
    fn start_due(&mut self, now: Ns) {
        let mut left = STARTS_PER_TURN;
        while let Some((at, arrival)) = self.arrival.filter(|(at, _)| *at <= now && left > 0) {
            self.arrivals.take();
            self.find_arrival();
            self.arrive(at, arrival);
            left -= 1;
        }
        while let Some(&Reverse((at, slot))) = self.wakes.peek().filter(|Reverse((at, _))| *at <= now && left > 0) {
            self.wakes.pop();
            self.ready(slot, at);
            left -= 1;
        }
        while self.activation.at <= now && left > 0 {
            self.follow_users(self.activation);
            left -= 1;
        }
        self.find_next_due();
    }

    /// Follows the planned number of users up to an activation.
    ///
    /// Whoever is let in also starts: looking at the number again could find it, by rounding, not yet above the user's.
    fn follow_users(&mut self, activation: Activation) {
        let at = activation.at;
        self.cursor = at;
        if let Some(stage) = self.stage_of(at).filter(|_| activation.lets_in) {
            let candidate = self.next_user();
            let slot = match self.parked.peek() {
                Some(&Reverse((user, slot))) if user == candidate => {
                    self.parked.pop();
                    slot
                }
                _ => {
                    self.next_new_user += self.of;
                    let draws = SplitMix64::stream(self.program.seed, STREAM_USER, candidate);
                    let slot = self.new_user(candidate as i64, draws);
                    if !self.begin_iteration(slot) {
                        self.active += 1;
                        return self.run_out(slot, at - 1);
                    }
                    self.users[slot as usize].began = at;
                    slot
                }
            };
            self.active += 1;
            self.start(slot, at, stage);
        }
        self.find_activation();
    }

    // --- Users --------------------------------------------------------------------------------------------------

    fn new_user(&mut self, number: i64, draws: SplitMix64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.users.push(User { slots: vec![Slot::default(); self.program.slots], ..User::default() });
            self.users.len() as u32 - 1
        });
        let user = &mut self.users[slot as usize];
        user.number = number;
        user.draws = draws;
        user.conn = None;
        user.jar.clear();
        user.done.clear();
        user.tries = 0;
        // The iterations of a closed user count from 0; begin_iteration adds one.
        user.iteration = -1;
        slot
    }

    /// Lets the user begin with a scenario; false where there is no test data left for it.
    fn begin_iteration(&mut self, slot: u32) -> bool {
        let user = &mut self.users[slot as usize];
        user.iteration += 1;
        let program = self.program;
        let number = program.pick_scenario(&mut user.draws);
        let scenario = &program.scenarios[number];
        user.slots[scenario.fresh.clone()].iter_mut().for_each(|variable| variable.set = false);
        user.step = scenario.steps.start;
        if !scenario.once.is_empty() && user.done.get(number) != Some(&true) {
            user.slots[scenario.kept.clone()].iter_mut().for_each(|variable| variable.set = false);
            user.step = scenario.once.start;
        }
        scenario.feeds.is_empty() || self.take_rows(slot, scenario)
    }

    /// Puts the user's rows of test data into its variables; false where there is none left.
    fn take_rows(&mut self, slot: u32, scenario: &Scenario) -> bool {
        let user = &mut self.users[slot as usize];
        let number = (self.program.model == Model::Closed).then_some(user.number as u64);
        for (feed, columns) in &scenario.feeds {
            let taken = &mut self.taken[*feed];
            let feed = &self.program.feeds[*feed];
            let turn = Turn { share: (self.index, self.of), taken, user: number, draws: &mut user.draws };
            let Some(row) = feed.take(turn) else {
                self.used_up = Some(&feed.name);
                return false;
            };
            for (column, slot) in columns {
                let variable = &mut user.slots[*slot];
                variable.text.clear();
                variable.text.extend_from_slice(feed.cell(row, *column));
                variable.set = true;
            }
        }
        true
    }

    /// There is no row left for a user that was to begin just after `at`: the run ends there.
    #[cold]
    fn run_out(&mut self, slot: u32, at: Ns) {
        self.leave(slot);
        if let Some(name) = self.used_up {
            if self.stop.is_none() && !self.program.used_up.swap(true, Ordering::Relaxed) {
                self.note(at, &format!("all rows of {name} are used"));
            }
        }
        self.stop.get_or_insert((at.max(0), self.program.grace));
        self.stage = (0, 0, 0);
        self.plan_ahead();
    }

    fn arrive(&mut self, due: Ns, arrival: Arrival) {
        let number = arrival.number;
        let draws = SplitMix64::stream(self.program.seed, STREAM_SCENARIO, number);
        let slot = self.new_user(number as i64, draws);
        self.users[slot as usize].iteration = number as i64 - 1;
        self.active += 1;
        if !self.begin_iteration(slot) {
            return self.run_out(slot, due - 1);
        }
        self.start(slot, due, arrival.stage as u32);
    }

    /// The user is ready for its next step since `due`.
    fn ready(&mut self, slot: u32, due: Ns) {
        if self.timeline.is_paused() {
            self.held.push(slot);
            return;
        }
        let stage = if due < self.end() { self.stage_of(due) } else { None };
        let Some(stage) = stage else { return self.leave(slot) };
        if self.program.model == Model::Closed {
            let number = self.users[slot as usize].number as u64;
            if number as f64 >= self.timeline.level(due) * self.factor {
                self.active -= 1;
                self.drop_transaction(slot, Outcome::Aborted, due);
                self.parked.push(Reverse((number, slot)));
                self.cursor = self.cursor.max(due);
                self.find_activation();
                return;
            }
        }
        self.start(slot, due, stage);
    }

    /// The user does nothing more: in the open model it goes, in the closed one it stays without being active.
    fn leave(&mut self, slot: u32) {
        self.active -= 1;
        self.drop_transaction(slot, Outcome::Aborted, 0);
        if self.program.model == Model::Open {
            if let Some(conn) = self.users[slot as usize].conn.take() {
                self.conns.close(conn);
            }
            self.free.push(slot);
        }
    }

    // --- Requests -----------------------------------------------------------------------------------------------

    /// Sends the user's present step, which was due at `due`.
    #[inline]
    fn start(&mut self, slot: u32, due: Ns, stage: u32) {
        let program = self.program;
        let begin = self.clock.now();
        let seq = (self.started * self.of + self.index) as i64;
        if self.users[slot as usize].jar.is_choosy(begin) {
            self.pick_cookies(slot, seq, begin);
        }
        let user = &mut self.users[slot as usize];
        let step = &program.steps[user.step];
        user.flight.draws = user.draws.clone();
        let constant = step.request.constant().filter(|_| user.jar.header().is_empty());
        let mut upload = None;
        if constant.is_none() {
            let mut filling = Filling {
                slots: &user.slots,
                draws: &mut user.draws,
                seq,
                user: user.number,
                iteration: user.iteration,
            };
            let filled = step.request.fill(&mut filling, user.jar.header(), &mut self.scratch).and_then(|path| {
                upload = step.request.begin_upload(&mut filling, &mut self.scratch)?;
                Ok(path)
            });
            match filled {
                Ok(path) if step.url.is_none() => {
                    user.url.clear();
                    user.url.extend_from_slice(program.origin.as_bytes());
                    user.url.extend_from_slice(&self.scratch[path]);
                }
                Ok(_) => {}
                Err(_) => {
                    self.drop_transaction(slot, Outcome::Failure, due);
                    return self.next_iteration(slot, due, false);
                }
            }
        }
        self.started += 1;
        let flight = &mut user.flight;
        flight.conn = None;
        (flight.seq, flight.stage, flight.intended, flight.start) = (seq, stage, due, begin);
        (flight.hops, flight.bytes_out, flight.bytes_in, flight.reused) = (0, 0, 0, 2);
        flight.phases = Phases { connect: -1, tls: -1, send: -1, wait: -1, receive: -1 };
        flight.deadline = begin + step.timeout;
        let kept = match program.pooled {
            _ if self.in_flight >= self.limit => Err(Kind::InFlightLimit),
            true => Ok(self.conns.acquire_idle()),
            false => Ok(user.conn.take().filter(|conn| self.conns.is_open(*conn))),
        };
        let nth = user.number as u64 / self.of;
        let conn = kept.and_then(|kept| kept.map_or_else(|| self.shared.join(program, &mut self.conns, nth), Ok));
        let refused = conn.as_ref().err().map(|kind| kind.outcome());
        let sent = refused != Some(Outcome::NotSent);
        self.recorder.due(due, stage, step.endpoint, sent);
        if sent {
            self.sent += 1;
            self.recorder.lag(begin - due);
        }
        let conn = match conn {
            Ok(conn) => conn,
            Err(kind) => return self.refuse(slot, kind),
        };
        flight.conn = Some(conn);
        user.busy = true;
        self.in_flight += 1;
        let keep = if step.needs_body { KEPT_BODY } else { SHOWN_BODY };
        let bodyless = step.request.method == "HEAD";
        let exchange = Exchange { owner: slot, begin, deadline: flight.deadline, keep, bodyless, piecewise: false };
        match constant {
            Some(bytes) => self.conns.send(conn, Payload::Shared(bytes), exchange),
            None => {
                let mut exchange = exchange;
                if let Some(talk) = &step.talk {
                    (exchange.piecewise, exchange.keep) = (true, usize::MAX);
                    self.begin_talk(slot, talk);
                }
                std::mem::swap(self.conns.buffer(conn), &mut self.scratch);
                self.conns.send(conn, upload.map_or(Payload::Own, Payload::Upload), exchange);
            }
        }
    }

    /// Has the user's jar make its header for the path that its present step asks for.
    #[cold]
    fn pick_cookies(&mut self, slot: u32, seq: i64, now: Ns) {
        let user = &mut self.users[slot as usize];
        let step = &self.program.steps[user.step];
        if let Some(path) = step.request.constant_path() {
            return user.jar.pick(path, now);
        }
        let mut draws = user.draws.clone();
        let mut filling =
            Filling { slots: &user.slots, draws: &mut draws, seq, user: user.number, iteration: user.iteration };
        // What is missing will be missing again, and is dealt with there.
        let path = step.request.fill(&mut filling, b"", &mut self.scratch).unwrap_or_default();
        user.jar.pick(&self.scratch[path], now);
    }

    /// Has the user's jar take up what an answer sets, and says once in a run what is not sent back.
    fn keep_cookies(&mut self, completion: &Completion) {
        let user = &mut self.users[completion.owner as usize];
        let step = &self.program.steps[user.step];
        let prefix = self.program.origin.len();
        let path = path_in_flight(user.flight.hops, &user.hop_path, &user.url, step, prefix);
        let lost = user.jar.update(self.conns.head(completion), path, &self.program.site, completion.end);
        if lost.any() {
            self.tell_lost(lost, completion.end, step);
        }
    }

    #[cold]
    fn tell_lost(&mut self, lost: Lost, at: Ns, step: &Step) {
        let endpoint = &self.program.endpoints[step.endpoint];
        for (place, (is, what)) in [
            (lost.full, "sets more cookies for a user than 50 or 16 KiB, or one above 4 KiB: the oldest went"),
            (lost.secure, "sets Secure cookies, which are not sent back to an http target"),
            (lost.foreign, "sets cookies of another domain, which are not kept"),
        ]
        .into_iter()
        .enumerate()
        {
            let bit = 1 << place;
            if is && self.program.told_lost.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                self.note(at, &format!("the answer to {endpoint} {what}"));
            }
        }
    }

    /// The request could not even be begun.
    #[cold]
    fn refuse(&mut self, slot: u32, kind: Kind) {
        let outcome = kind.outcome();
        let user = &mut self.users[slot as usize];
        let mut at = -1;
        if outcome == Outcome::NotSent {
            user.flight.start = -1;
        } else {
            at = self.clock.now();
            user.flight.phases.connect = at - user.flight.start;
        }
        user.flight.reused = if outcome == Outcome::NotSent { 2 } else { 0 };
        let due = user.flight.intended;
        let end = End { at, outcome, reason: Reason::kind(kind), status: 0, minor: NO_PROTOCOL };
        self.record(slot, &end, None);
        let ready = if at >= 0 { at } else { due.max(self.conns.now()) };
        if kind == Kind::InFlightLimit && self.program.model == Model::Open {
            let step = &self.program.steps[self.users[slot as usize].step];
            self.transact(slot, step, outcome, ready, true, ready);
            return self.leave(slot);
        }
        self.proceed(slot, ready, (outcome, 0), true, true);
    }

    /// An exchange has ended.
    #[inline]
    fn complete(&mut self, completion: Completion) {
        let slot = completion.owner;
        let user = &mut self.users[slot as usize];
        let step = &self.program.steps[user.step];
        if user.talk.is_some() && (completion.more || completion.error.is_some() || !is_redirect(completion.status)) {
            return self.talk(completion);
        }
        user.add(&completion);
        if completion.sets_cookie {
            self.keep_cookies(&completion);
        }
        if self.program.max_redirects > 0 && is_redirect(completion.status) && completion.error.is_none() {
            if let Some(outcome) = self.follow(&completion, step) {
                if let Err(kind) = outcome {
                    self.judged(&completion, step, Reason::kind(kind), Outcome::Failure, true);
                }
                return;
            }
        }
        let (reason, outcome, missing) = match completion.error {
            None => self.judge(&completion, step),
            Some(kind) => {
                if is_unreachable(kind) {
                    self.tell_why(completion.end);
                }
                let hops = self.users[slot as usize].flight.hops;
                let timeout_in_chain = hops > 0 && kind.outcome() == Outcome::Timeout;
                let kind = if timeout_in_chain { Kind::TotalTimeout } else { kind };
                // Once something was sent, being refused a further connection is an error of the exchange.
                let outcome = if kind.outcome() == Outcome::NotSent { Outcome::Error } else { kind.outcome() };
                (Reason::kind(kind), outcome, !step.extract.is_empty())
            }
        };
        self.judged(&completion, step, reason, outcome, missing);
    }

    /// Whether the answer is right, and whether something that later steps need is missing in it.
    #[inline]
    fn judge(&mut self, completion: &Completion, step: &Step) -> (Reason, Outcome, bool) {
        let user = &mut self.users[completion.owner as usize];
        let service = completion.end - user.flight.start;
        let (head, body) = (self.conns.head(completion), self.conns.body(completion));
        let mut answer = Answer::new(completion.status, head, body, service).with_length(completion.body_length);
        let decoded;
        if completion.encoded && step.needs_body && answer.cut {
            // Half of a packed body stands for nothing that could be looked at.
            answer.body = b"";
        } else if completion.encoded && step.needs_body {
            match decode::undo(head, body, KEPT_BODY) {
                Ok(body) => {
                    decoded = body;
                    answer.body = &decoded;
                }
                Err(_) => (answer.body, answer.unreadable) = (b"", true),
            }
        }
        let mut reason = step.check.judge(&answer, &mut user.filling(), &mut self.scratch);
        let (mut missing, mut unseen) = (false, false);
        for extract in &step.extract {
            let found = extract.apply(&answer, &mut user.slots);
            missing |= !found;
            unseen |= !found && answer.cut && extract.needs_body();
        }
        if missing && reason == Reason::NONE {
            let kind = match (answer.unreadable, unseen) {
                (true, _) => Kind::BadEncoding,
                (_, true) => Kind::BodyNotKept,
                _ => Kind::ExtractMissing,
            };
            reason = Reason::kind(kind);
        }
        let outcome = match reason {
            Reason::NONE => Outcome::Ok,
            reason if reason == Reason::kind(Kind::BodyNotKept) => Kind::BodyNotKept.outcome(),
            _ => Outcome::Failure,
        };
        (reason, outcome, missing)
    }

    /// Writes the request down and goes on with what the user does next.
    #[inline]
    fn judged(&mut self, completion: &Completion, step: &Step, reason: Reason, outcome: Outcome, missing: bool) {
        let slot = completion.owner;
        let user = &mut self.users[slot as usize];
        user.busy = false;
        user.flight.conn = None;
        self.in_flight -= 1;
        let response = completion.end - user.flight.intended;
        if let Some(why) = self.exchanges.judge(step.endpoint, response, reason) {
            self.keep_evidence(why, completion, step, reason, response);
        }
        let minor = if completion.status == 0 { NO_PROTOCOL } else { completion.minor };
        let end = End { at: completion.end, outcome, reason, status: completion.status, minor };
        self.record(slot, &end, Some(completion));
        self.conns.forget_body(completion);
        if completion.open {
            match self.program.pooled {
                true => self.conns.release(completion.conn),
                false => self.users[slot as usize].conn = Some(completion.conn),
            }
        } else if completion.surplus {
            self.tell_surplus(1, Some(step));
        }
        let unreachable = completion.error.is_some_and(is_unreachable);
        self.proceed(slot, completion.end, (outcome, completion.status), missing, unreachable);
    }

    /// Says once in a run why connections do not come about, where there is more to say than the kind.
    #[cold]
    fn tell_why(&mut self, at: Ns) {
        if let Some(reason) = self.conns.take_fault() {
            if !self.program.told.swap(true, Ordering::Relaxed) {
                self.note(at, &reason);
            }
        }
    }

    /// Counts connections that brought bytes nobody had asked for, and says once in a run that there are such.
    #[cold]
    fn tell_surplus(&mut self, count: u64, step: Option<&Step>) {
        self.recorder.surplus(count);
        if !self.program.told_surplus.swap(true, Ordering::Relaxed) {
            let place = match step {
                Some(step) => format!("behind its answer to {}", self.program.endpoints[step.endpoint]),
                None => "on an idle connection".to_owned(),
            };
            let reason = format!(
                "the server sent bytes {place} that belong to no answer; the answers stand as they came, such connections \
                 are not used again"
            );
            self.note(self.conns.now(), &reason);
        }
    }

    fn note(&self, at: Ns, reason: &str) {
        let event = json!({"at_ns": at, "kind": "note", "reason": reason});
        self.sink.put(vec![(Frame::Event, event.to_string().into_bytes())]);
    }

    fn record(&mut self, slot: u32, end: &End, completion: Option<&Completion>) {
        let user = &self.users[slot as usize];
        let flight = &user.flight;
        let row = Row {
            seq: flight.seq,
            user: user.number,
            iteration: user.iteration,
            intended: flight.intended,
            start: flight.start,
            end: end.at,
            phases: flight.phases,
            bytes_out: flight.bytes_out as i64,
            bytes_in: flight.bytes_in as i64,
            stage: flight.stage,
            step: user.step as u32,
            reason: end.reason,
            status: end.status,
            outcome: end.outcome,
            reused: flight.reused,
            minor: end.minor,
        };
        let url = if self.program.steps[user.step].url.is_some() { &[][..] } else { &user.url };
        let timing = completion.and_then(|completion| self.conns.server_timing(completion));
        self.recorder.row(row, url, timing);
        self.ended += 1;
    }

    /// What the user does after a step that ended at `end`.
    #[inline]
    fn proceed(&mut self, slot: u32, end: Ns, ended: (Outcome, u16), missing: bool, unreachable: bool) {
        let user = &mut self.users[slot as usize];
        let step = &self.program.steps[user.step];
        if let Some(retry) = &step.retry {
            if let Some(pause) = retry.pause(user.tries, ended.0, ended.1, &mut user.draws) {
                user.tries += 1;
                self.add_to_transaction(slot, step, end);
                return self.ready_at(slot, end + pause, !unreachable);
            }
            user.tries = 0;
        }
        let mut due = end + step.think.draw(&mut user.draws);
        if unreachable && self.program.model == Model::Closed {
            due = due.max(end + RECONNECT_PAUSE);
        }
        let scenario = &self.program.scenarios[step.scenario];
        user.step += 1;
        // A step that failed to extract ends the iteration; one that had nothing to extract does not.
        let over = missing && !step.extract.is_empty()
            || user.step == scenario.steps.end
            || step.once && ended.0 != Outcome::Ok;
        if step.once && !over && user.step == scenario.steps.start {
            user.done.resize(user.done.len().max(step.scenario + 1), false);
            user.done[step.scenario] = true;
        }
        if step.transaction.is_some() {
            self.transact(slot, step, ended.0, end, over, due);
        }
        if over {
            let paced = self.users[slot as usize].began + scenario.pacing.draw(&mut self.users[slot as usize].draws);
            return self.next_iteration(slot, due.max(paced), !unreachable);
        }
        self.ready_at(slot, due, !unreachable);
    }

    fn next_iteration(&mut self, slot: u32, due: Ns, at_once: bool) {
        if self.program.model == Model::Open {
            return self.leave(slot);
        }
        if !self.begin_iteration(slot) {
            return self.run_out(slot, self.conns.now());
        }
        self.users[slot as usize].began = due;
        self.ready_at(slot, due, at_once);
    }

    /// The user is ready at `due`. Where that is now, it goes on at once if it may, or else with the next turn.
    #[inline]
    fn ready_at(&mut self, slot: u32, due: Ns, at_once: bool) {
        if at_once && due <= self.conns.now() {
            return self.ready(slot, due);
        }
        self.wakes.push(Reverse((due, slot)));
        self.next_due = self.next_due.min(due);
    }

    // --- Transactions -------------------------------------------------------------------------------------------

    /// An attempt at a step has ended: its part of the transaction, which begins with it where it is the first.
    fn add_to_transaction(&mut self, slot: u32, step: &Step, end: Ns) {
        let Some(member) = step.transaction else { return };
        let user = &mut self.users[slot as usize];
        let flight = &user.flight;
        if !user.group.open && member.first {
            let (due, stage) = (flight.intended, flight.stage);
            user.group = Group { open: true, number: member.number, due, stage, ..Group::default() };
        }
        user.group.bytes_out += flight.bytes_out as i64;
        user.group.bytes_in += flight.bytes_in as i64;
        if flight.start >= 0 {
            user.group.service += end - flight.start;
        }
    }

    /// A step of a transaction has ended, its last attempt; the next is due at `due`, or its pass is `over`.
    fn transact(&mut self, slot: u32, step: &Step, outcome: Outcome, end: Ns, over: bool, due: Ns) {
        let Some(member) = step.transaction else { return };
        self.add_to_transaction(slot, step, end);
        let group = &mut self.users[slot as usize].group;
        if outcome != Outcome::Ok {
            group.bad.get_or_insert(outcome);
        }
        if member.last || over {
            let outcome = group.bad.unwrap_or(Outcome::Ok);
            return self.drop_transaction(slot, outcome, end);
        }
        group.thought += due - end;
    }

    /// Ends the user's transaction, where it has begun one.
    fn drop_transaction(&mut self, slot: u32, outcome: Outcome, end: Ns) {
        let group = &mut self.users[slot as usize].group;
        if group.open {
            group.open = false;
            self.recorder.transaction(group, outcome, end - group.due - group.thought);
        }
    }

    // --- Redirects ----------------------------------------------------------------------------------------------

    /// Follows a redirect. None where the answer is to be judged as it is; an error where it must not be followed.
    #[cold]
    fn follow(&mut self, completion: &Completion, step: &Step) -> Option<Result<(), Kind>> {
        let (slot, program) = (completion.owner, self.program);
        let user = &mut self.users[slot as usize];
        let location = self.conns.location(completion)?;
        if user.flight.hops >= self.program.max_redirects {
            return Some(Err(Kind::RedirectLoop));
        }
        let prefix = self.program.origin.len();
        let current = path_in_flight(user.flight.hops, &user.hop_path, &user.url, step, prefix);
        let path = match redirect_path(location, current, &self.program.target) {
            Ok(path) => path,
            Err(kind) => return Some(Err(kind)),
        };
        self.conns.forget_body(completion);
        let method = step.request.method.as_str();
        if user.flight.hops == 0 {
            user.flight.method_is_get = false;
        }
        // RFC 9110 section 15.4: 303 asks for a GET, 301 and 302 turn a POST into one by custom.
        let to_get = match completion.status {
            303 => method != "HEAD",
            301 | 302 => method == "POST",
            _ => false,
        };
        user.flight.method_is_get |= to_get;
        let dropped = user.flight.method_is_get;
        let method = if dropped { "GET" } else { method };
        let mut draws = user.flight.draws.clone();
        let mut filling = Filling {
            slots: &user.slots,
            draws: &mut draws,
            seq: user.flight.seq,
            user: user.number,
            iteration: user.iteration,
        };
        if user.jar.is_choosy(completion.end) {
            user.jar.pick(&path, completion.end);
        }
        let jar = user.jar.header();
        let filled = step.request.fill_redirect(method, &path, !dropped, &mut filling, jar, &mut self.scratch);
        let filled = filled.and_then(|()| match dropped {
            true => Ok(None),
            false => step.request.begin_upload(&mut filling, &mut self.scratch),
        });
        let Ok(upload) = filled else { return Some(Err(Kind::EngineFault)) };
        user.hop_path = path;
        let nth = user.number as u64 / self.of;
        let kept = match completion.open {
            true => Some(completion.conn),
            false if program.streams > 0 && program.pooled => self.conns.acquire_idle(),
            false => None,
        };
        let conn = kept.map_or_else(|| self.shared.join(program, &mut self.conns, nth), Ok);
        let conn = match conn {
            Ok(conn) => conn,
            Err(kind) => {
                let mut failed = completion.clone();
                (failed.error, failed.open) = (Some(kind), false);
                let outcome = if kind.outcome() == Outcome::NotSent { Outcome::Error } else { kind.outcome() };
                self.judged(&failed, step, Reason::kind(kind), outcome, true);
                return Some(Ok(()));
            }
        };
        user.flight.hops += 1;
        user.flight.conn = Some(conn);
        self.recorder.hop(user.flight.intended, user.flight.stage, step.endpoint);
        let exchange = Exchange {
            owner: slot,
            begin: self.clock.now(),
            deadline: user.flight.deadline,
            keep: match step.talk {
                Some(_) => usize::MAX,
                None if step.needs_body => KEPT_BODY,
                None => SHOWN_BODY,
            },
            bodyless: method == "HEAD",
            piecewise: step.talk.is_some(),
        };
        self.redirect_talk(slot);
        std::mem::swap(self.conns.buffer(conn), &mut self.scratch);
        self.conns.send(conn, upload.map_or(Payload::Own, Payload::Upload), exchange);
        Some(Ok(()))
    }

    // --- Reports ------------------------------------------------------------------------------------------------

    #[cold]
    fn keep_evidence(
        &mut self,
        why: crate::exchange::Why,
        completion: &Completion,
        step: &Step,
        reason: Reason,
        response: Ns,
    ) {
        let user = &self.users[completion.owner as usize];
        let sent = self.conns.sent_bytes(completion.conn);
        let mut request = if sent.is_empty() { step.request.constant().unwrap_or_default() } else { sent };
        if let Some(session) = &user.talk {
            request = session.request();
        }
        let url = step.url.clone().unwrap_or_else(|| String::from_utf8_lossy(&user.url).into_owned());
        let seen = Seen {
            endpoint: &self.program.endpoints[step.endpoint],
            at: user.flight.start,
            response,
            request,
            url: &url,
            status: completion.status,
            head: self.conns.head(completion),
            body: self.conns.body(completion),
            body_length: completion.body_length,
            error: &reason.text(&self.program.check_names),
        };
        self.exchanges.keep(step.endpoint, why, &seen);
    }

    fn doing(&self, now: Ns) -> Doing {
        let rate = self.timeline.level(now) * self.factor * self.program.mean_steps() / self.of as f64;
        Doing {
            in_flight: self.in_flight,
            users: self.active,
            connections: self.conns.open(),
            planned_rate: (self.program.model == Model::Open).then_some(rate),
        }
    }

    fn show(&self) {
        let put = |cell: &AtomicU64, value: u64| cell.store(value, Ordering::Relaxed);
        put(&self.gauge.in_flight, self.in_flight as u64);
        put(&self.gauge.users, self.active as u64);
        put(&self.gauge.connections, self.conns.open() as u64);
        put(&self.gauge.sent, self.sent);
        put(&self.gauge.ended, self.ended);
    }

    fn flush(&mut self, now: Ns) {
        let doing = self.doing(now);
        self.count_surplus();
        let second = now / SECOND;
        let evidence = self.exchanges.take(second.count_ones() == 1);
        self.recorder.flush(now, doing, evidence);
        if self.sink.is_faulty() && self.stop.is_none() {
            // Half a load is not the plan's load: when a worker breaks off, the others end.
            self.obey(Control::Stop { at: now, grace: 0 });
        }
        if self.stop.is_none() && self.program.used_up.load(Ordering::Relaxed) {
            self.obey(Control::Stop { at: now, grace: self.program.grace });
        }
        self.next_flush = (now.div_euclid(SECOND) + 1) * SECOND;
    }

    fn count_surplus(&mut self) {
        let surplus = self.conns.take_surplus();
        if surplus > 0 {
            self.tell_surplus(surplus, None);
        }
    }

    fn report_stages(&mut self, now: Ns) {
        while let Some(stage) = self.reported {
            let next = stage.map_or(0, |stage| stage + 1);
            let begin = self.timeline.begin(next);
            if begin > now.min(self.stop.map_or(Ns::MAX, |(at, _)| at)) {
                return;
            }
            self.stage_event(stage, "stage_ended", begin);
            if next >= self.timeline.len() {
                // Another stage may yet be appended; until then there is nothing to report.
                self.reported = None;
                return;
            }
            self.stage_event(Some(next), "stage_started", begin);
            self.reported = Some(Some(next));
        }
    }

    fn stage_event(&self, stage: Option<usize>, kind: &str, at: Ns) {
        if let Some(stage) = stage {
            let event = json!({"at_ns": at, "kind": kind, "stage": stage});
            self.sink.put(vec![(Frame::Event, event.to_string().into_bytes())]);
        }
    }

    // --- The end ------------------------------------------------------------------------------------------------

    /// What is still in flight ends here, without an answer.
    fn abort_all(&mut self) {
        for slot in 0..self.users.len() as u32 {
            let user = &mut self.users[slot as usize];
            if !user.busy {
                self.drop_transaction(slot, Outcome::Aborted, 0);
                continue;
            }
            user.busy = false;
            let aborted = user.flight.conn.take().and_then(|conn| self.conns.abort(conn, slot));
            let opened = user.drop_talk().then_some(user.flight.phases);
            let (status, minor) = match &aborted {
                Some(completion) => {
                    user.add(completion);
                    user.flight.phases = opened.unwrap_or(user.flight.phases);
                    (completion.status, if completion.status > 0 { completion.minor } else { NO_PROTOCOL })
                }
                None => (0, NO_PROTOCOL),
            };
            let end = End { at: -1, outcome: Outcome::Aborted, reason: Reason::NONE, status, minor };
            self.record(slot, &end, None);
            let step = &self.program.steps[self.users[slot as usize].step];
            self.add_to_transaction(slot, step, self.users[slot as usize].flight.start);
            self.drop_transaction(slot, Outcome::Aborted, 0);
        }
        self.in_flight = 0;
    }

    fn finish(&mut self) {
        let now = self.clock.now();
        if let Some((at, _)) = self.stop {
            if let Some(stage @ Some(_)) = self.reported {
                self.stage_event(stage, "stage_ended", at);
            }
        }
        self.active = 0;
        self.show();
        let doing = self.doing(now);
        self.count_surplus();
        let evidence = self.exchanges.take(true);
        self.recorder.flush(now, doing, evidence);
    }
}

impl User {
    /// What its templates are filled with.
    #[inline]
    fn filling(&mut self) -> Filling<'_> {
        Filling {
            slots: &self.slots,
            draws: &mut self.draws,
            seq: self.flight.seq,
            user: self.number,
            iteration: self.iteration,
        }
    }

    /// Adds an exchange's figures to those of the request, which may consist of several.
    #[inline]
    fn add(&mut self, completion: &Completion) {
        let flight = &mut self.flight;
        flight.bytes_out += completion.bytes_out;
        flight.bytes_in += completion.bytes_in;
        self.add_phases(completion);
    }

    #[inline]
    fn add_phases(&mut self, completion: &Completion) {
        let flight = &mut self.flight;
        if flight.hops == 0 {
            flight.phases = completion.phases;
            flight.reused = u8::from(completion.reused);
            return;
        }
        let add = |sum: &mut Ns, part: Ns| {
            if part >= 0 {
                *sum = (*sum).max(0) + part;
            }
        };
        add(&mut flight.phases.connect, completion.phases.connect);
        add(&mut flight.phases.tls, completion.phases.tls);
        add(&mut flight.phases.send, completion.phases.send);
        add(&mut flight.phases.wait, completion.phases.wait);
        add(&mut flight.phases.receive, completion.phases.receive);
    }
}

/// The path, with its query, that a user's request under way asks for.
fn path_in_flight<'a>(hops: u32, hop_path: &'a [u8], url: &'a [u8], step: &'a Step, origin: usize) -> &'a [u8] {
    match hops {
        0 => step.url.as_ref().map_or(url, |url| url.as_bytes()).get(origin..).unwrap_or(b"/"),
        _ => hop_path,
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

fn is_unreachable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ConnectRefused
            | Kind::ConnectReset
            | Kind::ConnectTimeout
            | Kind::ProxyRefused
            | Kind::TlsHandshake
            | Kind::TlsCertificate
            | Kind::NoHttp2
            | Kind::ClientPorts
            | Kind::ClientFds
    )
}
