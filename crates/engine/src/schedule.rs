//! When each request is due.
//!
//! Open model: a stage is a straight line of arrival rate over time. The number of arrivals by time t is the area under
//! that line, so arrival n comes where the area reaches its target E(n):
//!
//! ```text
//!     rate (per s)            a stage of d seconds, from a to b per second, entered with area A0:
//!       b |      /              A(t)   = A0 + a·t + (b − a)·t² / 2d
//!         |    /                t(E)   = 2x / (a + √(a² + 2(b − a)·x / d)),   x = E − A0
//!       a |  /
//!         +--------> t        written this way round, the flat stage needs no branch and nothing cancels
//! ```
//!
//! uniform: E(n) = n, n = 1, 2, 3 …; Poisson: E(n) = the sum of n draws from the unit exponential.
//!
//! Closed model: a stage is a straight line of active users over time; user u (0, 1, 2 …) is active while u < users(t).
//!
//! The operations and their order are those of the Python module `surgeline.workload`, down to the rounding: for the
//! same seed both give the same schedule. On top of it lies what an operator may do while the run lasts (pause, scale,
//! skip a stage, append one); the *timeline* carries the shift of the clock that this causes, and a schedule that nobody
//! touched is exactly Python's. Nothing here looks at a clock.

use crate::clock::{Ns, SECOND};

/// The generator of Steele, Lea and Flood (2014): 64 bits of state, part of the format.
#[derive(Clone, Debug, Default)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Any seed is as good as any other.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for (seed, stream, number): a scenario's draw, a user's think times.
    pub fn stream(seed: u64, stream: u64, number: u64) -> Self {
        let mut first = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let mut second = Self(first.next_u64().wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        Self(second.next_u64())
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In (0, 1]: never zero, so that its logarithm is finite.
    pub fn uniform(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// From the exponential distribution with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// A whole number in [low, high], evenly. `low` where the interval is empty.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        if high <= low {
            return low;
        }
        // The high half of the 128-bit product: bias below 2⁻⁶⁴ · span.
        let span = (high as i128 - low as i128 + 1) as u128;
        (low as i128 + ((u128::from(self.next_u64()) * span) >> 64) as i128) as i64
    }
}

/// A straight line of load: arrivals per second or users.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How long the stage lasts, > 0.
    pub duration: Ns,
    /// Level at its beginning, ≥ 0.
    pub from: f64,
    /// Level at its end, ≥ 0.
    pub to: f64,
}

impl Stage {
    fn area(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.duration as f64 / SECOND as f64
    }

    /// The level `elapsed` after the beginning, held at the ends outside of the stage.
    pub fn level(&self, elapsed: Ns) -> f64 {
        let share = (elapsed as f64 / self.duration as f64).clamp(0.0, 1.0);
        self.from + (self.to - self.from) * share
    }

    /// Seconds after the beginning at which `area` arrivals (0 < area ≤ the stage's) have come.
    fn seconds_to_area(&self, area: f64) -> f64 {
        let seconds = self.duration as f64 / SECOND as f64;
        let under_root = self.from * self.from + 2.0 * (self.to - self.from) * area / seconds;
        // Rounding may push the root of a stage that falls to zero below it.
        (2.0 * area / (self.from + under_root.max(0.0).sqrt())).min(seconds)
    }

    fn area_at(&self, elapsed: Ns) -> f64 {
        let seconds = elapsed.clamp(0, self.duration) as f64 / SECOND as f64;
        let whole = self.duration as f64 / SECOND as f64;
        self.from * seconds + (self.to - self.from) * seconds * seconds / (2.0 * whole)
    }
}

/// The stages, one after the other, and how far the schedule's clock has been moved against the run's.
///
/// Schedule time stands still while paused and jumps when a stage is skipped; every moment that leaves here is in the
/// run's time.
#[derive(Clone, Debug)]
pub struct Timeline {
    stages: Vec<Stage>,
    begins: Vec<Ns>,
    total: Ns,
    shift: Ns,
    paused: Option<Ns>,
}

impl Timeline {
    /// Stages from time 0 on, without gaps.
    pub fn new(stages: &[Stage]) -> Self {
        Self::beginning_at(0, stages)
    }

    /// Stages from `begin` of the run's time on, without gaps.
    pub fn beginning_at(begin: Ns, stages: &[Stage]) -> Self {
        let mut timeline = Self { stages: Vec::new(), begins: Vec::new(), total: 0, shift: begin, paused: None };
        stages.iter().for_each(|stage| timeline.append(*stage));
        timeline
    }

    /// Adds a stage behind the last.
    pub fn append(&mut self, stage: Stage) {
        self.begins.push(self.total);
        self.total += stage.duration;
        self.stages.push(stage);
    }

    /// The schedule's time at `now`.
    pub fn scheduled(&self, now: Ns) -> Ns {
        self.paused.unwrap_or(now) - self.shift
    }

    /// The run's time at which the schedule's clock shows `at`; far away while paused.
    pub fn actual(&self, at: Ns) -> Ns {
        match self.paused {
            Some(since) if at > since - self.shift => Ns::MAX,
            _ => at + self.shift,
        }
    }

    /// The end of the last stage in the run's time; far away while paused.
    pub fn end(&self) -> Ns {
        self.actual(self.total)
    }

    /// The beginning of a stage in the run's time; the end of the last for the index behind it.
    pub fn begin(&self, stage: usize) -> Ns {
        self.actual(self.begins.get(stage).copied().unwrap_or(self.total))
    }

    /// The stage that holds `now`; None before the first and after the last.
    pub fn stage_at(&self, now: Ns) -> Option<usize> {
        let at = self.scheduled(now);
        if at < 0 || at >= self.total {
            return None;
        }
        Some(self.begins.partition_point(|begin| *begin <= at) - 1)
    }

    /// The planned level at `now`; 0 outside of the run and while paused.
    pub fn level(&self, now: Ns) -> f64 {
        match self.stage_at(now) {
            Some(stage) if self.paused.is_none() => self.stages[stage].level(self.scheduled(now) - self.begins[stage]),
            _ => 0.0,
        }
    }

    /// Number of stages, appended ones included.
    pub fn len(&self) -> usize {
        self.stages.len()
    }

    /// A timeline has at least one stage once its plan was accepted.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Stops the schedule's clock. Pausing twice is pausing once.
    pub fn pause(&mut self, now: Ns) {
        self.paused.get_or_insert(now);
    }

    /// Lets the schedule's clock go on where it stopped.
    pub fn resume(&mut self, now: Ns) {
        if let Some(since) = self.paused.take() {
            self.shift += now - since;
        }
    }

    /// Whether the schedule's clock stands still.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Moves the schedule's clock to the end of the present stage; nothing before the first or after the last.
    fn skip_stage(&mut self, now: Ns) -> Option<usize> {
        let stage = self.stage_at(now)?;
        let end = self.begins[stage] + self.stages[stage].duration;
        self.shift -= end - self.scheduled(now);
        Some(stage)
    }

    /// As `Arrivals::skip_stage`, where there is no schedule of arrivals to move along.
    pub fn next_stage(&mut self, now: Ns) {
        self.skip_stage(now);
    }

    /// The first moment after `now` at which the level, times `factor`, exceeds `users` in the stage that holds `now`;
    /// None when that does not happen in this stage.
    pub fn crossing(&self, now: Ns, users: u64, factor: f64) -> Option<Ns> {
        let stage = self.stage_at(now)?;
        let line = &self.stages[stage];
        let (from, to) = (line.from * factor, line.to * factor);
        let users = users as f64;
        if to <= from || users >= to || self.is_paused() {
            return None;
        }
        let elapsed = ((users - from) / (to - from) * line.duration as f64).max(0.0).floor() as Ns + 1;
        Some(self.actual(self.begins[stage] + elapsed.min(line.duration - 1)).max(now))
    }
}

/// One arrival of the open model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When it is due, in schedule time.
    pub at: Ns,
    /// The stage whose line it lies under.
    pub stage: usize,
    /// Its number in the whole schedule, from 0; the shares of all workers count in one.
    pub number: u64,
}

/// The arrivals of one worker's share: every of-th of the whole schedule, from the index-th on.
#[derive(Clone, Debug)]
pub struct Arrivals {
    uniform: bool,
    draws: SplitMix64,
    index: u64,
    of: u64,
    /// How many arrivals of the whole schedule have been targeted.
    number: u64,
    /// E of the arrival targeted last.
    target: f64,
    stage: usize,
    area_before: f64,
    // Where the operator changed the load: base area = base_ref + (E − target_ref) / factor.
    base_ref: f64,
    target_ref: f64,
    factor: f64,
    pending: bool,
}

impl Arrivals {
    /// The share `index` of `of` of the schedule that `seed` gives.
    pub fn new(uniform: bool, seed: u64, index: u64, of: u64) -> Self {
        Self {
            uniform,
            draws: SplitMix64::new(seed),
            index,
            of,
            number: 0,
            target: 0.0,
            stage: 0,
            area_before: 0.0,
            base_ref: 0.0,
            target_ref: 0.0,
            factor: 1.0,
            pending: false,
        }
    }

    /// The next arrival of this share; None when the stages have no more. It stays the next one until `take`n.
    pub fn peek(&mut self, timeline: &Timeline) -> Option<Arrival> {
        while !self.pending {
            self.target += if self.uniform { 1.0 } else { self.draws.exponential() };
            self.number += 1;
            self.pending = (self.number - 1) % self.of == self.index;
        }
        if self.factor <= 0.0 {
            return None;
        }
        let base = self.base_ref + (self.target - self.target_ref) / self.factor;
        loop {
            let stage = timeline.stages.get(self.stage)?;
            if base <= self.area_before + stage.area() {
                let seconds = stage.seconds_to_area(base - self.area_before);
                let at = timeline.begins[self.stage] + (seconds * SECOND as f64).floor() as Ns;
                return Some(Arrival { at, stage: self.stage, number: self.number - 1 });
            }
            self.area_before += stage.area();
            self.stage += 1;
        }
    }

    /// The arrival that `peek` showed has been dealt with.
    pub fn take(&mut self) {
        self.pending = false;
    }

    /// Multiplies the rate by `factor` (of the plan's, not of the present one) from `now` on.
    pub fn scale(&mut self, timeline: &Timeline, now: Ns, factor: f64) {
        self.rebase(timeline, now);
        self.factor = factor;
    }

    /// Moves the schedule to the end of the present stage. Arrivals go on from there; those in between never were due.
    pub fn skip_stage(&mut self, timeline: &mut Timeline, now: Ns) {
        self.rebase(timeline, now);
        if timeline.skip_stage(now).is_some() {
            self.base_ref = self.base_at(timeline, now);
        }
    }

    /// Fixes the point of the line reached at `now`, so that a change there leaves the past as it was.
    fn rebase(&mut self, timeline: &Timeline, now: Ns) {
        let base = self.base_at(timeline, now);
        self.target_ref += (base - self.base_ref) * self.factor;
        self.base_ref = base;
        // The next arrival may now lie in an earlier stage than the one it was seen in.
        (self.stage, self.area_before) = (0, 0.0);
    }

    fn base_at(&self, timeline: &Timeline, now: Ns) -> f64 {
        let at = timeline.scheduled(now);
        let spent = timeline.begins.iter().zip(&timeline.stages).take_while(|(begin, _)| **begin <= at);
        spent.map(|(begin, stage)| stage.area_at(at - begin)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(arrivals: &mut Arrivals, timeline: &Timeline) -> Vec<Arrival> {
        let mut out = Vec::new();
        while let Some(arrival) = arrivals.peek(timeline) {
            arrivals.take();
            out.push(arrival);
        }
        out
    }

    fn stage(seconds: i64, from: f64, to: f64) -> Stage {
        Stage { duration: seconds * SECOND, from, to }
    }

    /// A flat 10/s with uniform arrivals is due at 0.1 s, 0.2 s … and ends with the stage, the last arrival included.
    #[test]
    fn a_flat_rate_is_evenly_spaced() {
        let timeline = Timeline::new(&[stage(2, 10.0, 10.0)]);
        let due: Vec<i64> = all(&mut Arrivals::new(true, 1, 0, 1), &timeline).iter().map(|a| a.at).collect();
        assert_eq!(due.len(), 20);
        due.iter().zip(1..).for_each(|(at, n)| assert!((at - n * SECOND / 10).abs() <= 1));
    }

    /// The number of arrivals by t is the area under the line, also through ramps, gaps of zero and falls to zero.
    #[test]
    fn arrivals_follow_the_area() {
        let stages = [stage(3, 0.0, 90.0), stage(2, 0.0, 0.0), stage(4, 50.0, 50.0), stage(2, 50.0, 0.0)];
        let timeline = Timeline::new(&stages);
        let due = all(&mut Arrivals::new(true, 1, 0, 1), &timeline);
        assert_eq!(due.len(), 135 + 200 + 50);
        assert!(due.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert_eq!(due.iter().filter(|a| a.stage == 1).count(), 0);
        let by = |t: f64| due.iter().filter(|a| a.at as f64 <= t * 1e9).count() as i64;
        for t in [0.5, 1.0, 2.0, 3.0] {
            assert!((by(t) - (15.0 * t * t) as i64).abs() <= 1, "{t}");
        }
        assert_eq!(by(7.0), 135 + 100);
    }

    /// The shares of n workers cover the schedule exactly once.
    #[test]
    fn shares_cover_the_schedule_once() {
        let timeline = Timeline::new(&[stage(5, 20.0, 200.0)]);
        let whole = all(&mut Arrivals::new(false, 42, 0, 1), &timeline);
        let mut parts: Vec<Arrival> =
            (0..3).flat_map(|i| all(&mut Arrivals::new(false, 42, i, 3), &timeline)).collect();
        parts.sort_by_key(|a| a.number);
        assert_eq!(whole, parts);
    }

    /// Scaling by two at half time brings twice as many arrivals in the second half, and leaves the first as it was.
    #[test]
    fn scaling_changes_only_the_future() {
        let timeline = Timeline::new(&[stage(10, 100.0, 100.0)]);
        let mut arrivals = Arrivals::new(true, 1, 0, 1);
        let mut due = Vec::new();
        while let Some(arrival) = arrivals.peek(&timeline).filter(|a| a.at < 5 * SECOND) {
            arrivals.take();
            due.push(arrival);
        }
        let first = due.len();
        arrivals.scale(&timeline, 5 * SECOND, 2.0);
        due.extend(all(&mut arrivals, &timeline));
        assert!((first as i64 - 500).abs() <= 1);
        assert!(((due.len() - first) as i64 - 1000).abs() <= 1);
        assert!(due[first..].windows(2).all(|pair| ((pair[1].at - pair[0].at) - SECOND / 200).abs() <= 2));
    }

    /// A pause of three seconds makes everything later by three seconds; skipping a stage makes it sooner.
    #[test]
    fn pausing_and_skipping_move_the_clock() {
        let mut timeline = Timeline::new(&[stage(10, 10.0, 10.0), stage(10, 20.0, 20.0)]);
        timeline.pause(2 * SECOND);
        assert_eq!(timeline.end(), Ns::MAX);
        assert_eq!(timeline.actual(SECOND), SECOND);
        timeline.resume(5 * SECOND);
        assert_eq!(timeline.end(), 23 * SECOND);
        let mut arrivals = Arrivals::new(true, 1, 0, 1);
        let now = 8 * SECOND + SECOND / 20;
        while arrivals.peek(&timeline).is_some_and(|a| timeline.actual(a.at) <= now) {
            arrivals.take();
        }
        arrivals.skip_stage(&mut timeline, now);
        assert_eq!(timeline.stage_at(now), Some(1));
        assert_eq!(timeline.end(), now + 10 * SECOND);
        let rest = all(&mut arrivals, &timeline);
        assert!((rest.len() as i64 - 200).abs() <= 1, "{}", rest.len());
        assert!(rest.iter().all(|a| a.stage == 1 && timeline.actual(a.at) >= now));
    }

    /// User u joins a ramp when the line passes u, and the last user joins before the stage ends.
    #[test]
    fn users_join_where_the_line_crosses() {
        let timeline = Timeline::new(&[stage(10, 0.0, 10.0), stage(10, 10.0, 0.0)]);
        assert_eq!(timeline.crossing(0, 0, 1.0), Some(1));
        assert_eq!(timeline.crossing(0, 5, 1.0), Some(5 * SECOND + 1));
        assert_eq!(timeline.crossing(0, 10, 1.0), None);
        assert_eq!(timeline.crossing(0, 10, 2.0), Some(5 * SECOND + 1));
        assert_eq!(timeline.crossing(11 * SECOND, 3, 1.0), None);
        assert!(timeline.level(5 * SECOND + 1) > 5.0);
    }

    /// Draws in an interval stay in it and reach both ends.
    #[test]
    fn between_is_inclusive() {
        let mut draws = SplitMix64::new(1);
        let seen: std::collections::BTreeSet<i64> = (0..1000).map(|_| draws.between(-2, 2)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
        assert_eq!(draws.between(5, 5), 5);
        draws.between(i64::MIN, i64::MAX);
    }
}
