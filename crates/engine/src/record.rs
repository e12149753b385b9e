//! What was measured: rows, windows, counts and health, from one worker.
//!
//! While requests run, a row is one copy into a batch, and the two counts are two additions. Every few hundred rows the
//! batch is folded into the windows of their due seconds; once a second everything leaves as it is, and what the reader
//! has done with comes back in its place: tables are made of it on the reader's thread, away from the requests. Where the
//! reader does not keep up, rows are dropped and counted; windows and counts never are.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::clock::{Ns, SECOND};
use crate::conn::Phases;
use crate::histogram::Histogram;
use crate::outcome::{Outcome, Reason};
use crate::plan::Program;
use crate::sink::{Failures, MOST_FAILURES, Sink};
use crate::table::{Frame, Table};

/// Rows of a batch.
pub const BATCH: usize = 8192;
/// Rows between two folds: few enough that a fold delays no request by more than some microseconds.
const FOLD: usize = 128;
const LONGEST_TIMING: usize = 200;
/// Windows whose memory a ledger keeps for its next second: that of a plan with very many endpoints is given back.
const KEPT_WINDOWS: usize = 1024;

/// One request that was due.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number, unique over all workers of the run.
    pub seq: i64,
    /// The user's number.
    pub user: i64,
    /// The iteration's number.
    pub iteration: i64,
    /// When it was due.
    pub intended: Ns,
    /// When it was sent; -1 if not.
    pub start: Ns,
    /// When it ended; -1 if it did not.
    pub end: Ns,
    /// Where the time went.
    pub phases: Phases,
    /// Bytes sent.
    pub bytes_out: i64,
    /// Bytes received.
    pub bytes_in: i64,
    /// The stage it was due in.
    pub stage: u32,
    /// The step, which knows endpoint, scenario and method.
    pub step: u32,
    /// What is wrong.
    pub reason: Reason,
    /// The last answer's status; 0 without one.
    pub status: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// 0 new connection, 1 reused, 2 none.
    pub reused: u8,
    /// Of HTTP/1.minor, 2 for HTTP/2; `NO_PROTOCOL` without an answer.
    pub minor: u8,
}

/// `Row::minor` of a request without an answer.
pub const NO_PROTOCOL: u8 = 255;

/// Rows on their way to the reader.
pub struct Batch {
    rows: Vec<Row>,
    /// URL and server timing of each row: ends of their texts in `texts`; the URL is empty where its step knows it.
    ends: Vec<(u32, u32)>,
    texts: Vec<u8>,
    program: Arc<Program>,
    worker: Arc<str>,
}

impl Batch {
    /// An empty batch of a worker.
    pub fn new(program: Arc<Program>, worker: Arc<str>) -> Self {
        let (rows, ends) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
        Self { rows, ends, texts: Vec::new(), program, worker }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
        self.texts.clear();
    }

    /// Adds its requests that were sent, ended, and were not right.
    pub fn count_failures(&self, failures: &mut Failures) {
        for row in &self.rows {
            if !matches!(row.outcome, Outcome::Ok | Outcome::NotSent | Outcome::Aborted) {
                let kind = (self.program.steps[row.step as usize].endpoint, row.reason);
                if failures.len() < MOST_FAILURES || failures.contains_key(&kind) {
                    *failures.entry(kind).or_default() += 1;
                }
            }
        }
    }

    /// The rows as a table. `pause` is called now and then: many rows take a millisecond and more.
    pub fn encode(&self, pause: &mut dyn FnMut()) -> Vec<u8> {
        let rows = &self.rows;
        let program = &*self.program;
        let step = |row: &Row| &program.steps[row.step as usize];
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let texts: Vec<(&[u8], &[u8])> = starts
            .zip(&self.ends)
            .map(|(start, (url, end))| {
                (&self.texts[start as usize..*url as usize], &self.texts[*url as usize..*end as usize])
            })
            .collect();
        let mut table = Table::new(rows.len()).pausing(pause);
        table.i64("seq", rows.iter().map(|row| row.seq));
        table.texts("endpoint", rows.iter().map(|row| step(row).endpoint), |code| &program.endpoints[code]);
        table.texts("scenario", rows.iter().map(|row| step(row).scenario), |code| &program.scenarios[code].name);
        table.i32("stage", rows.iter().map(|row| row.stage as i32));
        table.i64("user", rows.iter().map(|row| row.user));
        table.i64("iteration", rows.iter().map(|row| row.iteration));
        table.texts("worker", rows.iter().map(|_| 0), |_| &self.worker);
        table.texts("method", rows.iter().map(|row| row.step as usize), |code| &program.steps[code].request.method);
        table.free_texts(
            "url",
            &program.secrets,
            rows.iter().zip(&texts).map(|(row, (url, _))| match &step(row).url {
                Some(constant) => constant.as_bytes(),
                None => url,
            }),
        );
        table.i64("intended_ns", rows.iter().map(|row| row.intended));
        table.i64("start_ns", rows.iter().map(|row| row.start));
        table.i64("end_ns", rows.iter().map(|row| row.end));
        // Names are looked up once, before the run: no request waits for that.
        table.i64("dns_ns", rows.iter().map(|_| -1));
        table.i64("connect_ns", rows.iter().map(|row| row.phases.connect));
        table.i64("tls_ns", rows.iter().map(|row| row.phases.tls));
        table.i64("send_ns", rows.iter().map(|row| row.phases.send));
        table.i64("wait_ns", rows.iter().map(|row| row.phases.wait));
        table.i64("receive_ns", rows.iter().map(|row| row.phases.receive));
        table.i32("status", rows.iter().map(|row| i32::from(row.status)));
        table.u8("outcome", rows.iter().map(|row| row.outcome as u8));
        let mut reasons = HashMap::new();
        let mut before = None;
        for reason in rows.iter().map(|row| row.reason) {
            // Almost all rows have none: a search for each would cost more than the column.
            if before != Some(reason.0) {
                before = Some(reason.0);
                reasons.entry(reason.0).or_insert_with(|| reason.text(&program.check_names));
            }
        }
        table.texts("error", rows.iter().map(|row| row.reason.0 as usize), |code| &reasons[&(code as u32)]);
        table.i64("bytes_out", rows.iter().map(|row| row.bytes_out));
        table.i64("bytes_in", rows.iter().map(|row| row.bytes_in));
        table.u8("reused", rows.iter().map(|row| row.reused));
        table.texts("protocol", rows.iter().map(|row| usize::from(row.minor)), |minor| match minor {
            0 => "HTTP/1.0",
            1 => "HTTP/1.1",
            2 => "HTTP/2",
            _ => "",
        });
        table.free_texts("server_timing", &program.secrets, texts.iter().map(|(_, timing)| *timing));
        table.finish()
    }
}

/// Second, stage, endpoint and outcome in one number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key(u64);

impl Key {
    fn new(intended: Ns, stage: u32, endpoint: usize, outcome: u8) -> Self {
        let second = intended.div_euclid(SECOND) as u32;
        Self(u64::from(second) << 32 | u64::from(stage) << 19 | (endpoint as u64) << 3 | u64::from(outcome))
    }

    fn second(self) -> i32 {
        (self.0 >> 32) as i32
    }

    fn stage(self) -> i32 {
        (self.0 >> 19 & 0x1fff) as i32
    }

    fn endpoint(self) -> usize {
        (self.0 >> 3 & 0xffff) as usize
    }

    fn outcome(self) -> u8 {
        (self.0 & 7) as u8
    }
}

/// Values by key; the key used last is found without a search, and values are kept for use again.
struct ByKey<V> {
    places: HashMap<Key, usize>,
    keys: Vec<Key>,
    values: Vec<V>,
    last: (Key, usize),
}

impl<V: Default> ByKey<V> {
    fn new() -> Self {
        Self { places: HashMap::new(), keys: Vec::new(), values: Vec::new(), last: (Key(u64::MAX), 0) }
    }

    #[inline]
    fn at(&mut self, key: Key) -> &mut V {
        if self.last.0 != key {
            let place = *self.places.entry(key).or_insert_with(|| {
                self.keys.push(key);
                if self.values.len() < self.keys.len() {
                    self.values.push(V::default());
                }
                self.keys.len() - 1
            });
            self.last = (key, place);
        }
        &mut self.values[self.last.1]
    }

    fn used(&self) -> impl Iterator<Item = (Key, &V)> {
        self.keys.iter().copied().zip(&self.values)
    }

    fn clear(&mut self, forget: impl FnMut(&mut V)) {
        self.values.truncate(KEPT_WINDOWS);
        let used = self.keys.len().min(self.values.len());
        self.values[..used].iter_mut().for_each(forget);
        self.places.clear();
        self.keys.clear();
        self.last = (Key(u64::MAX), 0);
    }
}

#[derive(Default)]
struct Window {
    count: i64,
    bytes_in: i64,
    bytes_out: i64,
    response: Histogram,
    service: Histogram,
}

impl Window {
    fn clear(&mut self) {
        (self.count, self.bytes_in, self.bytes_out) = (0, 0, 0);
        self.response.clear();
        self.service.clear();
    }
}

#[derive(Default)]
struct Counts {
    due: i64,
    sent: i64,
    hops: i64,
}

/// A transaction of a user under way: steps in a row that are timed as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Group {
    /// Whether there is one.
    pub open: bool,
    /// Its number in `Program::transactions`.
    pub number: usize,
    /// When its first request was due.
    pub due: Ns,
    /// The stage of that request.
    pub stage: u32,
    /// Think time since then.
    pub thought: Ns,
    /// Service times of its requests.
    pub service: Ns,
    /// Bytes of its requests.
    pub bytes_out: i64,
    /// Bytes of its answers.
    pub bytes_in: i64,
    /// The outcome of the first step that was not right in the end.
    pub bad: Option<Outcome>,
}

/// What a worker is doing, for the health readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doing {
    /// Requests without an answer yet.
    pub in_flight: usize,
    /// Users in an iteration (open), or active (closed).
    pub users: usize,
    /// Connections open or opening.
    pub connections: usize,
    /// Requests per second that the plan has for this worker now; None in the closed model.
    pub planned_rate: Option<f64>,
}

/// What a second adds up to beside its rows, on its way to the reader.
pub struct Ledger {
    windows: ByKey<Window>,
    counts: ByKey<Counts>,
    transactions: ByKey<Window>,
    messages: ByKey<Window>,
    lag: Histogram,
    rows_dropped: u64,
    surplus: u64,
    /// The moment of the readings, and what the worker was doing then.
    at: Ns,
    doing: Doing,
    evidence: Vec<Value>,
    program: Arc<Program>,
    worker: Arc<str>,
}

impl Ledger {
    /// An empty ledger of a worker.
    pub fn new(program: Arc<Program>, worker: Arc<str>) -> Self {
        Self {
            windows: ByKey::new(),
            counts: ByKey::new(),
            transactions: ByKey::new(),
            messages: ByKey::new(),
            lag: Histogram::default(),
            rows_dropped: 0,
            surplus: 0,
            at: 0,
            doing: Doing::default(),
            evidence: Vec::new(),
            program,
            worker,
        }
    }

    /// All that is in it as frames. `pause` is called now and then.
    pub fn encode(&self, pause: &mut dyn FnMut()) -> Vec<(Frame, Vec<u8>)> {
        let mut frames = Vec::new();
        if !self.counts.keys.is_empty() {
            frames.push((Frame::Counts, self.encode_counts(pause)));
        }
        for (kind, windows, names) in [
            (Frame::Windows, &self.windows, &self.program.endpoints),
            (Frame::Transactions, &self.transactions, &self.program.transactions),
            (Frame::Messages, &self.messages, &self.program.messages),
        ] {
            if !windows.keys.is_empty() {
                frames.push((kind, encode_windows(windows, names, pause)));
            }
        }
        frames.push((Frame::Health, self.encode_health()));
        for value in &self.evidence {
            pause();
            frames.push((Frame::Exchange, value.to_string().into_bytes()));
        }
        frames
    }

    /// Forgets what is in it, keeps the memory. `pause` is called now and then.
    pub fn clear(&mut self, pause: &mut dyn FnMut()) {
        self.counts.clear(|counts| *counts = Counts::default());
        for windows in [&mut self.windows, &mut self.transactions, &mut self.messages] {
            windows.clear(|window| {
                pause();
                window.clear();
            });
        }
        self.lag.clear();
        (self.rows_dropped, self.surplus) = (0, 0);
        self.evidence.clear();
    }

    fn encode_counts(&self, pause: &mut dyn FnMut()) -> Vec<u8> {
        let used: Vec<(Key, &Counts)> = self.counts.used().collect();
        let mut table = Table::new(used.len()).pausing(pause);
        table.i32("second", used.iter().map(|(key, _)| key.second()));
        table.i32("stage", used.iter().map(|(key, _)| key.stage()));
        table.texts("endpoint", used.iter().map(|(key, _)| key.endpoint()), |code| &self.program.endpoints[code]);
        table.i64("due", used.iter().map(|(_, counts)| counts.due));
        table.i64("sent", used.iter().map(|(_, counts)| counts.sent));
        table.i64("hops", used.iter().map(|(_, counts)| counts.hops));
        table.finish()
    }

    fn encode_health(&self) -> Vec<u8> {
        let (at, doing) = (self.at, self.doing);
        let mut readings: Vec<(&str, f64)> = Vec::new();
        for (metric, q) in [("lag_p50_ns", 0.5), ("lag_p99_ns", 0.99), ("lag_max_ns", 1.0)] {
            // Nothing started: no lag was measured, which is not a lag of zero.
            readings.extend(self.lag.quantile(q).map(|lag| (metric, lag as f64)));
        }
        readings.push(("in_flight", doing.in_flight as f64));
        readings.push(("users", doing.users as f64));
        readings.push(("connections", doing.connections as f64));
        readings.push(("rows_dropped", self.rows_dropped as f64));
        if self.surplus > 0 {
            readings.push(("surplus_answers", self.surplus as f64));
        }
        readings.extend(doing.planned_rate.map(|rate| ("planned_rate", rate)));
        let mut table = Table::new(readings.len());
        table.i64("at_ns", readings.iter().map(|_| at));
        table.texts("source", readings.iter().map(|_| 0), |_| "generator");
        table.texts("worker", readings.iter().map(|_| 0), |_| &self.worker);
        table.texts("metric", 0..readings.len(), |number| readings[number].0);
        table.f64("value", readings.iter().map(|(_, value)| *value));
        table.finish()
    }
}

fn encode_windows(windows: &ByKey<Window>, names: &[String], pause: &mut dyn FnMut()) -> Vec<u8> {
    let used: Vec<(Key, &Window)> = windows.used().collect();
    let mut table = Table::new(used.len()).pausing(pause);
    table.i32("second", used.iter().map(|(key, _)| key.second()));
    table.i32("stage", used.iter().map(|(key, _)| key.stage()));
    table.texts("endpoint", used.iter().map(|(key, _)| key.endpoint()), |code| &names[code]);
    table.u8("outcome", used.iter().map(|(key, _)| key.outcome()));
    table.i64("count", used.iter().map(|(_, window)| window.count));
    table.i64("bytes_in", used.iter().map(|(_, window)| window.bytes_in));
    table.i64("bytes_out", used.iter().map(|(_, window)| window.bytes_out));
    add_histograms(&mut table, "response", used.iter().map(|(_, window)| &window.response));
    add_histograms(&mut table, "service", used.iter().map(|(_, window)| &window.service));
    table.finish()
}

/// One worker's records.
pub struct Recorder {
    sink: Arc<Sink>,
    batch: Batch,
    folded: usize,
    ledger: Ledger,
    program: Arc<Program>,
    worker: Arc<str>,
}

impl Recorder {
    /// Nothing recorded yet.
    pub fn new(program: Arc<Program>, worker: Arc<str>, sink: Arc<Sink>) -> Self {
        Self {
            sink,
            batch: Batch::new(program.clone(), worker.clone()),
            folded: 0,
            ledger: Ledger::new(program.clone(), worker.clone()),
            program,
            worker,
        }
    }

    /// So many connections brought bytes that belong to no answer.
    pub fn surplus(&mut self, connections: u64) {
        self.ledger.surplus += connections;
    }

    /// A request is due, and if `sent`, it is on its way now.
    #[inline]
    pub fn due(&mut self, intended: Ns, stage: u32, endpoint: usize, sent: bool) {
        let counts = self.ledger.counts.at(Key::new(intended, stage, endpoint, 0));
        counts.due += 1;
        counts.sent += i64::from(sent);
    }

    /// A transaction has ended.
    pub fn transaction(&mut self, group: &Group, outcome: Outcome, response: Ns) {
        let window = self.ledger.transactions.at(Key::new(group.due, group.stage, group.number, outcome as u8));
        window.count += 1;
        window.bytes_in += group.bytes_in;
        window.bytes_out += group.bytes_out;
        if !matches!(outcome, Outcome::NotSent | Outcome::Aborted) {
            window.response.record(response);
            window.service.record(group.service);
        }
    }

    /// A message has come, or was waited for, since `begin`, in a conversation of this stage.
    pub fn message(&mut self, number: usize, begin: Ns, stage: u32, outcome: Outcome, waited: Ns, bytes: usize) {
        let window = self.ledger.messages.at(Key::new(begin, stage, number, outcome as u8));
        window.count += 1;
        window.bytes_in += bytes as i64;
        window.response.record(waited);
        window.service.record(waited);
    }

    /// The request that was due then follows a redirect.
    pub fn hop(&mut self, intended: Ns, stage: u32, endpoint: usize) {
        self.ledger.counts.at(Key::new(intended, stage, endpoint, 0)).hops += 1;
    }

    /// How late a request started.
    #[inline]
    pub fn lag(&mut self, lag: Ns) {
        self.ledger.lag.record(lag);
    }

    /// A request has ended. `url` where its step does not know it.
    #[inline]
    pub fn row(&mut self, row: Row, url: &[u8], timing: Option<&[u8]>) {
        let batch = &mut self.batch;
        batch.rows.push(row);
        batch.texts.extend_from_slice(url);
        let url_end = batch.texts.len() as u32;
        if let Some(timing) = timing {
            batch.texts.extend_from_slice(&timing[..timing.len().min(LONGEST_TIMING)]);
        }
        batch.ends.push((url_end, batch.texts.len() as u32));
        if batch.rows.len() - self.folded >= FOLD {
            self.fold();
            if self.batch.rows.len() >= BATCH {
                self.hand_over();
            }
        }
    }

    /// Adds the rows since the last fold to their windows.
    fn fold(&mut self) {
        for row in &self.batch.rows[self.folded..] {
            let endpoint = self.program.steps[row.step as usize].endpoint;
            let window = self.ledger.windows.at(Key::new(row.intended, row.stage, endpoint, row.outcome as u8));
            window.count += 1;
            window.bytes_in += row.bytes_in;
            window.bytes_out += row.bytes_out;
            if !matches!(row.outcome, Outcome::NotSent | Outcome::Aborted) {
                window.response.record(row.end - row.intended);
                window.service.record(row.end - row.start);
            }
        }
        self.folded = self.batch.rows.len();
    }

    fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(dropped) =
            self.sink.put_rows(&mut self.batch, || Batch::new(self.program.clone(), self.worker.clone()))
        {
            self.ledger.rows_dropped += dropped as u64;
        }
        // The batch in its place may have been another worker's.
        self.batch.worker = self.worker.clone();
        self.folded = 0;
    }

    /// Hands over what has come together since the last time. `at` is the moment of the health readings.
    pub fn flush(&mut self, at: Ns, doing: Doing, evidence: Vec<Value>) {
        self.fold();
        self.hand_over();
        (self.ledger.at, self.ledger.doing, self.ledger.evidence) = (at, doing, evidence);
        self.sink.put_ledger(&mut self.ledger, || Ledger::new(self.program.clone(), self.worker.clone()));
        self.ledger.worker = self.worker.clone();
    }

    /// A batch of so many rows, for tests of what becomes of batches.
    #[cfg(test)]
    pub fn into_batch_of(mut self, rows: usize) -> Batch {
        let row = Row {
            seq: 0,
            user: 0,
            iteration: 0,
            intended: 0,
            start: 0,
            end: 0,
            phases: Phases::default(),
            bytes_out: 0,
            bytes_in: 0,
            stage: 0,
            step: 0,
            reason: Reason::NONE,
            status: 200,
            outcome: Outcome::Ok,
            reused: 0,
            minor: 1,
        };
        (0..rows).for_each(|_| self.row(row, b"", None));
        self.batch
    }
}

/// The five columns of one side of the windows.
pub(crate) fn add_histograms<'h>(
    table: &mut Table,
    side: &str,
    histograms: impl Iterator<Item = &'h Histogram> + Clone,
) {
    table.i64(&format!("{side}_sum_ns"), histograms.clone().map(|histogram| histogram.sum));
    table.i64(&format!("{side}_min_ns"), histograms.clone().map(|histogram| histogram.min));
    table.i64(&format!("{side}_max_ns"), histograms.clone().map(|histogram| histogram.max));
    let (mut indices, mut counts): (Vec<Vec<u32>>, Vec<Vec<u32>>) = (Vec::new(), Vec::new());
    for histogram in histograms {
        table.pause();
        let (index, count) = histogram.buckets().unzip();
        indices.push(index);
        counts.push(count);
    }
    table.lists(&format!("{side}_index"), &indices);
    table.lists(&format!("{side}_count"), &counts);
}
