//! The request engine as the Python module `surgeline._engine`: converts, releases the GIL, maps errors; nothing else.

mod client;
mod host;
mod repeat;

use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use surgeline_engine::run::{self, seconds};
use surgeline_engine::sink::Next;
use surgeline_engine::table::Frame;

/// A run that is under way. Dropping it ends the load at once.
#[pyclass(module = "surgeline._engine")]
struct Running {
    inner: Option<run::Running>,
}

type Frames<'py> = Vec<(u8, Bound<'py, PyBytes>)>;

impl Running {
    fn inner(&self) -> PyResult<&run::Running> {
        self.inner.as_ref().ok_or_else(|| PyRuntimeError::new_err("the run was closed"))
    }
}

#[pymethods]
impl Running {
    /// Frames as (kind, payload): empty if `timeout_s` passes first, None once the run has ended and all was read.
    fn next<'py>(&self, py: Python<'py>, timeout_s: f64) -> PyResult<Option<Frames<'py>>> {
        let inner = self.inner()?;
        // Whole seconds beyond a day are a day: a timeout, not a date.
        let timeout = Duration::from_nanos(seconds(timeout_s.min(86_400.0)) as u64);
        match py.detach(|| inner.next(timeout)) {
            Next::Frames(frames) => {
                let bytes = |(kind, payload): (Frame, Vec<u8>)| (kind as u8, PyBytes::new(py, &payload));
                Ok(Some(frames.into_iter().map(bytes).collect()))
            }
            Next::Ended => Ok(None),
            Next::Fault(sentence) => Err(PyRuntimeError::new_err(format!("engine fault: {sentence}"))),
        }
    }

    /// Starts nothing more; what is in flight may end within `grace_s`, then it is aborted.
    fn stop(&self, grace_s: f64) -> PyResult<()> {
        self.inner()?.stop(seconds(grace_s));
        Ok(())
    }

    /// Starts nothing until `resume`; the schedule's clock stands still.
    fn pause(&self) -> PyResult<()> {
        self.inner()?.pause();
        Ok(())
    }

    /// Goes on where `pause` stopped.
    fn resume(&self) -> PyResult<()> {
        self.inner()?.resume();
        Ok(())
    }

    /// Multiplies the plan's rate or number of users from now on. ValueError below 0 and above 1e6.
    fn scale(&self, factor: f64) -> PyResult<()> {
        self.inner()?.scale(factor).map_err(PyValueError::new_err)
    }

    /// Goes on with the next stage; after the last that is the end. With a number only where that stage is under way.
    #[pyo3(signature = (only=None))]
    fn next_stage(&self, only: Option<usize>) -> PyResult<()> {
        self.inner()?.next_stage(only);
        Ok(())
    }

    /// Adds a stage, with its levels as in the plan, behind the last. ValueError where it is not one.
    fn append_stage(&self, duration_ns: i64, start: f64, end: f64) -> PyResult<()> {
        self.inner()?.append_stage(duration_ns, start, end).map_err(PyValueError::new_err)
    }

    /// What was wrong with requests whose rows were read since the last call: (endpoint, error, how many).
    fn failures(&self) -> PyResult<Vec<(String, String, u64)>> {
        Ok(self.inner()?.failures())
    }

    /// What the threads are doing now: at_ns, in_flight, users, connections, sent, ended.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = self.inner()?.snapshot();
        let dict = PyDict::new(py);
        dict.set_item("at_ns", now.at)?;
        dict.set_item("in_flight", now.in_flight)?;
        dict.set_item("users", now.users)?;
        dict.set_item("connections", now.connections)?;
        dict.set_item("sent", now.sent)?;
        dict.set_item("ended", now.ended)?;
        Ok(dict)
    }

    /// Ends the load at once and waits for the threads. Closing twice is closing once.
    fn close(&mut self, py: Python<'_>) {
        let inner = self.inner.take();
        py.detach(|| drop(inner));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The threads never take the GIL, so waiting for them with it held ends.
        drop(self.inner.take());
    }
}

/// Starts a plan. ValueError with one sentence where the plan cannot be run.
#[pyfunction]
fn start(py: Python<'_>, plan_json: &str) -> PyResult<Running> {
    host::keep_memory();
    let start = || run::Running::start_with(plan_json, host::host());
    let inner = py.detach(start).map_err(PyValueError::new_err)?;
    Ok(Running { inner: Some(inner) })
}

/// When the first `limit` arrivals of an open plan are due, ns.
#[pyfunction]
fn schedule(py: Python<'_>, plan_json: &str, limit: usize) -> PyResult<Vec<i64>> {
    py.detach(|| run::schedule(plan_json, limit)).map_err(PyValueError::new_err)
}

/// The bucket of a duration in ns.
#[pyfunction]
fn histogram_index(value_ns: i64) -> u32 {
    surgeline_engine::histogram::index(value_ns)
}

/// The engine's version.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The request engine.
#[pymodule]
fn _engine(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Running>()?;
    module.add_class::<client::Answer>()?;
    module.add_class::<client::Client>()?;
    module.add_class::<client::Samples>()?;
    module.add_class::<client::Tally>()?;
    module.add_class::<repeat::Ears>()?;
    module.add_class::<repeat::Repeater>()?;
    module.add_class::<repeat::Shot>()?;
    module.add_function(wrap_pyfunction!(client::kind_word, module)?)?;
    module.add_function(wrap_pyfunction!(client::locust_bucket, module)?)?;
    module.add_function(wrap_pyfunction!(start, module)?)?;
    module.add_function(wrap_pyfunction!(schedule, module)?)?;
    module.add_function(wrap_pyfunction!(histogram_index, module)?)?;
    module.add_function(wrap_pyfunction!(version, module)?)?;
    Ok(())
}
