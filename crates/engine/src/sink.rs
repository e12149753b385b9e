//! Where workers leave what they measured, and where the reader picks it up.
//!
//! Workers come here about once a second, never for a single request, and leave what they have as it is: the reader makes
//! tables of it, on its own thread, and gives way between pieces of that work, where a worker may wait for the same core.
//! Batches of rows are bounded: with too many waiting, the worker keeps its batch's memory and drops its rows. Everything
//! else is small and always taken; where the reader does not come for seconds, the worker makes tables of it, which are
//! smaller still.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::Reason;
use crate::record::{Batch, Ledger};
use crate::table::Frame;

/// Batches that may wait for the reader: half a million rows, some 80 MB.
const MOST_WAITING: usize = 64;
/// Ledgers that may wait for the reader as they are: some seconds of a few workers.
const MOST_LEDGERS: usize = 16;
/// The longest that the reader works in one piece. Linux lets a thread that was not interrupted go on for some 1.5 ms,
/// also where another has just woken on its core: a request would start that much late.
const PIECE: Duration = Duration::from_micros(100);
/// Kinds of failures that are told apart between two looks at them; a plan's checks and statuses are far fewer.
pub const MOST_FAILURES: usize = 10_000;

/// The meeting point of workers and reader.
#[derive(Default)]
pub struct Sink {
    state: Mutex<State>,
    changed: Condvar,
    failures: Mutex<Failures>,
}

/// How often each endpoint failed for each reason.
pub type Failures = HashMap<(usize, Reason), u64>;

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    batches: usize,
    spare: Vec<Batch>,
    ledgers: usize,
    spare_ledgers: Vec<Ledger>,
    workers: usize,
    fault: Option<String>,
}

enum Item {
    Rows(Batch),
    Ledger(Box<Ledger>),
    Encoded(Frame, Vec<u8>),
}

/// What a reader gets.
pub enum Next {
    /// Frames; none when the time ran out first.
    Frames(Vec<(Frame, Vec<u8>)>),
    /// All workers have ended and everything has been read.
    Ended,
    /// As `Ended`, and a worker ended by a fault of the engine's own, which the sentence describes.
    Fault(String),
}

impl Sink {
    /// A sink for that many workers.
    pub fn new(workers: usize) -> Self {
        Self { state: Mutex::new(State { workers, ..State::default() }), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A worker that panics does so outside of this lock's sections; the state is whole in any case.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes frames that are always kept.
    pub fn put(&self, frames: Vec<(Frame, Vec<u8>)>) {
        let mut state = self.lock();
        state.waiting.extend(frames.into_iter().map(|(kind, payload)| Item::Encoded(kind, payload)));
        drop(state);
        self.changed.notify_one();
    }

    /// Takes a batch and leaves an empty one in its place. The error is the number of rows dropped.
    pub fn put_rows(&self, batch: &mut Batch, make: impl FnOnce() -> Batch) -> Result<(), usize> {
        let mut state = self.lock();
        if state.batches >= MOST_WAITING {
            drop(state);
            let dropped = batch.len();
            batch.clear();
            return Err(dropped);
        }
        let spare = state.spare.pop();
        state.batches += 1;
        state.waiting.push_back(Item::Rows(std::mem::replace(batch, spare.unwrap_or_else(make))));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes a ledger and leaves an empty one in its place.
    pub fn put_ledger(&self, ledger: &mut Ledger, make: impl FnOnce() -> Ledger) {
        let mut state = self.lock();
        if state.ledgers >= MOST_LEDGERS {
            drop(state);
            self.put(ledger.encode(&mut || {}));
            return ledger.clear(&mut || {});
        }
        let spare = state.spare_ledgers.pop().unwrap_or_else(make);
        state.ledgers += 1;
        state.waiting.push_back(Item::Ledger(Box::new(std::mem::replace(ledger, spare))));
        drop(state);
        self.changed.notify_one();
    }

    /// A worker has ended, by a fault if there is a sentence.
    pub fn worker_ended(&self, fault: Option<String>) {
        let mut state = self.lock();
        state.workers -= 1;
        state.fault = state.fault.take().or(fault);
        drop(state);
        self.changed.notify_one();
    }

    /// Whether a worker has ended by a fault.
    pub fn is_faulty(&self) -> bool {
        self.lock().fault.is_some()
    }

    /// The failures among the rows read since the last call.
    pub fn take_failures(&self) -> Failures {
        std::mem::take(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for something to read, not longer than `timeout`, and takes what there is, up to a batch of rows: whoever
    /// reads holds one table of them at a time, however many wait.
    pub fn next(&self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.workers == 0 {
                return match &state.fault {
                    Some(fault) => Next::Fault(fault.clone()),
                    None => Next::Ended,
                };
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Frames(Vec::new());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut items = Vec::new();
        while let Some(item) = state.waiting.pop_front() {
            match item {
                Item::Rows(_) => state.batches -= 1,
                Item::Ledger(_) => state.ledgers -= 1,
                Item::Encoded(..) => {}
            }
            items.push(item);
            if matches!(items.last(), Some(Item::Rows(_))) {
                break;
            }
        }
        drop(state);
        let mut frames = Vec::with_capacity(items.len());
        let mut since = Instant::now();
        let mut pause = || {
            if since.elapsed() >= PIECE {
                std::thread::yield_now();
                since = Instant::now();
            }
        };
        for item in items {
            match item {
                Item::Encoded(kind, payload) => frames.push((kind, payload)),
                Item::Ledger(mut ledger) => {
                    frames.extend(ledger.encode(&mut pause));
                    ledger.clear(&mut pause);
                    let mut state = self.lock();
                    if state.spare_ledgers.len() < state.workers {
                        state.spare_ledgers.push(*ledger);
                    }
                }
                Item::Rows(mut batch) => {
                    batch.count_failures(&mut self.failures.lock().unwrap_or_else(PoisonError::into_inner));
                    frames.push((Frame::Rows, batch.encode(&mut pause)));
                    batch.clear();
                    // One for each worker to go on with: what a backlog took beyond that is given back.
                    let mut state = self.lock();
                    if state.spare.len() < state.workers {
                        state.spare.push(batch);
                    }
                }
            }
        }
        Next::Frames(frames)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::{Plan, Program};
    use crate::record::{Doing, Recorder};

    fn program() -> Arc<Program> {
        let plan = serde_json::json!({
            "version": 1, "run_id": "r", "seed": 1, "workers": 1, "share": {"index": 0, "of": 1},
            "target": {"scheme": "http", "host": "h", "port": 1, "host_header": "h", "addresses": ["127.0.0.1"],
                       "sni": null, "insecure": false, "ca_file": null},
            "headers": [], "timeout_ns": 1, "max_redirects": 0, "max_in_flight": 1, "grace_ns": 0,
            "max_body_bytes": 0, "clock_monotonic_ns": 0, "variables": {}, "endpoints": ["e"],
            "scenarios": [{"name": "s", "weight": 1, "steps": [{"endpoint": 0, "method": "GET", "path": "/"}]}],
            "workload": {"model": "open", "stages": [{"duration_ns": 1, "from": 1, "to": 1}]}
        });
        Arc::new(Plan::parse(&plan.to_string()).unwrap().compile().unwrap())
    }

    fn batch() -> Batch {
        Recorder::new(program(), "0".into(), Arc::new(Sink::new(1))).into_batch_of(3)
    }

    /// All that waits, and how many batches of rows came at a time at most.
    fn read_all(sink: &Sink) -> (usize, usize) {
        let (mut all, mut most) = (0, 0);
        loop {
            let Next::Frames(frames) = sink.next(Duration::ZERO) else { panic!("ended") };
            if frames.is_empty() {
                return (all, most);
            }
            all += frames.len();
            most = most.max(frames.iter().filter(|(kind, _)| *kind == Frame::Rows).count());
        }
    }

    /// Without a reader batches wait up to a bound; beyond it their rows are dropped and counted, and nothing else is.
    /// The reader gets them one by one.
    #[test]
    fn rows_are_dropped_when_nobody_reads() {
        let sink = Sink::new(1);
        let dropped: usize = (0..MOST_WAITING + 5).filter_map(|_| sink.put_rows(&mut batch(), batch).err()).sum();
        assert_eq!(dropped, 5 * 3);
        sink.put(vec![(Frame::Windows, vec![1])]);
        assert_eq!(read_all(&sink), (MOST_WAITING + 1, 1));
        assert!(sink.put_rows(&mut batch(), batch).is_ok());
    }

    /// Without a reader no second's books are lost: as they are up to a bound, beyond it as tables; and what comes back to
    /// be used again is empty, one for each worker.
    #[test]
    fn books_are_kept_when_nobody_reads() {
        let (sink, seconds) = (Arc::new(Sink::new(1)), MOST_LEDGERS + 5);
        let mut recorder = Recorder::new(program(), "0".into(), sink.clone());
        for second in 0..seconds {
            recorder.due(second as i64 * 1_000_000_000, 0, 0, true);
            recorder.flush(0, Doing::default(), Vec::new());
        }
        assert_eq!(sink.lock().ledgers, MOST_LEDGERS);
        let Next::Frames(frames) = sink.next(Duration::ZERO) else { panic!("ended") };
        let counts: Vec<&Vec<u8>> =
            frames.iter().filter(|(kind, _)| *kind == Frame::Counts).map(|(_, payload)| payload).collect();
        assert_eq!(counts.len(), seconds);
        assert!(counts.iter().all(|table| table.starts_with(&1u32.to_le_bytes())), "one row in each");
        assert_eq!(sink.lock().ledgers, 0);
        assert_eq!(sink.lock().spare_ledgers.len(), 1);
        recorder.flush(0, Doing::default(), Vec::new());
        recorder.flush(0, Doing::default(), Vec::new());
        let Next::Frames(frames) = sink.next(Duration::ZERO) else { panic!("ended") };
        assert!(frames.iter().all(|(kind, _)| *kind == Frame::Health), "nothing is told twice");
    }

    /// When the reader has caught up, the memory of a backlog is given back.
    #[test]
    fn a_backlog_leaves_one_batch_for_each_worker() {
        let sink = Sink::new(2);
        for _ in 0..10 {
            assert!(sink.put_rows(&mut batch(), batch).is_ok());
        }
        assert_eq!(read_all(&sink), (10, 1));
        assert_eq!(sink.lock().spare.len(), 2);
    }

    /// A fault is told, but only after everything that was measured.
    #[test]
    fn a_fault_comes_last() {
        let sink = Sink::new(2);
        sink.worker_ended(Some("broken".into()));
        assert!(sink.is_faulty());
        assert!(matches!(sink.next(Duration::ZERO), Next::Frames(frames) if frames.is_empty()));
        sink.put(vec![(Frame::Counts, vec![1])]);
        sink.worker_ended(None);
        assert!(matches!(sink.next(Duration::ZERO), Next::Frames(frames) if frames.len() == 1));
        assert!(matches!(sink.next(Duration::ZERO), Next::Fault(fault) if fault == "broken"));
    }
}
