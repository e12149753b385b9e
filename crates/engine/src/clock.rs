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

/// Two readings of the monotonic clock with the wall clock's between them, this close, are one moment.
const ONE_MOMENT: Ns = 5_000;
/// The wall clock may leave the monotonic one by so much in a second, as slewing does, and this much by reading both.
const SLEW_PER_S: Ns = 50_000;
const UNSURE: Ns = 20_000;

/// What the wall clock is ahead of a clock, and whether it has moved.
#[derive(Debug, Default)]
pub struct Offset {
    /// The offset and when it was found.
    found: Option<(Ns, Ns)>,
    moves: u64,
}

impl Offset {
    /// Compares the clocks at `now`, which was read just before. None where the wall clock has moved since the last
    /// time: moments of its that lie between then and now mean one of two things.
    #[inline]
    pub fn look(&mut self, clock: Clock, now: Ns) -> Option<Ns> {
        match self.found {
            Some((offset, _)) if (wall() - now - offset).abs() <= ONE_MOMENT => Some(offset),
            _ => self.compare(clock),
        }
    }

    #[cold]
    fn compare(&mut self, clock: Clock) -> Option<Ns> {
        for _ in 0..3 {
            let before = clock.now();
            let told = wall();
            let after = clock.now();
            if after - before <= ONE_MOMENT {
                return self.found(told - before - (after - before) / 2, after);
            }
        }
        None
    }

    fn found(&mut self, offset: Ns, at: Ns) -> Option<Ns> {
        let last = self.found.replace((offset, at));
        let moved =
            last.is_some_and(|(last, then)| (offset - last).abs() > UNSURE + (at - then) / (SECOND / SLEW_PER_S));
        self.moves += u64::from(moved);
        (!moved).then_some(offset)
    }

    /// How often it has moved.
    pub fn moves(&self) -> u64 {
        self.moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wall clock that is slewed has not moved; one that is set has, and only until it is looked at again.
    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_drifts() {
        let mut offset = Offset::default();
        assert_eq!(offset.found(1_000, 0), Some(1_000));
        let slewed = 1_000 + SLEW_PER_S;
        assert_eq!(offset.found(slewed, SECOND), Some(slewed));
        assert_eq!(offset.found(slewed - SECOND / 2, SECOND + 1), None);
        assert_eq!(offset.found(slewed - SECOND / 2, SECOND + 2), Some(slewed - SECOND / 2));
        assert_eq!(offset.moves(), 1);
    }

    /// Looked at in a row, an offset that nobody moves stays what it is.
    #[test]
    fn an_offset_that_stays_is_not_compared_anew() {
        let clock = Clock::anchored(monotonic());
        let mut offset = Offset::default();
        let found = (0..100).filter_map(|_| offset.look(clock, clock.now())).collect::<Vec<_>>();
        assert!(found.iter().all(|one| (one - found[0]).abs() <= UNSURE), "{found:?}");
        assert_eq!(offset.moves(), 0);
    }
}
