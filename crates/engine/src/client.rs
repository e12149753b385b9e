//! Exchanges that are asked for one at a time, by an event loop of somebody else's.
//!
//! `Client` owns the connections of one process and sorts them into pools, one for each user and origin. Who asks leaves
//! something to be called by (`W`), and gets it back with the answer from `collect`, which is to be called when `fd`
//! becomes readable; `ask` looks too when that was a while ago. `Samples` and `Tally` keep what came of it until somebody
//! reads: rows, windows and counts for the journal, sums by name for statistics in Locust's form.
//!
//! Answers end when the kernel received their last byte, where it tells (`Receive`). Its stamps are wall clock. The offset
//! to the clock is read whenever answers are collected; where it has moved since the last time, the stamps in between mean
//! one of two things, and are not used.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use crate::clock::{Clock, Ns, SECOND, wall};
use crate::conn::{Completion, ConnId, Connections, Exchange, Payload, Phases};
use crate::histogram::Histogram;
use crate::host::Stamps;
use crate::outcome::{Kind, Outcome};
use crate::record::add_histograms;
use crate::secret::Secrets;
use crate::table::{Frame, Table};
use crate::tls::Tls;
use crate::way::Way;

/// Idle connections that a pool keeps: as many as the clients that this one stands in for.
const MOST_IDLE: usize = 10;
/// `ask` looks for what has come when nobody has for this long: a loop that is busy with its users' code comes late.
const LATE: Ns = 1_000_000;

struct Pool {
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    idle: Vec<ConnId>,
}

struct Call<W> {
    waiter: W,
    pool: u32,
    conn: ConnId,
    ticket: u32,
}

/// The exchanges of one process.
pub struct Client<W> {
    conns: Connections,
    clock: Clock,
    pools: Vec<Option<Pool>>,
    calls: Vec<Option<Call<W>>>,
    free: Vec<u32>,
    in_flight: usize,
    looked: Ns,
}

impl<W> Client<W> {
    /// Without connections. Answers end when they are read, or, with `stamps`, when the kernel received them.
    pub fn new(clock: Clock, stamps: Option<Stamps>) -> io::Result<Self> {
        let mut conns = Connections::new(clock, Way::nowhere(), None, u64::MAX)?;
        if let Some(stamps) = stamps {
            conns.read_stamps(stamps);
        }
        Ok(Self {
            conns,
            clock,
            pools: Vec::new(),
            calls: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            looked: clock.now(),
        })
    }

    /// Readable when there is something to collect.
    pub fn fd(&self) -> RawFd {
        self.conns.fd()
    }

    /// Exchanges that have been asked for and not ended.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How often receive time stamps were discarded because the wall clock had moved.
    pub fn clock_moves(&self) -> u64 {
        self.conns.clock_moves()
    }

    /// Connections that are open or opening.
    pub fn connections(&self) -> usize {
        self.conns.open()
    }

    /// A pool of connections to an address.
    pub fn open_pool(&mut self, address: SocketAddr, tls: Option<Arc<Tls>>) -> u32 {
        let pool = Some(Pool { address, tls, idle: Vec::new() });
        match self.pools.iter().position(Option::is_none) {
            Some(place) if self.pools.len() >= 64 => {
                self.pools[place] = pool;
                place as u32
            }
            _ => {
                self.pools.push(pool);
                self.pools.len() as u32 - 1
            }
        }
    }

    /// Closes the idle connections of a pool. It must not be used again.
    pub fn close_pool(&mut self, pool: u32) {
        if let Some(pool) = self.pools.get_mut(pool as usize).and_then(Option::take) {
            pool.idle.into_iter().for_each(|id| self.conns.close(id));
        }
    }

    /// Sends a request on the pool's most recent connection, or on a new one, and returns the number to cancel it by.
    /// The error is of a connection that could not even be begun. A new connection may take `connect`; then the target
    /// may be silent for `silence`. Both in ns. `begin` is now, as its caller has read it off `now`.
    #[allow(clippy::too_many_arguments)] // all of them differ from call to call
    pub fn ask(
        &mut self,
        begin: Ns,
        pool: u32,
        waiter: W,
        request: &[u8],
        bodyless: bool,
        connect: Ns,
        silence: Ns,
    ) -> Result<u32, Kind> {
        let Some(Some(Pool { address, tls, idle })) = self.pools.get_mut(pool as usize) else {
            return Err(Kind::EngineFault);
        };
        let mut kept = None;
        while let Some(id) = idle.pop() {
            if self.conns.is_open(id) {
                kept = Some(id);
                break;
            }
        }
        let (conn, patience) = match kept {
            Some(id) => (id, silence),
            None => (self.conns.acquire_to(*address, tls.clone())?, connect),
        };
        let owner = self.free.pop().unwrap_or_else(|| {
            self.calls.push(None);
            self.calls.len() as u32 - 1
        });
        self.calls[owner as usize] = Some(Call { waiter, pool, conn, ticket: owner });
        self.in_flight += 1;
        let deadline = begin.saturating_add(patience);
        let exchange = Exchange { owner, begin, deadline, keep: usize::MAX, bodyless, piecewise: false };
        self.conns.send(conn, Payload::Shared(request), exchange);
        self.conns.set_silence(conn, silence);
        Ok(owner)
    }

    /// The client's clock.
    pub fn now(&self) -> Ns {
        self.clock.now()
    }

    /// Whether `collect` should be called at `now` although nobody said that there is something.
    pub fn is_late(&self, now: Ns) -> bool {
        now - self.looked > LATE
    }

    /// Who waits for an answer that has not been collected.
    pub fn waiting(&self) -> impl Iterator<Item = &W> {
        self.calls.iter().flatten().map(|call| &call.waiter)
    }

    /// Has `fd` become readable when the next deadline comes; `collect` does it as well.
    pub fn arm(&mut self) -> io::Result<()> {
        self.conns.arm()
    }

    /// Gives up an exchange: its connection is closed. None where it has ended already.
    pub fn cancel(&mut self, number: u32) -> Option<Completion> {
        let call = self.calls.get_mut(number as usize)?.take()?;
        self.free.push(call.ticket);
        self.in_flight -= 1;
        self.conns.abort(call.conn, number)
    }

    /// Takes what has ended: who waited, how it ended, head and body of the answer.
    pub fn collect(&mut self, mut take: impl FnMut(W, &Completion, &[u8], &[u8])) -> io::Result<()> {
        self.conns.wait(Ns::MIN)?;
        while let Some(completion) = self.conns.next_completion() {
            let Some(call) = self.calls.get_mut(completion.owner as usize).and_then(Option::take) else { continue };
            self.free.push(completion.owner);
            self.in_flight -= 1;
            take(call.waiter, &completion, self.conns.head(&completion), self.conns.body(&completion));
            if completion.open {
                match self.pools.get_mut(call.pool as usize) {
                    Some(Some(pool)) if pool.idle.len() < MOST_IDLE => pool.idle.push(completion.conn),
                    _ => self.conns.close(completion.conn),
                }
            }
        }
        self.looked = self.clock.now();
        self.conns.arm()
    }
}

/// One request, for `Samples`.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'s> {
    /// Method and name.
    pub endpoint: &'s str,
    /// The user's class.
    pub scenario: &'s str,
    /// As it was asked for.
    pub method: &'s str,
    /// As it was asked for, before any redirect.
    pub url: &'s str,
    /// Why it did not end well; empty for nothing.
    pub error: &'s str,
    /// The answer's `Server-Timing`.
    pub timing: &'s str,
    /// The rest of its row.
    pub numbers: Numbers,
}

/// What is a number of a sample. Times are of the client's clock.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    /// The user's number; -1 for none.
    pub user: i64,
    /// When it was sent.
    pub start: Ns,
    /// When it ended; -1 where it did not.
    pub end: Ns,
    /// Where the time went, on the last connection.
    pub phases: Phases,
    /// Of the last answer; 0 for none.
    pub status: u16,
    /// What became of it.
    pub outcome: u8,
    /// Bytes sent.
    pub bytes_out: i64,
    /// Bytes received.
    pub bytes_in: i64,
    /// 0 new connection, 1 reused, 2 not known.
    pub reused: u8,
    /// Of HTTP/1.minor; 255 without an answer.
    pub minor: u8,
    /// Redirects that were followed.
    pub hops: i64,
}

struct Kept {
    texts: [u32; 6],
    numbers: Numbers,
}

#[derive(Default)]
struct Window {
    count: i64,
    bytes_in: i64,
    bytes_out: i64,
    service: Histogram,
}

/// Rows, windows and counts that have not been read.
#[derive(Default)]
pub struct Samples {
    places: HashMap<String, u32>,
    texts: Vec<String>,
    rows: Vec<Kept>,
    windows: HashMap<(i32, u32, u8), Window>,
    counts: HashMap<(i32, u32), [i64; 3]>,
}

const NOT_SENT: u8 = Outcome::NotSent as u8;
const ABORTED: u8 = Outcome::Aborted as u8;

impl Samples {
    fn text(&mut self, text: &str) -> u32 {
        if let Some(place) = self.places.get(text) {
            return *place;
        }
        let place = self.texts.len() as u32;
        self.texts.push(text.to_owned());
        self.places.insert(text.to_owned(), place);
        place
    }

    /// Adds a request: a row, its window, and its counts. `anchor` is the run's zero on the client's clock.
    pub fn add(&mut self, sample: Sample<'_>, anchor: Ns) {
        let texts = [sample.endpoint, sample.scenario, sample.method, sample.url, sample.error, sample.timing]
            .map(|text| self.text(text));
        let told = sample.numbers;
        let start = (told.start - anchor).max(0);
        let end = if told.end < 0 { -1 } else { told.end - told.start + start };
        let second = (start / SECOND) as i32;
        let unsent = told.outcome == NOT_SENT;
        let counts = self.counts.entry((second, texts[0])).or_default();
        counts[0] += 1;
        counts[1] += i64::from(!unsent);
        counts[2] += told.hops;
        let window = self.windows.entry((second, texts[0], told.outcome)).or_default();
        window.count += 1;
        window.bytes_in += told.bytes_in;
        window.bytes_out += told.bytes_out;
        if !unsent && told.outcome != ABORTED && end >= 0 {
            window.service.record(end - start);
        }
        self.rows.push(Kept { texts, numbers: Numbers { start, end, ..told } });
    }

    /// Rows that have not been read.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What has come since the last time, as frames of the journal; the first row gets the number `first`.
    pub fn take(&mut self, first: i64, worker: &str) -> Vec<(Frame, Vec<u8>)> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let frames = vec![
            (Frame::Counts, self.encode_counts()),
            (Frame::Rows, self.encode_rows(first, worker)),
            (Frame::Windows, self.encode_windows()),
        ];
        self.rows.clear();
        self.counts.clear();
        self.windows.clear();
        // Scripts that put ids into their URLs have no end of texts.
        if self.texts.len() > 10_000 {
            self.texts.clear();
            self.places.clear();
        }
        frames
    }

    fn encode_rows(&self, first: i64, worker: &str) -> Vec<u8> {
        let rows = || self.rows.iter();
        let numbers = || self.rows.iter().map(|row| &row.numbers);
        let text = |code: usize| self.texts[code].as_str();
        let column = |place: usize| self.rows.iter().map(move |row| row.texts[place] as usize);
        let begun = |row: &Numbers| if row.outcome == NOT_SENT { -1 } else { row.start };
        let mut table = Table::new(self.rows.len());
        table.i64("seq", first..first + self.rows.len() as i64);
        table.texts("endpoint", column(0), text);
        table.texts("scenario", column(1), text);
        table.i32("stage", rows().map(|_| 0));
        table.i64("user", numbers().map(|row| row.user));
        table.i64("iteration", rows().map(|_| -1));
        table.texts("worker", rows().map(|_| 0), |_| worker);
        table.texts("method", column(2), text);
        table.texts("url", column(3), text);
        table.i64("intended_ns", numbers().map(|row| row.start));
        table.i64("start_ns", numbers().map(begun));
        table.i64("end_ns", numbers().map(|row| if row.outcome == NOT_SENT { -1 } else { row.end }));
        // Whoever asks brings addresses; what finding them took is not known here.
        table.i64("dns_ns", rows().map(|_| -1));
        table.i64("connect_ns", numbers().map(|row| row.phases.connect));
        table.i64("tls_ns", numbers().map(|row| row.phases.tls));
        table.i64("send_ns", numbers().map(|row| row.phases.send));
        table.i64("wait_ns", numbers().map(|row| row.phases.wait));
        table.i64("receive_ns", numbers().map(|row| row.phases.receive));
        table.i32("status", numbers().map(|row| i32::from(row.status)));
        table.u8("outcome", numbers().map(|row| row.outcome));
        table.texts("error", column(4), text);
        table.i64("bytes_out", numbers().map(|row| row.bytes_out));
        table.i64("bytes_in", numbers().map(|row| row.bytes_in));
        table.u8("reused", numbers().map(|row| row.reused));
        table.texts("protocol", numbers().map(|row| usize::from(row.minor)), |minor| match minor {
            0 => "HTTP/1.0",
            1 => "HTTP/1.1",
            _ => "",
        });
        table.free_texts(
            "server_timing",
            &Secrets::default(),
            rows().map(|row| text(row.texts[5] as usize).as_bytes()),
        );
        table.finish()
    }

    fn encode_counts(&self) -> Vec<u8> {
        let mut used: Vec<_> = self.counts.iter().collect();
        used.sort_by_key(|(key, _)| **key);
        let mut table = Table::new(used.len());
        table.i32("second", used.iter().map(|(key, _)| key.0));
        table.i32("stage", used.iter().map(|_| 0));
        table.texts("endpoint", used.iter().map(|(key, _)| key.1 as usize), |code| &self.texts[code]);
        for (place, name) in ["due", "sent", "hops"].into_iter().enumerate() {
            table.i64(name, used.iter().map(|(_, counts)| counts[place]));
        }
        table.finish()
    }

    fn encode_windows(&self) -> Vec<u8> {
        let mut used: Vec<_> = self.windows.iter().collect();
        used.sort_by_key(|(key, _)| **key);
        let mut table = Table::new(used.len());
        table.i32("second", used.iter().map(|(key, _)| key.0));
        table.i32("stage", used.iter().map(|_| 0));
        table.texts("endpoint", used.iter().map(|(key, _)| key.1 as usize), |code| &self.texts[code]);
        table.u8("outcome", used.iter().map(|(key, _)| key.2));
        table.i64("count", used.iter().map(|(_, window)| window.count));
        table.i64("bytes_in", used.iter().map(|(_, window)| window.bytes_in));
        table.i64("bytes_out", used.iter().map(|(_, window)| window.bytes_out));
        // No due moment is known: the one is the other.
        for side in ["response", "service"] {
            add_histograms(&mut table, side, used.iter().map(|(_, window)| &window.service));
        }
        table.finish()
    }
}

/// Sums of one name, in Locust's form: milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Requests.
    pub count: i64,
    /// Of their times.
    pub total_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Of their lengths.
    pub length: i64,
    /// How many had each rounded time.
    pub buckets: HashMap<i64, i64>,
}

/// Requests by name, of one second of the wall clock, that have not been added to Locust's statistics.
#[derive(Debug, Default)]
pub struct Tally {
    sums: Vec<Sums>,
    used: Vec<u32>,
    /// The second they belong to.
    pub second: i64,
    /// The wall clock at the last of them, ns.
    pub last: Ns,
}

impl Tally {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Adds a request of the name with this number. False, and nothing is done, where what waits is of another second.
    pub fn add(&mut self, name: u32, ms: f64, length: i64) -> bool {
        let now = wall();
        let second = now / SECOND;
        if second != self.second {
            if !self.used.is_empty() {
                return false;
            }
            self.second = second;
        }
        self.last = now;
        let place = name as usize;
        if self.sums.len() <= place {
            self.sums.resize_with(place + 1, Sums::default);
        }
        let sums = &mut self.sums[place];
        if sums.count == 0 {
            self.used.push(name);
            (sums.min_ms, sums.max_ms) = (ms, ms);
        }
        sums.count += 1;
        sums.total_ms += ms;
        sums.min_ms = sums.min_ms.min(ms);
        sums.max_ms = sums.max_ms.max(ms);
        sums.length += length;
        *sums.buckets.entry(bucket(ms)).or_insert(0) += 1;
        true
    }

    /// What waits, by number of the name; nothing does afterwards.
    pub fn take(&mut self) -> Vec<(u32, Sums)> {
        let used = std::mem::take(&mut self.used);
        used.into_iter().map(|name| (name, std::mem::take(&mut self.sums[name as usize]))).collect()
    }
}

/// Locust's `bucket_response_time`: two significant digits above 100, halves to even, as Python's `round` does.
pub fn bucket(ms: f64) -> i64 {
    let step = match ms {
        _ if ms < 100.0 => return ms.round_ties_even() as i64,
        _ if ms < 1000.0 => 10.0,
        _ if ms < 10000.0 => 100.0,
        _ => 1000.0,
    };
    let rest = ms % step;
    let below = ((ms - rest) / step) as i64;
    let up = rest > step / 2.0 || (rest == step / 2.0 && below % 2 == 1);
    (below + i64::from(up)) * step as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halves go to the even neighbour, at every size.
    #[test]
    fn buckets_are_locusts() {
        let told: Vec<i64> =
            [0.5, 1.5, 99.6, 105.0, 115.0, 125.00000000000001, 147.0, 3432.0, 3450.0, 58760.0].map(bucket).to_vec();
        assert_eq!(told, [0, 2, 100, 100, 120, 130, 150, 3400, 3400, 59000]);
    }

    /// What is taken is gone, and of one second only.
    #[test]
    fn tallies_are_taken_once() {
        let mut tally = Tally::default();
        assert!(tally.add(3, 1.0, 10) && !tally.is_empty());
        tally.add(3, 3.0, 10);
        let taken = tally.take();
        assert_eq!(taken.len(), 1);
        assert!(tally.is_empty() && tally.take().is_empty());
        let (name, sums) = &taken[0];
        assert_eq!((*name, sums.total_ms / sums.count as f64 >= 1.0), (3, true));
    }
}
