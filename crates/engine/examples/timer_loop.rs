//! A loop that waits for moments and does nothing else: how late this machine wakes a thread that asks for the time.
//!
//!     timer_loop RATE SECONDS
//!
//! Prints how late the wake-ups were, in ns. What an engine's start lag is above this is the engine's own.

use std::error::Error;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd;
use surgeline_engine::clock::{Clock, monotonic};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rate: i64 = arguments.next().ok_or("RATE is missing")?.parse()?;
    let seconds: i64 = arguments.next().ok_or("SECONDS is missing")?.parse()?;
    let clock = Clock::anchored(monotonic());
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let timer = rustix::time::timerfd_create(
        rustix::time::TimerfdClockId::Monotonic,
        rustix::time::TimerfdFlags::NONBLOCK | rustix::time::TimerfdFlags::CLOEXEC,
    )?;
    poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), Token(0), Interest::READABLE)?;
    let mut late: Vec<i64> = Vec::with_capacity((rate * seconds) as usize);
    for number in 1..=rate * seconds {
        let due = number * 1_000_000_000 / rate;
        if clock.now() < due {
            let at = clock.absolute(due);
            let at = rustix::time::Timespec { tv_sec: at / 1_000_000_000, tv_nsec: at % 1_000_000_000 };
            let never = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            let spec = rustix::time::Itimerspec { it_interval: never, it_value: at };
            rustix::time::timerfd_settime(&timer, rustix::time::TimerfdTimerFlags::ABSTIME, &spec)?;
            poll.poll(&mut events, Some(Duration::from_secs(1)))?;
        }
        late.push(clock.now() - due);
    }
    late.sort_unstable();
    let at = |q: f64| late[((late.len() - 1) as f64 * q) as usize];
    println!("{{\"p50_ns\": {}, \"p99_ns\": {}, \"max_ns\": {}}}", at(0.5), at(0.99), at(1.0));
    Ok(())
}
