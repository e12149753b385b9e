//! `surgeline_engine::client` for gevent's hub: greenlets wait, answers come back as Python objects.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use surgeline_engine::client::{self, Numbers, Sample};
use surgeline_engine::clock::{Clock, Ns, monotonic};
use surgeline_engine::conn::Phases;
use surgeline_engine::histogram::Histogram;
use surgeline_engine::http1;
use surgeline_engine::outcome::Kind;
use surgeline_engine::tls::Tls;

use crate::host;

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
}

#[pymethods]
impl Answer {
    /// From begin to end.
    #[getter]
    fn milliseconds(&self) -> f64 {
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

/// The connections of one process. Belongs to the thread that made it.
#[pyclass(unsendable, module = "surgeline._engine")]
pub struct Client {
    inner: client::Client<Py<PyAny>>,
    ready: VecDeque<(Py<PyAny>, Py<Answer>)>,
    wake: Py<PyAny>,
    woken: bool,
    lag: Histogram,
    trust: HashMap<(String, bool, Option<String>), Arc<Tls>>,
}

#[pymethods]
impl Client {
    /// `wake` is called when `ask` has found answers: it has `next` called soon, from the hub.
    #[new]
    fn new(wake: Py<PyAny>) -> PyResult<Self> {
        let inner = client::Client::new(Clock::anchored(0), host::stamps()).map_err(failed)?;
        Ok(Self { inner, ready: VecDeque::new(), wake, woken: false, lag: Histogram::default(), trust: HashMap::new() })
    }

    /// Readable when `collect` has something to do.
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

    /// Sends a request; the number to cancel it by, or below zero -1 - the number of the kind that prevented it. New
    /// connections may take `connect_ns`, then the target may be silent for `silence_ns`.
    #[allow(clippy::too_many_arguments)] // Python's side of a border: all of them differ from call to call
    fn ask(
        &mut self,
        py: Python<'_>,
        pool: u32,
        waiter: Py<PyAny>,
        request: &Bound<'_, PyBytes>,
        bodyless: bool,
        connect_ns: i64,
        silence_ns: i64,
    ) -> PyResult<i64> {
        if self.inner.is_late() {
            self.collect(py)?;
            if !self.ready.is_empty() && !self.woken {
                self.woken = true;
                self.wake.call0(py)?;
            }
        }
        match self.inner.ask(pool, waiter, request.as_bytes(), bodyless, connect_ns, silence_ns) {
            Ok(ticket) => {
                self.inner.arm().map_err(failed)?;
                Ok(i64::from(ticket))
            }
            Err(kind) => Ok(-1 - kind as i64),
        }
    }

    /// Reads what has come, for `next`.
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
            };
            match Py::new(py, answer) {
                Ok(answer) => ready.push_back((waiter, answer)),
                Err(error) => fault = Some(error),
            }
        });
        read.map_err(failed)?;
        fault.map_or(Ok(()), Err)
    }

    /// Who waited, and the answer; None when there is none.
    fn next(&mut self) -> Option<(Py<PyAny>, Py<Answer>)> {
        let Some((waiter, answer)) = self.ready.pop_front() else {
            self.woken = false;
            return None;
        };
        self.lag.record(monotonic() - answer.get().end);
        Some((waiter, answer))
    }

    /// Gives up an exchange, its connection is closed; begin and phases so far, None where the answer had come.
    fn cancel(&mut self, ticket: u32) -> Option<(Ns, Ns)> {
        if let Some(place) = self.ready.iter().position(|(_, answer)| answer.get().ticket == ticket) {
            self.ready.remove(place);
            return None;
        }
        let completion = self.inner.cancel(ticket)?;
        Some((completion.end - total(&completion.phases), completion.end))
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
pub struct Tally(client::Tally);

#[pymethods]
impl Tally {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Whether something waits.
    fn __bool__(&self) -> bool {
        !self.0.is_empty()
    }

    /// Adds a request. False, and nothing is done, where what waits is of another second: take that first.
    fn add(&mut self, name: u32, ms: f64, length: i64) -> bool {
        self.0.add(name, ms, length)
    }

    /// (second, time of the last, [(name, count, total, least, greatest, length, {bucket: count})]); nothing is left.
    #[allow(clippy::type_complexity)] // read once, on the other side of the border
    fn take<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<(i64, f64, Vec<(u32, i64, f64, f64, f64, i64, Bound<'py, PyDict>)>)> {
        let (second, last) = (self.0.second, self.0.last as f64 / 1e9);
        let mut told = Vec::new();
        for (name, sums) in self.0.take() {
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
