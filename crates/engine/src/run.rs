//! A running engine: its threads, its ears, its mouth.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::Waker;
use serde_json::json;

use crate::answer::KEPT_BODIES;
use crate::clock::{Clock, Ns, SECOND};
use crate::conn::Connections;
use crate::host::Host;
use crate::kept::Room;
use crate::outcome::Reason;
use crate::plan::{self, MOST_STAGES, Plan, Program};
use crate::record::Recorder;
use crate::schedule::{Arrivals, Timeline};
use crate::sink::{Next, Sink};
use crate::table::Frame;
use crate::tls::Tls;
use crate::worker::{Control, Gauge, Parts, Worker};

/// Threads that send what a plan says, from the moment it is made until its last request has ended.
///
/// Dropping it ends the load at once and waits for the threads.
pub struct Running {
    program: Arc<Program>,
    clock: Clock,
    sink: Arc<Sink>,
    ears: Vec<(Sender<Control>, Arc<Waker>)>,
    gauges: Vec<Arc<Gauge>>,
    threads: Vec<JoinHandle<()>>,
    stages: AtomicUsize,
}

/// What the workers are doing, summed up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// The run's time.
    pub at: Ns,
    /// Requests without an answer yet.
    pub in_flight: u64,
    /// Users in an iteration (open), or active (closed).
    pub users: u64,
    /// Connections open or opening.
    pub connections: u64,
    /// Requests started so far.
    pub sent: u64,
    /// Requests ended so far, whatever became of them.
    pub ended: u64,
}

impl Running {
    /// Starts the threads. The error is a sentence about the plan.
    pub fn start(plan: &str) -> Result<Self, String> {
        Self::start_with(plan, Host::default())
    }

    /// The same, on a system that does more for the threads.
    pub fn start_with(plan: &str, host: Host) -> Result<Self, String> {
        let program = Arc::new(Plan::parse(plan)?.compile()?);
        let clock = Clock::anchored(program.anchor);
        let workers = program.workers as usize;
        let mut running = Self {
            clock,
            sink: Arc::new(Sink::new(workers)),
            ears: Vec::new(),
            gauges: Vec::new(),
            threads: Vec::new(),
            stages: AtomicUsize::new(program.stages.len()),
            program,
        };
        // Everything that can be wrong is found before the first thread runs.
        let mut ready = Vec::new();
        let room = Room::of(KEPT_BODIES);
        for worker in 0..workers {
            ready.push(running.prepare(worker, host, room.clone())?);
        }
        for (number, run) in ready.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("surgeline-{number}")).spawn(run);
            running.threads.push(thread.map_err(|error| format!("a thread could not be started: {error}"))?);
        }
        Ok(running)
    }

    fn prepare(&mut self, worker: usize, host: Host, room: Room) -> Result<impl FnOnce() + Send + use<>, String> {
        let program = self.program.clone();
        let (clock, sink, gauge) = (self.clock, self.sink.clone(), Arc::new(Gauge::default()));
        let mut tls = if program.tls { Some(Tls::new(&program.target, &program.tls_options)?) } else { None };
        if let Some(tls) = tls.as_mut().filter(|_| program.streams > 0) {
            tls.speak_http2();
        }
        let unready = |error| format!("the engine cannot wait for the network: {error}");
        let way = program.way.clone().begin_with(worker, host.unbound)?;
        let mut conns = Connections::new(clock, way, tls, program.max_body).map_err(unready)?;
        conns.set_room(room);
        conns.set_most_served(program.most_served);
        conns.set_most_open((program.most_open / program.workers as usize).max(1));
        conns.speak_http2(program.streams, program.pooled);
        if let Some(stamps) = host.stamps {
            conns.read_stamps(stamps);
        }
        let (ear, controls) = channel();
        self.ears.push((ear, conns.waker().map_err(unready)?));
        self.gauges.push(gauge.clone());
        let workers = u64::from(program.workers);
        let (share_index, share_of) = program.share;
        let index = u64::from(share_index) * workers + worker as u64;
        let of = u64::from(share_of) * workers;
        let (limit, rest) = (u64::from(program.max_in_flight) / workers, u64::from(program.max_in_flight) % workers);
        let limit = (limit + u64::from((worker as u64) < rest)) as usize;
        let name = match program.worker.as_str() {
            "" => index.to_string(),
            name if workers == 1 => name.to_owned(),
            name => format!("{name}.{worker}"),
        };
        Ok(move || {
            (host.wake_soon)();
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let recorder = Recorder::new(program.clone(), name.into(), sink.clone());
                let sink = sink.clone();
                let parts =
                    Parts { program: &program, clock, conns, recorder, sink, gauge, controls, index, of, limit };
                Worker::new(parts).run()
            }));
            let fault = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("worker {index} cannot wait for the network: {error}")),
                Err(panic) => Some(format!("worker {index} broke off: {}", panic_text(&*panic))),
            };
            if let Some(fault) = &fault {
                let event =
                    json!({"at_ns": clock.now(), "kind": "exception", "message": fault, "traceback": "", "count": 1});
                sink.put(vec![(Frame::Event, event.to_string().into_bytes())]);
            }
            sink.worker_ended(fault);
        })
    }

    /// Waits for frames, not longer than `timeout`.
    pub fn next(&self, timeout: Duration) -> Next {
        self.sink.next(timeout)
    }

    /// Wrong and broken requests among the rows that were read since the last call: endpoint, what was wrong, how many.
    ///
    /// Rows that were dropped are not among them; a list that would grow beyond `MOST_FAILURES` kinds leaves out the
    /// rest.
    pub fn failures(&self) -> Vec<(String, String, u64)> {
        let named = |((endpoint, reason), count): ((usize, Reason), u64)| {
            (self.program.endpoints[endpoint].clone(), reason.text(&self.program.check_names), count)
        };
        self.sink.take_failures().into_iter().map(named).collect()
    }

    /// Starts nothing more; what is in flight may end within `grace`.
    pub fn stop(&self, grace: Ns) {
        self.tell(&Control::Stop { at: self.clock.now(), grace: grace.max(0) });
    }

    /// Starts nothing until `resume`; the schedule's clock stands still.
    pub fn pause(&self) {
        self.tell(&Control::Pause(self.clock.now()));
    }

    /// Goes on where `pause` stopped.
    pub fn resume(&self) {
        self.tell(&Control::Resume(self.clock.now()));
    }

    /// Multiplies the plan's rate or number of users from now on. The error is a sentence.
    pub fn scale(&self, factor: f64) -> Result<(), String> {
        if !(0.0..=1e6).contains(&factor) {
            return Err(format!("factor {factor} must be between 0 and 1e6"));
        }
        self.tell(&Control::Scale(self.clock.now(), factor));
        Ok(())
    }

    /// Goes on with the next stage; after the last that is the end. With a number only where that stage is under way:
    /// whoever was told of it too late ends no other.
    pub fn next_stage(&self, only: Option<usize>) {
        self.tell(&Control::NextStage(self.clock.now(), only));
    }

    /// Adds a stage, with its levels as in the plan, behind the last. The error is a sentence.
    ///
    /// A run whose last stage has ended is over and stays so.
    pub fn append_stage(&self, duration: Ns, from: f64, to: f64) -> Result<(), String> {
        let stage = plan::stage(duration, from, to)?;
        let room = |stages: usize| (stages < MOST_STAGES).then_some(stages + 1);
        if self.stages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(format!("a run has at most {MOST_STAGES} stages"));
        }
        self.tell(&Control::Append(stage));
        Ok(())
    }

    /// What the workers are doing.
    pub fn snapshot(&self) -> Snapshot {
        let sum =
            |of: fn(&Gauge) -> &AtomicU64| self.gauges.iter().map(|gauge| of(gauge).load(Ordering::Relaxed)).sum();
        Snapshot {
            at: self.clock.now(),
            in_flight: sum(|gauge| &gauge.in_flight),
            users: sum(|gauge| &gauge.users),
            connections: sum(|gauge| &gauge.connections),
            sent: sum(|gauge| &gauge.sent),
            ended: sum(|gauge| &gauge.ended),
        }
    }

    fn tell(&self, control: &Control) {
        for (ear, waker) in &self.ears {
            // A worker that has ended hears nothing, and need not.
            if ear.send(control.clone()).is_ok() {
                let _ = waker.wake();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(0);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// When the first `limit` arrivals of an open plan are due, this process's share of them.
pub fn schedule(plan: &str, limit: usize) -> Result<Vec<Ns>, String> {
    let program = Plan::parse(plan)?.compile()?;
    let timeline = Timeline::beginning_at(program.begin, &program.stages);
    let (index, of) = program.share;
    let mut arrivals = Arrivals::new(program.uniform, program.seed, index.into(), of.into());
    let mut due = Vec::new();
    while due.len() < limit {
        let Some(arrival) = arrivals.peek(&timeline) else { break };
        arrivals.take();
        due.push(timeline.actual(arrival.at));
    }
    Ok(due)
}

/// Seconds as nanoseconds, for callers that have seconds. Not a number, and what is out of range, becomes the nearest end.
pub fn seconds(value: f64) -> Ns {
    (value * SECOND as f64).clamp(0.0, 1e18) as Ns
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("for no stated reason")
}
