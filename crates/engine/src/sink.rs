//! Where workers leave what they measured, and where the reader picks it up.
//!
//! Workers come here about once a second, never for a single request. Batches of rows are bounded: with too many waiting,
//! the worker keeps its batch's memory and drops its rows. Everything else is small and always taken.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::Batch;
use crate::table::Frame;

/// Batches that may wait for the reader: half a million rows, some 80 MB.
const MOST_WAITING: usize = 64;

/// The meeting point of workers and reader.
#[derive(Default)]
pub struct Sink {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Item>,
    batches: usize,
    spare: Vec<Batch>,
    workers: usize,
    fault: Option<String>,
}

enum Item {
    Rows(Batch),
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
        Self { state: Mutex::new(State { workers, ..State::default() }), changed: Condvar::new() }
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

    /// A worker has ended, by a fault if there is a sentence.
    pub fn worker_ended(&self, fault: Option<String>) {
        let mut state = self.lock();
        state.workers -= 1;
        state.fault = state.fault.take().or(fault);
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for something to read, not longer than `timeout`, and takes all there is.
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
        let items: Vec<Item> = state.waiting.drain(..).collect();
        state.batches = 0;
        drop(state);
        let mut frames = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Encoded(kind, payload) => frames.push((kind, payload)),
                Item::Rows(mut batch) => {
                    frames.push((Frame::Rows, batch.encode()));
                    batch.clear();
                    self.lock().spare.push(batch);
                }
            }
        }
        Next::Frames(frames)
    }
}
