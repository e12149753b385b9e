//! When an answer has come: as soon as the kernel had it, where the kernel says so.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use serde_json::json;
use surgeline_engine::clock::{Ns, wall};
use surgeline_engine::host::{Host, Stamps};
use surgeline_engine::run::Running;

use crate::reading::{MS, Written, finish, open, plan};
use crate::server::{Act, ok, serve};

/// How late a read comes behind its stamp.
const LATE: u64 = 80;

static PREPARED: AtomicUsize = AtomicUsize::new(0);

fn prepare(_: &TcpStream) {
    PREPARED.fetch_add(1, Ordering::SeqCst);
}

fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, buffer, rustix::net::RecvFlags::empty())?.0)
}

/// A thread that is busy with something else between the answer's coming and its reading.
fn read_late(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
    let size = read(stream, buffer)?;
    let stamp = wall();
    std::thread::sleep(Duration::from_millis(LATE));
    Ok((size, stamp))
}

/// A stamp from before the connection was there.
fn read_early(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
    Ok((read(stream, buffer)?, wall() - 3_600_000 * MS))
}

/// A socket that takes no stamps.
fn read_unstamped(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Ns)> {
    std::thread::sleep(Duration::from_millis(LATE));
    Ok((read(stream, buffer)?, 0))
}

fn run_with(receive: surgeline_engine::host::Receive) -> Written {
    let (port, _) = serve(|_| vec![Act::Pause(3), ok("x")]);
    let mut plan = plan(port, "/", 10);
    plan["workload"] = open(5, 250);
    plan["connection"] = json!({"share": "pool"});
    let host = Host { stamps: Some(Stamps { prepare, receive }), ..Host::default() };
    let before = PREPARED.load(Ordering::SeqCst);
    let written = finish(&Running::start_with(&plan.to_string(), host).unwrap());
    written.check();
    assert_eq!(written.only_error(), "");
    let opened = written.rows.iter().filter(|row| row["connect_ns"].int() >= 0).count();
    assert_eq!(PREPARED.load(Ordering::SeqCst) - before, opened, "each connection is prepared once");
    written
}

/// A generator that reads late does not blame the server; a stamp that cannot be is no time below zero; and without one,
/// an answer has come when it is read.
#[test]
fn answers_come_when_the_kernel_has_them() {
    let service = |written: &Written| -> Vec<i64> {
        written.rows.iter().map(|row| row["end_ns"].int() - row["start_ns"].int()).collect()
    };
    let late = run_with(read_late);
    // One of them at least met no delay of the machine's own.
    assert!(service(&late).iter().all(|ns| *ns >= 3 * MS), "{:?}", service(&late));
    assert!(service(&late).iter().any(|ns| *ns < LATE as i64 * MS), "{:?}", service(&late));
    let early = run_with(read_early);
    let connecting: Vec<i64> = early.column("connect_ns").iter().map(|ns| *ns.max(&0)).collect();
    assert_eq!(service(&early), connecting, "no answer comes before its request began or its connection was there");
    let unstamped = run_with(read_unstamped);
    assert!(service(&unstamped).iter().all(|ns| *ns >= LATE as i64 * MS), "{:?}", service(&unstamped));
}
