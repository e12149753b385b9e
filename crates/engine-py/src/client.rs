//! `surgeline_engine::client` for gevent's hub: greenlets wait, answers come back as Python objects.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use surgeline_engine::client::{self, Numbers, Sample};
use surgeline_engine::clock::{Clock, Ns, monotonic};
use surgeline_engine::conn::Phases;
use surgeline_engine::histogram::Histogram;
use surgeline_engine::http1;
use surgeline_engine::outcome::Kind;
use surgeline_engine::tls::Tls;

use crate::host;
use crate::repeat::Shot;

/// The end of an exchange. Times are CLOCK_MONOTONIC, ns.
#[pyclass(frozen, module = "surgeline._engine")]
pub struct Answer {
    /// 0 where no whole head came.
    #[pyo3(get)]
    status: u16,
    /// The kind word of what went wrong; None where a whole answer came.
    #[pyo3(get)]
    error: Option<&'static str>,
    /// When the request was begun.
    #[pyo3(get)]
    begin: Ns,
    /// When the last byte came, by the kernel's stamp where there is one, or when it went wrong.
    #[pyo3(get)]
    end: Ns,
    /// The head has a `Set-Cookie`.
    #[pyo3(get)]
    sets_cookie: bool,
    /// The body is encoded.
    #[pyo3(get)]
    encoded: bool,
    /// The connection had served before.
    #[pyo3(get)]
    reused: bool,
    /// The connection was reset.
    #[pyo3(get)]
    reset: bool,
    /// Of HTTP/1.minor.
    #[pyo3(get)]
    minor: u8,
    /// Bytes sent.
    #[pyo3(get)]
    bytes_out: u64,
    /// Bytes received.
    #[pyo3(get)]
    bytes_in: u64,
    /// The head's bytes.
    #[pyo3(get)]
    head: Py<PyBytes>,
    /// The body's bytes without their framing.
    #[pyo3(get)]
    body: Py<PyBytes>,
    phases: Phases,
    ticket: u32,
    /// The request that was repeated; None for any other.
    #[pyo3(get)]
    shot: Option<Py<Shot>>,
    /// The name under which it was repeated.
    #[pyo3(get)]
    name: Option<Py<PyAny>>,
}

impl Answer {
    /// The status, where a whole answer came that neither sets a cookie nor is encoded.
    pub fn plain_status(&self) -> Option<u16> {
        (self.error.is_none() && !self.sets_cookie && !self.encoded).then_some(self.status)
    }

    /// When its request was begun.
    pub fn begun(&self) -> Ns {
        self.begin
    }

    /// How long its body is.
    pub fn length(&self, py: Python<'_>) -> usize {
        self.body.as_bytes(py).len()
    }
}

#[pymethods]
impl Answer {
    /// From begin to end.
    #[getter]
    pub fn milliseconds(&self) -> f64 {
        (self.end - self.begin) as f64 / 1e6
    }

    /// From begin to the first byte; to the end where none came.
    #[getter]
    fn first_byte_s(&self) -> f64 {
        let after = if self.phases.receive >= 0 { self.phases.receive } else { 0 };
        (self.end - self.begin - after) as f64 / 1e9
    }

    /// connect, tls, send, wait, receive in ns; -1 for what did not happen.
    #[getter]
    fn phases(&self) -> (Ns, Ns, Ns, Ns, Ns) {
        let phases = &self.phases;
        (phases.connect, phases.tls, phases.send, phases.wait, phases.receive)
    }

    /// Names and values in their order, as Latin-1.
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let mut result = Ok(());
        http1::each_header(self.head.as_bytes(py), |name, value| {
            if result.is_ok() {
                result = list.append((name, latin(value)));
            }
        });
        result.map(|()| list)
    }

    /// The first value of a header, as Latin-1; None without one. `name` in any case.
    fn header(&self, py: Python<'_>, name: &str) -> Option<String> {
        let mut found = None;
        http1::each_header(self.head.as_bytes(py), |other, value| {
            if found.is_none() && other.eq_ignore_ascii_case(name) {
                found = Some(latin(value));
            }
        });
        found
    }
}

fn latin(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Who waits for an answer, and of a request that is repeated what it is, as what, and since when.
pub struct Waiter {
    greenlet: Py<PyAny>,
    shot: Option<(Py<Shot>, Py<PyAny>, Ns)>,
}

type Ready = (Waiter, Py<Answer>);

/// The connections of one process. Belongs to the thread that made it.
#[pyclass(unsendable, module = "surgeline._engine")]
pub struct Client {
    inner: client::Client<Waiter>,
    ready: VecDeque<Ready>,
    wake: Py<PyAny>,
    switch: Py<PyAny>,
    current: Py<PyAny>,
    woken: bool,
    /// Exchanges that have been waited for: when this has changed, the hub has had its turn.
    #[pyo3(get)]
    waits: u64,
    lag: Histogram,
    trust: HashMap<(String, bool, Option<String>), Arc<Tls>>,
}

/// An exchange of `Client::exchange` that is not waited for any more.
pub enum Exchanged<'py> {
    Answer(Bound<'py, Answer>),
    /// Not even a connection could be begun.
    Unsent(i64),
}

impl Client {
    /// Sends a request and waits for its answer: switches to the hub, with nothing borrowed. `repeated` says the name
    /// under which a `Shot` is sent.
    #[allow(clippy::too_many_arguments)] // all of them differ from call to call
    pub fn exchange<'py>(
        slf: &Bound<'py, Self>,
        pool: u32,
        request: &[u8],
        bodyless: bool,
        connect_ns: Ns,
        silence_ns: Ns,
        repeated: Option<(&Bound<'py, Shot>, &Bound<'py, PyAny>)>,
    ) -> PyResult<Exchanged<'py>> {
        let py = slf.py();
        let (begun, ticket, switch) = {
            let mut client = slf.borrow_mut();
            let mut now = client.inner.now();
            if client.inner.is_late(now) {
                client.collect(py)?;
                client.wake_up(py)?;
                now = client.inner.now();
            }
            let greenlet = client.current.call0(py)?;
            let shot = repeated.map(|(shot, name)| (shot.clone().unbind(), name.clone().unbind(), now));
            let waiter = Waiter { greenlet, shot };
            match client.inner.ask(now, pool, waiter, request, bodyless, connect_ns, silence_ns) {
                Ok(ticket) => {
                    client.inner.arm().map_err(failed)?;
                    (now, ticket, client.switch.clone_ref(py))
                }
                Err(kind) => return Ok(Exchanged::Unsent(-1 - kind as i64)),
            }
        };
        let answer = switch.call0(py);
        let mut client = slf.borrow_mut();
        client.waits += 1;
        let answer = answer.and_then(|answer| Ok(answer.into_bound(py).cast_into::<Answer>()?));
        match answer {
            Ok(answer) => Ok(Exchanged::Answer(answer)),
            Err(error) => {
                client.cancel(py, ticket)?;
                // For whoever reports it; an exception without attributes goes without.
                let _ = error.value(py).setattr(intern!(py, "surgeline_begin_ns"), begun);
                Err(error)
            }
        }
    }

    /// Has `hand_out` called soon, where there is something for it.
    fn wake_up(&mut self, py: Python<'_>) -> PyResult<()> {
        if !self.ready.is_empty() && !self.woken {
            self.woken = true;
            self.wake.call0(py)?;
        }
        Ok(())
    }

    /// Gives up the exchange that this greenlet waits for: its connection is closed. Another's may have the same number
    /// by now, where the answer has come.
    fn cancel(&mut self, py: Python<'_>, ticket: u32) -> PyResult<()> {
        let current = self.current.call0(py)?;
        let mine = |(waiter, answer): &Ready| answer.get().ticket == ticket && waiter.greenlet.is(&current);
        if let Some(place) = self.ready.iter().position(mine) {
            self.ready.remove(place);
        } else {
            self.inner.cancel(ticket);
        }
        Ok(())
    }

    /// Reads what has come, for `hand_out`.
    fn collect(&mut self, py: Python<'_>) -> PyResult<()> {
        let ready = &mut self.ready;
        let mut fault = None;
        let read = self.inner.collect(|waiter, completion, head, body| {
            let answer = Answer {
                status: completion.status,
                error: completion.error.map(Kind::word),
                begin: completion.end - total(&completion.phases),
                end: completion.end,
                sets_cookie: completion.sets_cookie,
                encoded: completion.encoded,
                reused: completion.reused,
                reset: completion.reset,
                minor: completion.minor,
                bytes_out: completion.bytes_out,
                bytes_in: completion.bytes_in,
                head: PyBytes::new(py, head).unbind(),
                body: PyBytes::new(py, body).unbind(),
                phases: completion.phases,
                ticket: completion.owner,
                shot: waiter.shot.as_ref().map(|(shot, ..)| shot.clone_ref(py)),
                name: waiter.shot.as_ref().map(|(_, name, _)| name.clone_ref(py)),
            };
            match Py::new(py, answer) {
                Ok(answer) => ready.push_back((waiter, answer)),
                Err(error) => fault = Some(error),
            }
        });
        read.map_err(failed)?;
        fault.map_or(Ok(()), Err)
    }

    fn next(&mut self) -> Option<Ready> {
        let (waiter, answer) = self.ready.pop_front()?;
        self.lag.record(monotonic() - answer.get().end);
        Some((waiter, answer))
    }
}

#[pymethods]
impl Client {
    /// `wake` is called when answers were found outside of the hub: it has `hand_out` called from there soon. `switch`
    /// switches to the hub, `current` gives the current greenlet.
    #[new]
    fn new(wake: Py<PyAny>, switch: Py<PyAny>, current: Py<PyAny>) -> PyResult<Self> {
        let inner = client::Client::new(Clock::anchored(0), host::stamps()).map_err(failed)?;
        let (ready, lag, trust) = (VecDeque::new(), Histogram::default(), HashMap::new());
        Ok(Self { inner, ready, wake, switch, current, woken: false, waits: 0, lag, trust })
    }

    /// Readable when `serve` has something to do.
    #[getter]
    fn fd(&self) -> i32 {
        self.inner.fd()
    }

    /// Exchanges without an answer.
    #[getter]
    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }

    /// Connections that are open.
    #[getter]
    fn connections(&self) -> usize {
        self.inner.connections()
    }

    /// How often the wall clock moved, so that receive time stamps were discarded.
    #[getter]
    fn moved(&self) -> u64 {
        self.inner.clock_moves()
    }

    /// A pool of connections to an address; over TLS where the server's name is given. ValueError with a sentence.
    #[pyo3(signature = (address, port, server_name=None, insecure=false, ca_file=None))]
    fn open_pool(
        &mut self,
        address: &str,
        port: u16,
        server_name: Option<String>,
        insecure: bool,
        ca_file: Option<String>,
    ) -> PyResult<u32> {
        let address: IpAddr =
            address.parse().map_err(|_| PyValueError::new_err(format!("{address} is no IP address")))?;
        let tls = match server_name {
            None => None,
            Some(name) => {
                let key = (name, insecure, ca_file);
                if !self.trust.contains_key(&key) {
                    let tls = Tls::with(&key.0, insecure, key.2.as_deref()).map_err(PyValueError::new_err)?;
                    self.trust.insert(key.clone(), Arc::new(tls));
                }
                self.trust.get(&key).cloned()
            }
        };
        Ok(self.inner.open_pool(SocketAddr::new(address, port), tls))
    }

    /// Closes the idle connections of a pool.
    fn close_pool(&mut self, pool: u32) {
        self.inner.close_pool(pool);
    }

    /// Sends a request and waits, as this greenlet, for what becomes of it; below zero -1 - the number of the kind that
    /// prevented it. New connections may take `connect_ns`, then the target may be silent for `silence_ns`.
    #[pyo3(name = "exchange")]
    fn exchange_bytes<'py>(
        slf: &Bound<'py, Self>,
        pool: u32,
        request: &Bound<'py, PyBytes>,
        bodyless: bool,
        connect_ns: i64,
        silence_ns: i64,
    ) -> PyResult<Bound<'py, PyAny>> {
        match Self::exchange(slf, pool, request.as_bytes(), bodyless, connect_ns, silence_ns, None)? {
            Exchanged::Answer(answer) => Ok(answer.into_any()),
            Exchanged::Unsent(kind) => Ok(kind.into_pyobject(slf.py())?.into_any()),
        }
    }

    /// What the hub calls when `fd` is readable.
    fn serve(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.borrow_mut().collect(slf.py())?;
        Self::hand_out(slf)
    }

    /// Switches to each of those whose answers have come until now, from the hub.
    fn hand_out(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        // Who is switched to may ask again, and find more answers doing so: those wait until the hub has had its turn.
        let count = slf.borrow().ready.len();
        for _ in 0..count {
            let Some((waiter, answer)) = slf.borrow_mut().next() else { break };
            if let Err(error) = waiter.greenlet.bind(py).call_method1(intern!(py, "switch"), (answer,)) {
                let mut client = slf.borrow_mut();
                client.woken = false;
                client.wake_up(py)?;
                return Err(error);
            }
        }
        let mut client = slf.borrow_mut();
        client.woken = false;
        client.wake_up(py)
    }

    /// What a greenlet waits for, of those requests that are repeated: (method, name, URL, when it was begun).
    fn asked_by<'py>(&self, py: Python<'py>, greenlet: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let ready = self.ready.iter().map(|(waiter, _)| waiter);
        let Some(waiter) = self.inner.waiting().chain(ready).find(|waiter| waiter.greenlet.is(greenlet)) else {
            return Ok(None);
        };
        let Some((shot, name, begin)) = &waiter.shot else { return Ok(None) };
        let shot = shot.get();
        let told = (shot.method.bind(py), name.bind(py), shot.built_url.bind(py), begin);
        told.into_pyobject(py).map(Some)
    }

    /// How late answers were seen since the last call: median, p99, greatest, ns; None where there were none.
    fn take_lag(&mut self) -> Option<(i64, i64, i64)> {
        let told = (self.lag.quantile(0.5)?, self.lag.quantile(0.99)?, self.lag.max);
        self.lag.clear();
        Some(told)
    }
}

fn total(phases: &Phases) -> Ns {
    [phases.connect, phases.tls, phases.send, phases.wait, phases.receive].into_iter().filter(|part| *part > 0).sum()
}

fn failed(error: io::Error) -> PyErr {
    PyOSError::new_err(error.to_string())
}

/// The word of the kind that `Client.ask` told by a number below zero.
#[pyfunction]
pub fn kind_word(number: i64) -> &'static str {
    usize::try_from(-1 - number).ok().and_then(|place| Kind::ALL.get(place)).map_or("engine_fault", |kind| kind.word())
}

/// Requests for the journal, kept until they are read.
#[pyclass(module = "surgeline._engine")]
#[derive(Default)]
pub struct Samples(client::Samples);

#[pymethods]
impl Samples {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Adds a request that ended with `answer`, begun at `start_ns`. `anchor_ns` is the run's zero.
    #[allow(clippy::too_many_arguments)] // as above
    #[pyo3(signature = (anchor_ns, endpoint, scenario, user, method, url, start_ns, answer, status, outcome, error, hops, timing))]
    fn add(
        &mut self,
        anchor_ns: i64,
        endpoint: &str,
        scenario: &str,
        user: i64,
        method: &str,
        url: &str,
        start_ns: i64,
        answer: &Answer,
        status: u16,
        outcome: u8,
        error: &str,
        hops: i64,
        timing: &str,
    ) {
        let numbers = Numbers {
            user,
            start: start_ns,
            end: answer.end,
            phases: answer.phases,
            status,
            outcome,
            bytes_out: answer.bytes_out as i64,
            bytes_in: answer.bytes_in as i64,
            reused: u8::from(answer.reused),
            minor: if answer.status == 0 { 255 } else { answer.minor },
            hops,
        };
        self.0.add(Sample { endpoint, scenario, method, url, error, timing, numbers }, anchor_ns);
    }

    /// What has come since the last call, as (kind, payload) of frames; the first row gets the number `first`.
    fn take<'py>(&mut self, py: Python<'py>, first: i64, worker: &str) -> Vec<(u8, Bound<'py, PyBytes>)> {
        let frames = self.0.take(first, worker);
        frames.into_iter().map(|(kind, payload)| (kind as u8, PyBytes::new(py, &payload))).collect()
    }
}

/// Requests by name that have not been added to Locust's statistics.
#[pyclass(module = "surgeline._engine")]
#[derive(Default)]
pub struct Tally {
    sums: client::Tally,
    /// How often all numbers were given anew.
    pub epoch: u64,
}

#[pymethods]
impl Tally {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Whether something waits.
    fn __bool__(&self) -> bool {
        !self.sums.is_empty()
    }

    /// Adds a request. False, and nothing is done, where what waits is of another second: take that first.
    pub fn add(&mut self, name: u32, ms: f64, length: i64) -> bool {
        self.sums.add(name, ms, length)
    }

    /// From now on numbers mean other names. Nothing may wait.
    fn rename(&mut self) {
        self.sums = client::Tally::default();
        self.epoch += 1;
    }

    /// (second, time of the last, [(name, count, total, least, greatest, length, {bucket: count})]); nothing is left.
    #[allow(clippy::type_complexity)] // read once, on the other side of the border
    fn take<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<(i64, f64, Vec<(u32, i64, f64, f64, f64, i64, Bound<'py, PyDict>)>)> {
        let (second, last) = (self.sums.second, self.sums.last as f64 / 1e9);
        let mut told = Vec::new();
        for (name, sums) in self.sums.take() {
            let buckets = PyDict::new(py);
            for (bucket, count) in &sums.buckets {
                buckets.set_item(bucket, count)?;
            }
            told.push((name, sums.count, sums.total_ms, sums.min_ms, sums.max_ms, sums.length, buckets));
        }
        Ok((second, last, told))
    }
}

/// Locust's own rounding of a response time, for comparison with it.
#[pyfunction]
pub fn locust_bucket(ms: f64) -> i64 {
    client::bucket(ms)
}
