//! Runs a plan and reads what the engine wrote, with a decoder of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use surgeline_engine::clock::monotonic;
use surgeline_engine::run::Running;
use surgeline_engine::sink::Next;
use surgeline_engine::table::Frame;

/// One millisecond.
pub const MS: i64 = 1_000_000;

/// A closed plan of one user for `ms`, one GET of `path`; tests change what they are about.
pub fn plan(port: u16, path: &str, ms: i64) -> Value {
    json!({
        "version": 1, "run_id": "test", "seed": 42, "workers": 1, "share": {"index": 0, "of": 1},
        "target": {
            "scheme": "http", "host": "127.0.0.1", "port": port, "host_header": format!("127.0.0.1:{port}"),
            "addresses": ["127.0.0.1"], "sni": null, "insecure": false, "ca_file": null
        },
        "headers": [["user-agent", "surgeline-test"]],
        "timeout_ns": 2_000 * MS, "max_redirects": 5, "max_in_flight": 1000, "grace_ns": 5_000 * MS,
        "max_body_bytes": 1 << 20, "clock_monotonic_ns": monotonic() + 10 * MS, "variables": {},
        "endpoints": ["one"],
        "scenarios": [{"name": "only", "weight": 1, "think_time_ns": null,
                       "steps": [{"endpoint": 0, "method": "GET", "path": path}]}],
        "workload": {"model": "closed", "stages": [{"duration_ns": ms * MS, "from": 1, "to": 1}]}
    })
}

/// `count` evenly spaced arrivals in `ms`.
pub fn open(count: i64, ms: i64) -> Value {
    let rate = count as f64 * 1000.0 / ms as f64;
    json!({"model": "open", "arrivals": "uniform", "stages": [{"duration_ns": ms * MS, "from": rate, "to": rate}]})
}

/// The value of one cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<u32>),
}

impl Cell {
    pub fn int(&self) -> i64 {
        match self {
            Cell::Int(value) => *value,
            other => panic!("{other:?} is no whole number"),
        }
    }

    pub fn text(&self) -> &str {
        match self {
            Cell::Text(value) => value,
            other => panic!("{other:?} is no text"),
        }
    }

    pub fn list(&self) -> &[u32] {
        match self {
            Cell::List(value) => value,
            other => panic!("{other:?} is no list"),
        }
    }
}

/// A row of a table, by column.
pub type Record = BTreeMap<String, Cell>;

/// Everything that a run wrote.
#[derive(Default, Debug)]
pub struct Written {
    pub rows: Vec<Record>,
    pub windows: Vec<Record>,
    pub counts: Vec<Record>,
    pub health: Vec<Record>,
    pub events: Vec<Value>,
    pub exchanges: Vec<Value>,
    pub messages: Vec<Record>,
}

impl Written {
    pub fn add(&mut self, kind: Frame, payload: &[u8]) {
        match kind {
            Frame::Rows => self.rows.extend(decode(payload)),
            Frame::Windows => self.windows.extend(decode(payload)),
            Frame::Counts => self.counts.extend(decode(payload)),
            Frame::Health => self.health.extend(decode(payload)),
            Frame::Event => self.events.push(serde_json::from_slice(payload).unwrap()),
            Frame::Exchange => self.exchanges.push(serde_json::from_slice(payload).unwrap()),
            Frame::Transactions => {}
            Frame::Messages => self.messages.extend(decode(payload)),
        }
    }

    /// How often each error text occurs; "" is ok.
    pub fn errors(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row["error"].text()).or_default() += 1);
        counts
    }

    /// The only error text of all rows.
    pub fn only_error(&self) -> &str {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.into_keys().next().unwrap()
    }

    pub fn outcomes(&self) -> BTreeMap<i64, i64> {
        let mut counts = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row["outcome"].int()).or_default() += 1);
        counts
    }

    pub fn column(&self, name: &str) -> Vec<i64> {
        self.rows.iter().map(|row| row[name].int()).collect()
    }

    pub fn count(&self, name: &str) -> i64 {
        self.counts.iter().map(|count| count[name].int()).sum()
    }

    pub fn reading(&self, metric: &str) -> Vec<f64> {
        let of_metric = self.health.iter().filter(|reading| reading["metric"].text() == metric);
        of_metric
            .map(|reading| match reading["value"] {
                Cell::Float(value) => value,
                _ => panic!("{reading:?}"),
            })
            .collect()
    }

    /// The server read as many requests as were sent, hops included, but for those that found no connection or a closed
    /// one: whether these were read depends on which of the two was quicker.
    pub fn check_reached(&self, reached: usize) {
        let errors = self.errors();
        let lost = ["stale_connection", "write_failed", "connect_timeout", "connect_refused"]
            .map(|kind| errors.get(kind).copied().unwrap_or(0));
        let sent = (self.count("sent") + self.count("hops")) as usize;
        assert!((sent - lost.iter().sum::<usize>()..=sent).contains(&reached), "{reached} of {sent}: {errors:?}");
    }

    /// The books balance, the windows are the fold of the rows, and phases add up to the service time.
    pub fn check(&self) {
        let outcomes = self.outcomes();
        let of = |outcome: i64| outcomes.get(&outcome).copied().unwrap_or(0);
        assert_eq!(self.rows.len() as i64, self.count("due"), "rows = due");
        assert_eq!(self.count("due"), self.count("sent") + of(4), "due = sent + not sent");
        assert_eq!(self.count("sent"), of(0) + of(1) + of(2) + of(3) + of(5), "sent = sum of outcomes");
        assert_eq!(merged(&self.windows), folded(&self.rows), "windows = fold of rows");
        let mut numbers = self.column("seq");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), self.rows.len(), "each row has its own number");
        let hops = self.count("hops");
        for row in &self.rows {
            let at = |name: &str| row[name].int();
            let due_second = at("intended_ns").div_euclid(1_000_000_000);
            assert!(due_second >= 0);
            if matches!(at("outcome"), 0..=3) {
                let names = ["dns_ns", "connect_ns", "tls_ns", "send_ns", "wait_ns", "receive_ns"];
                let phases: Vec<i64> = names.iter().map(|name| at(name)).collect();
                let sum: i64 = phases.iter().filter(|phase| **phase > 0).sum();
                let service = at("end_ns") - at("start_ns");
                assert!(phases.iter().all(|phase| *phase >= -1), "{row:?}");
                // Between two hops of a redirect lies time that belongs to neither, as long as the machine lets it be.
                assert!(if hops == 0 { sum == service } else { sum <= service }, "{sum} of {service}: {row:?}");
                assert!(at("start_ns") >= at("intended_ns"), "{row:?}");
            }
        }
    }
}

type Sums = (i64, i64, i64, i64, i64, i64, BTreeMap<u32, u32>);
type Merged = BTreeMap<(i64, i64, String, i64), (i64, i64, i64, Vec<Sums>)>;

fn merged(windows: &[Record]) -> Merged {
    let mut all = Merged::new();
    for window in windows {
        let at = |name: &str| window[name].int();
        let key = (at("second"), at("stage"), window["endpoint"].text().to_owned(), at("outcome"));
        let empty = || (0, 0, -1, -1, 0, 0, BTreeMap::new());
        let (count, bytes_in, bytes_out, sides) = all.entry(key).or_insert_with(|| (0, 0, 0, vec![empty(), empty()]));
        *count += at("count");
        *bytes_in += at("bytes_in");
        *bytes_out += at("bytes_out");
        for (side, sums) in ["response", "service"].iter().zip(sides) {
            let (sum, min, max) =
                (at(&format!("{side}_sum_ns")), at(&format!("{side}_min_ns")), at(&format!("{side}_max_ns")));
            sums.0 += sum;
            sums.2 = if sums.2 < 0 {
                min
            } else if min < 0 {
                sums.2
            } else {
                sums.2.min(min)
            };
            sums.3 = sums.3.max(max);
            let (index, count) = (&window[&format!("{side}_index")], &window[&format!("{side}_count")]);
            assert!(index.list().windows(2).all(|pair| pair[0] < pair[1]), "indices ascend");
            for (index, count) in index.list().iter().zip(count.list()) {
                *sums.6.entry(*index).or_default() += count;
            }
        }
    }
    all
}

fn folded(rows: &[Record]) -> Merged {
    let mut windows = Vec::new();
    for row in rows {
        let at = |name: &str| row[name].int();
        let mut window = Record::new();
        let mut put = |name: &str, value: i64| window.insert(name.into(), Cell::Int(value));
        put("second", at("intended_ns").div_euclid(1_000_000_000));
        put("stage", at("stage"));
        put("outcome", at("outcome"));
        put("count", 1);
        put("bytes_in", at("bytes_in"));
        put("bytes_out", at("bytes_out"));
        let timed = at("outcome") < 4;
        for (side, from) in [("response", "intended_ns"), ("service", "start_ns")] {
            let value = if timed { at("end_ns") - at(from) } else { -1 };
            window.insert(format!("{side}_sum_ns"), Cell::Int(value.max(0)));
            window.insert(format!("{side}_min_ns"), Cell::Int(value));
            window.insert(format!("{side}_max_ns"), Cell::Int(value));
            let index = surgeline_engine::histogram::index(value);
            window.insert(format!("{side}_index"), Cell::List(if timed { vec![index] } else { vec![] }));
            window.insert(format!("{side}_count"), Cell::List(if timed { vec![1] } else { vec![] }));
        }
        window.insert("endpoint".into(), row["endpoint"].clone());
        windows.push(window);
    }
    merged(&windows)
}

/// Starts a plan.
pub fn start(plan: &Value) -> Running {
    Running::start(&plan.to_string()).unwrap()
}

/// Reads until the run has ended; panics when that takes longer than half a minute.
pub fn finish(running: &Running) -> Written {
    let mut written = Written::default();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "the run does not end: {:?}", running.snapshot());
        match running.next(Duration::from_millis(200)) {
            Next::Frames(frames) => frames.iter().for_each(|(kind, payload)| written.add(*kind, payload)),
            Next::Ended => return written,
            Next::Fault(fault) => panic!("{fault}"),
        }
    }
}

/// Runs a plan to its end and checks what holds for every run.
pub fn run(plan: &Value) -> Written {
    let written = finish(&start(plan));
    written.check();
    written
}

/// Waits for something, however slow this machine is today.
pub fn until(so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < limit, "it never came to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A run of users that is stopped once something is so; what is in flight then ends as it would.
pub fn run_until(plan: &Value, so: impl Fn() -> bool) -> Written {
    let mut plan = plan.clone();
    plan["workload"]["stages"][0]["duration_ns"] = json!(60_000 * MS);
    let running = start(&plan);
    until(so);
    running.stop(20_000 * MS);
    let written = finish(&running);
    written.check();
    written
}

fn decode(payload: &[u8]) -> Vec<Record> {
    let mut at = 0;
    let mut take = |size: usize| {
        at += size;
        &payload[at - size..at]
    };
    let rows = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
    let columns = u16::from_le_bytes(take(2).try_into().unwrap());
    let mut records = vec![Record::new(); rows];
    for _ in 0..columns {
        let size = take(1)[0] as usize;
        let name = String::from_utf8(take(size).to_vec()).unwrap();
        let kind = take(1)[0];
        let mut number = |size: usize| {
            let bytes = take(size);
            match size {
                1 => i64::from(bytes[0]),
                4 => i64::from(i32::from_le_bytes(bytes.try_into().unwrap())),
                _ => i64::from_le_bytes(bytes.try_into().unwrap()),
            }
        };
        let cells: Vec<Cell> = match kind {
            0 => (0..rows).map(|_| Cell::Int(number(8))).collect(),
            1 => (0..rows).map(|_| Cell::Int(number(4))).collect(),
            2 => (0..rows).map(|_| Cell::Int(number(1))).collect(),
            4 => (0..rows).map(|_| Cell::Float(f64::from_bits(number(8) as u64))).collect(),
            5 => {
                let texts: Vec<String> = (0..number(4))
                    .map(|_| {
                        let size = u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
                        String::from_utf8(take(size).to_vec()).unwrap()
                    })
                    .collect();
                let mut code = || u32::from_le_bytes(take(4).try_into().unwrap()) as usize;
                (0..rows).map(|_| Cell::Text(texts[code()].clone())).collect()
            }
            6 => {
                let offsets: Vec<usize> = (0..=rows).map(|_| number(4) as usize).collect();
                let flat: Vec<u32> = (0..offsets[rows]).map(|_| number(4) as u32).collect();
                offsets.windows(2).map(|pair| Cell::List(flat[pair[0]..pair[1]].to_vec())).collect()
            }
            other => panic!("type {other}"),
        };
        for (record, cell) in records.iter_mut().zip(cells) {
            record.insert(name.clone(), cell);
        }
    }
    assert_eq!(at, payload.len());
    records
}
