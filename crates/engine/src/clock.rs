//! What time it is: nanoseconds since the run's anchor, on the monotonic clock.
//!
//! Everything the engine writes down is in this one scale. The wall clock is read for the `{{now}}` templates and
//! nowhere else.

use rustix::time::{ClockId, clock_gettime};

/// A moment or a duration, ns. Moments count from the run's start and may be negative before it.
pub type Ns = i64;

/// Nanoseconds in a second.
pub const SECOND: Ns = 1_000_000_000;

/// Reads `CLOCK_MONOTONIC` relative to the run's anchor.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Ns,
}

impl Clock {
    /// A clock whose zero is the `CLOCK_MONOTONIC` reading `monotonic_ns`.
    pub fn anchored(monotonic_ns: Ns) -> Self {
        Self { anchor: monotonic_ns }
    }

    /// Now.
    #[inline]
    pub fn now(self) -> Ns {
        monotonic() - self.anchor
    }

    /// The `CLOCK_MONOTONIC` reading at `at`.
    pub fn absolute(self, at: Ns) -> Ns {
        at + self.anchor
    }
}

/// `CLOCK_MONOTONIC`, ns.
#[inline]
pub fn monotonic() -> Ns {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * SECOND + now.tv_nsec
}

/// The wall clock: ns since 1970.
pub fn wall() -> Ns {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * SECOND + now.tv_nsec
}
