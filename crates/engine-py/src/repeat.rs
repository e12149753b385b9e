//! Requests of a Locust session that have been sent before: sent again, wrapped and reported in one call.
//!
//! Most requests of a locustfile are like one before them. The session puts a request together once (`Shot`) and says what
//! it depended on (`Repeater.stand`: attributes that must be what they were, dictionaries that must hold what they held).
//! As long as that stands, `get` looks the request up, sends it, switches to the hub, makes the response and tells who
//! listens (`Ears`). Whatever is unusual is the session's own: it is asked by `request`, `_get`, `_care` and, where geventhttpclient's way is followed, `_broken_off`.

use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyList, PyString, PyTuple, PyType};
use surgeline_engine::clock::{monotonic, wall};

use crate::client::{Answer, Client, Exchanged, Tally};

/// The number of a name in somebody's statistics.
struct Number {
    tally: Py<Tally>,
    epoch: u64,
    name: Py<PyAny>,
    number: u32,
}

/// A request without a body, put together.
#[pyclass(frozen, module = "surgeline._engine")]
pub struct Shot {
    /// As Locust shows it.
    #[pyo3(get)]
    pub method: Py<PyString>,
    /// As the user gave it.
    #[pyo3(get)]
    url: Py<PyAny>,
    /// As Locust shows it.
    #[pyo3(get)]
    pub built_url: Py<PyString>,
    /// Its bytes.
    #[pyo3(get)]
    wire: Py<PyBytes>,
    /// What the session wants to remember with it.
    #[pyo3(get)]
    asked: Py<PyAny>,
    client: Py<Client>,
    pool: u32,
    bodyless: bool,
    connect_ns: i64,
    silence_ns: i64,
    gate: Option<(Py<PyAny>, Py<PyAny>)>,
    numbered: Mutex<Option<Number>>,
}

#[pymethods]
impl Shot {
    /// `gate` is a semaphore that is held while the request is under way.
    #[new]
    #[allow(clippy::too_many_arguments)] // Python's side of a border: made once, from values of many kinds
    fn new(
        method: Py<PyString>,
        url: Py<PyAny>,
        built_url: Py<PyString>,
        wire: Py<PyBytes>,
        asked: Py<PyAny>,
        client: Py<Client>,
        pool: u32,
        bodyless: bool,
        connect_ns: i64,
        silence_ns: i64,
        gate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let gate = match gate {
            None => None,
            Some(gate) => Some((gate.getattr("acquire")?.unbind(), gate.getattr("release")?.unbind())),
        };
        let numbered = Mutex::new(None);
        Ok(Self { method, url, built_url, wire, asked, client, pool, bodyless, connect_ns, silence_ns, gate, numbered })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.asked)
    }
}

impl Shot {
    /// Sends it and waits. None where not even a connection could be begun.
    fn exchange<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Answer>>> {
        let (py, shot) = (slf.py(), slf.get());
        if let Some((acquire, _)) = &shot.gate {
            acquire.call0(py)?;
        }
        let client = shot.client.bind(py);
        let request = shot.wire.as_bytes(py);
        let (connect, silence) = (shot.connect_ns, shot.silence_ns);
        let told = Client::exchange(client, shot.pool, request, shot.bodyless, connect, silence, Some((slf, name)));
        if let Some((_, release)) = &shot.gate {
            release.call0(py)?;
        }
        match told? {
            Exchanged::Answer(answer) => Ok(Some(answer)),
            Exchanged::Unsent(_) => Ok(None),
        }
    }

    /// The number of its name in statistics that `waiting` keeps.
    fn number(&self, py: Python<'_>, tally: &Py<Tally>, waiting: &Py<PyAny>, name: &Bound<'_, PyAny>) -> PyResult<u32> {
        let epoch = tally.borrow(py).epoch;
        if let Ok(numbered) = self.numbered.lock() {
            if let Some(known) = &*numbered {
                if known.tally.is(tally) && known.epoch == epoch && known.name.is(name) {
                    return Ok(known.number);
                }
            }
        }
        let number = waiting.call_method1(py, intern!(py, "number"), (self.method.bind(py), name))?.extract(py)?;
        let known =
            Number { tally: tally.clone_ref(py), epoch: tally.borrow(py).epoch, name: name.clone().unbind(), number };
        // What was known is dropped behind the lock: dropping may run code.
        let before = self.numbered.lock().ok().and_then(|mut numbered| numbered.replace(known));
        drop(before);
        Ok(number)
    }
}

enum Ear {
    /// Locust's statistics: what they would do is kept in a tally.
    Statistics(Py<Tally>, Py<PyAny>),
    /// The plugin, which takes answers.
    Plugin(Py<PyAny>),
    /// Anybody else.
    Listener(Py<PyAny>),
}

/// Those who are told of requests, in their order.
#[pyclass(module = "surgeline._engine")]
pub struct Ears {
    event: Py<PyDict>,
    module: Py<PyDict>,
    bucket: Option<Py<PyAny>>,
    again: Py<PyAny>,
    failed: Py<PyAny>,
    seen: Vec<Py<PyAny>>,
    ears: Arc<Vec<Ear>>,
    deaf: bool,
}

#[pymethods]
impl Ears {
    /// `event` are the attributes of Locust's event hook, `statistics` the names of `locust.stats`. `again` is called when
    /// other listeners are there than those that `hear` was told of, `failed` with what a listener raised: true where it
    /// is to be raised.
    #[new]
    fn new(event: Py<PyDict>, statistics: Py<PyDict>, again: Py<PyAny>, failed: Py<PyAny>) -> Self {
        let (seen, ears) = (Vec::new(), Arc::new(Vec::new()));
        Self { event, module: statistics, bucket: None, again, failed, seen, ears, deaf: true }
    }

    /// The listeners, and who each is: (tally, its owner, None), (None, None, plugin), or three times None.
    #[allow(clippy::type_complexity)] // read once, on the other side of the border
    fn hear(
        &mut self,
        py: Python<'_>,
        listeners: Vec<(Py<PyAny>, Option<Py<Tally>>, Option<Py<PyAny>>, Option<Py<PyAny>>)>,
    ) -> PyResult<()> {
        self.seen = listeners.iter().map(|(listener, ..)| listener.clone_ref(py)).collect();
        let ears = listeners.into_iter().map(|told| match told {
            (_, Some(tally), Some(waiting), _) => Ear::Statistics(tally, waiting),
            (_, _, _, Some(plugin)) => Ear::Plugin(plugin),
            (listener, ..) => Ear::Listener(listener),
        });
        self.ears = Arc::new(ears.collect());
        self.bucket = self.module.bind(py).get_item(intern!(py, "bucket_response_time"))?.map(Bound::unbind);
        self.deaf = false;
        Ok(())
    }
}

impl Ears {
    /// Whether the listeners are those that `hear` was told of.
    fn stand(&self, py: Python<'_>) -> PyResult<bool> {
        if self.deaf || !holds(py, &self.module, intern!(py, "bucket_response_time"), self.bucket.as_ref())? {
            return Ok(false);
        }
        let Some(listeners) = self.event.bind(py).get_item(intern!(py, "_handlers"))? else { return Ok(false) };
        let listeners = listeners.cast::<PyList>()?;
        Ok(listeners.len() == self.seen.len() && listeners.iter().zip(&self.seen).all(|(one, other)| other.is(&one)))
    }

    /// Tells everybody of a plain success.
    fn tell(
        slf: &Bound<'_, Self>,
        shot: &Shot,
        name: &Bound<'_, PyAny>,
        answer: &Bound<'_, Answer>,
        response: &Bound<'_, PyAny>,
        plain: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        if !slf.borrow().stand(py)? {
            let again = slf.borrow().again.clone_ref(py);
            again.call0(py)?;
        }
        let ears = Arc::clone(&slf.borrow().ears);
        let told = answer.get();
        let (ms, length) = (told.milliseconds(), told.length(py));
        let mut event = None;
        for ear in ears.iter() {
            let heard = match ear {
                Ear::Statistics(tally, waiting) => count(py, shot, name, tally, waiting, ms, length as i64),
                Ear::Plugin(plugin) => {
                    let (method, url) = (shot.method.bind(py), shot.built_url.bind(py));
                    let told = (method, name, url, answer, told.begun(), py.None(), 0, response);
                    plugin.call_method1(py, intern!(py, "on_answer"), told).map(|_| ())
                }
                Ear::Listener(listener) => {
                    if event.is_none() {
                        event = Some(the_event(shot, name, told, response, plain)?);
                    }
                    listener.bind(py).call((), event.as_ref()).map(|_| ())
                }
            };
            if let Err(error) = heard {
                let failed = slf.borrow().failed.clone_ref(py);
                if failed.call1(py, (error.clone_ref(py).into_value(py),))?.is_truthy(py)? {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Adds a request to what waits for Locust's statistics.
fn count(
    py: Python<'_>,
    shot: &Shot,
    name: &Bound<'_, PyAny>,
    tally: &Py<Tally>,
    waiting: &Py<PyAny>,
    ms: f64,
    length: i64,
) -> PyResult<()> {
    let number = shot.number(py, tally, waiting, name)?;
    if !tally.borrow_mut(py).add(number, ms, length) {
        waiting.call_method0(py, intern!(py, "flush"))?;
        tally.borrow_mut(py).add(number, ms, length);
    }
    Ok(())
}

/// The fields of Locust's `request` event, in the order in which its client gives them.
fn the_event<'py>(
    shot: &Shot,
    name: &Bound<'py, PyAny>,
    answer: &Answer,
    response: &Bound<'py, PyAny>,
    plain: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let py = name.py();
    let event = PyDict::new(py);
    let ms = PyFloat::new(py, answer.milliseconds());
    let began = (wall() - (monotonic() - answer.begun())) as f64 / 1e9;
    event.set_item(intern!(py, "request_type"), shot.method.bind(py))?;
    if plain {
        event.set_item(intern!(py, "response_time"), &ms)?;
    }
    event.set_item(intern!(py, "name"), name)?;
    event.set_item(intern!(py, "context"), PyDict::new(py))?;
    event.set_item(intern!(py, "response"), response)?;
    event.set_item(intern!(py, "exception"), py.None())?;
    event.set_item(intern!(py, "start_time"), PyFloat::new(py, began))?;
    event.set_item(intern!(py, "url"), shot.built_url.bind(py))?;
    event.set_item(intern!(py, "response_length"), answer.length(py))?;
    if !plain {
        event.set_item(intern!(py, "response_time"), &ms)?;
    }
    Ok(event)
}

/// Whether a dictionary has this very object under a key; None for nothing.
fn holds(py: Python<'_>, dict: &Py<PyDict>, key: &Bound<'_, PyString>, value: Option<&Py<PyAny>>) -> PyResult<bool> {
    Ok(match (dict.bind(py).get_item(key)?, value) {
        (None, None) => true,
        (Some(found), Some(value)) => value.is(&found),
        _ => false,
    })
}

struct Stake {
    dict: Py<PyDict>,
    key: Py<PyString>,
    value: Option<Py<PyAny>>,
}

/// What a dictionary held.
struct Held {
    dict: Py<PyDict>,
    items: Vec<(Py<PyAny>, Py<PyAny>)>,
}

/// What a session's requests are sent and reported with.
struct Way {
    attributes: Py<PyDict>,
    ears: Py<Ears>,
    response: Py<PyType>,
    plain: bool,
}

/// A session's requests that have been sent before; what a session inherits from.
#[pyclass(subclass, module = "surgeline._engine")]
#[derive(Default)]
pub struct Repeater {
    way: Option<Way>,
    stands: bool,
    stakes: Vec<Stake>,
    held: Vec<Held>,
    empty: Vec<Py<PyList>>,
    until: Option<f64>,
    shots: Vec<(Py<PyString>, Py<PyDict>)>,
}

#[pymethods]
impl Repeater {
    /// Takes and ignores what the other bases are made of.
    #[new]
    #[pyo3(signature = (*_given, **_named))]
    fn new(_given: &Bound<'_, PyTuple>, _named: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// `attributes` are the session's, `response` the class of responses, which nothing is given but an `answer`; `plain`
    /// is requests' way instead of geventhttpclient's.
    #[pyo3(name = "_repeat_with")]
    fn repeat_with(
        &mut self,
        attributes: Py<PyDict>,
        ears: Py<Ears>,
        response: &Bound<'_, PyType>,
        plain: bool,
    ) -> PyResult<()> {
        let object = response.py().get_type::<PyAny>();
        if !response.getattr("__new__")?.is(&object.getattr("__new__")?) {
            return Err(PyTypeError::new_err("responses are made as plain objects are"));
        }
        self.way = Some(Way { attributes, ears, response: response.clone().unbind(), plain });
        Ok(())
    }

    /// From now on requests are as they are now as long as each of these attributes (by the dictionary that has it) is
    /// what it is, each of the dictionaries `held` has what it has, each of the lists is empty, and the wall clock is not
    /// at `until` (s). What was kept is forgotten.
    #[pyo3(name = "_stand")]
    fn stand(
        &mut self,
        stakes: Vec<(Bound<'_, PyDict>, Bound<'_, PyString>)>,
        held: Vec<Bound<'_, PyDict>>,
        empty: Vec<Py<PyList>>,
        until: Option<f64>,
    ) -> PyResult<()> {
        self.forget();
        for (dict, key) in stakes {
            let value = dict.get_item(&key)?.map(Bound::unbind);
            self.stakes.push(Stake { dict: dict.unbind(), key: key.unbind(), value });
        }
        for dict in held {
            let items = dict.iter().map(|(key, value)| (key.unbind(), value.unbind())).collect();
            self.held.push(Held { dict: dict.unbind(), items });
        }
        self.empty = empty;
        self.until = until;
        self.stands = true;
        Ok(())
    }

    /// Whether requests would still be as they were at the last `_stand`.
    #[pyo3(name = "_stands")]
    fn still_stands(&self, py: Python<'_>) -> PyResult<bool> {
        if !self.stands {
            return Ok(false);
        }
        for Stake { dict, key, value } in &self.stakes {
            if !holds(py, dict, key.bind(py), value.as_ref())? {
                return Ok(false);
            }
        }
        for Held { dict, items } in &self.held {
            let dict = dict.bind(py);
            if dict.len() != items.len() {
                return Ok(false);
            }
            for (key, value) in items {
                if !dict.get_item(key)?.is_some_and(|found| value.is(&found)) {
                    return Ok(false);
                }
            }
        }
        let empty = self.empty.iter().all(|list| list.bind(py).is_empty());
        Ok(empty && self.until.is_none_or(|until| (wall() as f64) < until * 1e9))
    }

    /// Keeps a request that has been put together as things stand; of at most so many.
    #[pyo3(name = "_keep")]
    fn keep(&mut self, py: Python<'_>, shot: &Bound<'_, Shot>, most: usize) -> PyResult<()> {
        let (method, url) = (shot.get().method.bind(py), shot.get().url.bind(py));
        let place = self.place(py, method.as_any()).unwrap_or_else(|| {
            self.shots.push((method.clone().unbind(), PyDict::new(py).unbind()));
            self.shots.len() - 1
        });
        let kept = self.shots[place].1.bind(py);
        if kept.len() >= most {
            kept.clear();
        }
        kept.set_item(url, shot)
    }

    /// A request that was kept and is still as it was; None without one.
    #[pyo3(name = "_kept")]
    fn kept<'py>(
        slf: &Bound<'py, Self>,
        method: &Bound<'py, PyAny>,
        url: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, Shot>>> {
        let py = slf.py();
        {
            let this = slf.borrow();
            let Some(place) = this.place(py, method) else { return Ok(None) };
            // What cannot be a key has not been kept.
            let Ok(Some(shot)) = this.shots[place].1.bind(py).get_item(url) else { return Ok(None) };
            if this.still_stands(py)? {
                return Ok(Some(shot.cast_into()?));
            }
        }
        let forgotten = std::mem::take(&mut slf.borrow_mut().shots);
        drop(forgotten);
        Ok(None)
    }

    /// Sends a request that was kept, and gives its answer; None where not even a connection could be begun.
    #[pyo3(name = "_exchange")]
    fn exchange<'py>(
        _slf: &Bound<'py, Self>,
        shot: &Bound<'py, Shot>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, Answer>>> {
        Shot::exchange(shot, name)
    }

    /// Sends a request that was kept, tells everybody, and gives the response; None where nothing was sent.
    #[pyo3(name = "_repeat")]
    fn repeat<'py>(
        slf: &Bound<'py, Self>,
        shot: &Bound<'py, Shot>,
        name: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let (ears, response, plain, renamed) = {
            let this = slf.borrow();
            let Some(Way { attributes, ears, response, plain }) = &this.way else { return Ok(None) };
            let renamed = match name.is_truthy()? {
                true => None,
                false => attributes.bind(py).get_item(intern!(py, "request_name"))?,
            };
            (ears.clone_ref(py), response.clone_ref(py), *plain, renamed)
        };
        let given = renamed.as_ref().filter(|renamed| renamed.is_truthy().unwrap_or(false)).unwrap_or(name);
        let known = shot.get();
        let shown = if given.is_truthy()? { given } else { known.url.bind(py) };
        let answer = match Shot::exchange(shot, shown) {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(None),
            Err(error) if !plain => {
                let told = (shot, error.into_value(py), given);
                return slf.call_method1(intern!(py, "_broken_off"), told).map(Some);
            }
            Err(error) => return Err(error),
        };
        if !answer.get().plain_status().is_some_and(|status| is_fine(status, plain)) {
            return slf.call_method1(intern!(py, "_care"), (shot, answer, given)).map(Some);
        }
        let response = bare(response.bind(py))?;
        response.setattr(intern!(py, "_native"), &answer)?;
        Ears::tell(ears.bind(py), known, shown, &answer, &response, plain)?;
        Ok(Some(response))
    }

    /// As the session's `_get`.
    #[pyo3(signature = (url, **named))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        url: &Bound<'py, PyAny>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let name = match named {
            None => Some(py.None().into_bound(py)),
            Some(named) if named.len() == 1 => named.get_item(intern!(py, "name"))?,
            Some(_) => None,
        };
        if let Some(name) = name {
            if let Some(shot) = Self::kept(slf, intern!(py, "GET").as_any(), url)? {
                if let Some(response) = Self::repeat(slf, &shot, &name)? {
                    return Ok(response);
                }
            }
        }
        slf.call_method(intern!(py, "_get"), (url,), named)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(way) = &self.way {
            visit.call(&way.attributes)?;
            visit.call(&way.ears)?;
        }
        for Stake { dict, value, .. } in &self.stakes {
            visit.call(dict)?;
            visit.call(value)?;
        }
        for Held { dict, items } in &self.held {
            visit.call(dict)?;
            for (key, value) in items {
                visit.call(key)?;
                visit.call(value)?;
            }
        }
        for list in &self.empty {
            visit.call(list)?;
        }
        for (_, shots) in &self.shots {
            visit.call(shots)?;
        }
        Ok(())
    }

    fn __clear__(&mut self) {
        self.way = None;
        self.forget();
    }
}

impl Repeater {
    /// Where the requests of a method are kept.
    fn place(&self, py: Python<'_>, method: &Bound<'_, PyAny>) -> Option<usize> {
        let same = |known: &Py<PyString>| known.is(method) || known.bind(py).as_any().eq(method).unwrap_or(false);
        self.shots.iter().position(|(known, _)| same(known))
    }

    fn forget(&mut self) {
        self.stands = false;
        self.stakes.clear();
        self.held.clear();
        self.empty.clear();
        self.shots.clear();
    }
}

/// Whether a status is neither a failure nor a redirect.
fn is_fine(status: u16, plain: bool) -> bool {
    match plain {
        true => status < 400 && !matches!(status, 301 | 302 | 303 | 307 | 308),
        false => matches!(status, 200..=208 | 226 | 304),
    }
}

/// An object of a class whose `__init__` is not called.
fn bare<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the class makes its objects as `object` does, which `_repeat_with` has seen: by this very function. What
    // comes back is a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyType_GenericAlloc(class.as_type_ptr(), 0)) }
}
