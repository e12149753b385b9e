//! How long a user pauses: between an answer and its next request, and before it tries again.
//!
//! Durations come from the user's own random numbers, so the same user pauses the same way again.

use serde::Deserialize;

use crate::clock::{Ns, SECOND};
use crate::outcome::Outcome;
use crate::schedule::SplitMix64;

/// No draw is longer; the tail of a wide distribution has no meaning beyond.
const LONGEST: Ns = 24 * 3600 * SECOND;

/// A pause as it comes in, and as it is drawn from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum Pause {
    /// Evenly between two durations, both included; always the same where they are equal.
    Even(Ns, Ns),
    /// Exponential, with this mean.
    Exponential {
        /// > 0.
        exponential_ns: Ns,
    },
    /// The logarithm is normally distributed.
    Lognormal {
        /// The median, > 0.
        lognormal_ns: Ns,
        /// Standard deviation of the logarithm, 0 to 5.
        sigma: f64,
    },
}

impl Pause {
    /// No pause at all.
    pub const NONE: Self = Self::Even(0, 0);

    /// Why it cannot be drawn from, as a clause.
    pub fn fault(&self) -> Option<String> {
        let fine = match *self {
            Self::Even(low, high) => 0 <= low && low <= high,
            Self::Exponential { exponential_ns } => exponential_ns > 0,
            Self::Lognormal { lognormal_ns, sigma } => lognormal_ns > 0 && (0.0..=5.0).contains(&sigma),
        };
        (!fine).then(|| format!("{self:?} must be two times, the lesser first, or a distribution of times above 0"))
    }

    /// One pause.
    #[inline]
    pub fn draw(&self, draws: &mut SplitMix64) -> Ns {
        match *self {
            Self::Even(_, 0) => 0,
            Self::Even(low, high) => draws.between(low, high),
            Self::Exponential { exponential_ns } => scaled(exponential_ns, draws.exponential()),
            Self::Lognormal { lognormal_ns, sigma } => {
                // Box and Muller (1958); the second of the pair is let go.
                let radius = (-2.0 * draws.uniform().ln()).sqrt();
                scaled(lognormal_ns, (sigma * radius * (std::f64::consts::TAU * draws.uniform()).cos()).exp())
            }
        }
    }
}

fn scaled(duration: Ns, by: f64) -> Ns {
    (duration as f64 * by).min(LONGEST as f64) as Ns
}

/// When a step is tried again, and after how long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts after the first, ≥ 1.
    pub times: u32,
    outcomes: Vec<RetriedOutcome>,
    /// Status ranges that are tried again as failures, both ends included.
    status: Vec<(u16, u16)>,
    /// Before the second attempt.
    backoff_ns: Pause,
    /// How many times longer each further pause is, ≥ 1.
    factor: f64,
    /// No pause is longer.
    most_ns: Ns,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum RetriedOutcome {
    Failure,
    Error,
    Timeout,
}

impl Retry {
    /// Why it cannot be followed, as a clause.
    pub fn fault(&self) -> Option<String> {
        if self.times == 0 || !(1.0..=100.0).contains(&self.factor) || self.most_ns < 0 {
            return Some("retry needs at least one more attempt, a factor from 1 to 100 and a longest pause".into());
        }
        self.backoff_ns.fault()
    }

    /// The pause before the next attempt, where `tries` were made after the first; None where there is none.
    pub fn pause(&self, tries: u32, outcome: Outcome, status: u16, draws: &mut SplitMix64) -> Option<Ns> {
        let meant = match outcome {
            Outcome::Failure => {
                self.outcomes.contains(&RetriedOutcome::Failure)
                    || self.status.iter().any(|(from, to)| (*from..=*to).contains(&status))
            }
            Outcome::Error => self.outcomes.contains(&RetriedOutcome::Error),
            Outcome::Timeout => self.outcomes.contains(&RetriedOutcome::Timeout),
            _ => false,
        };
        if !meant || tries >= self.times {
            return None;
        }
        let grown = self.factor.powi(tries.min(1000) as i32);
        Some(scaled(self.backoff_ns.draw(draws), grown).min(self.most_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(json: &str) -> Pause {
        serde_json::from_str(json).unwrap()
    }

    fn sorted(json: &str) -> Vec<Ns> {
        let mut draws = SplitMix64::new(5);
        let pause = pause(json);
        assert_eq!(pause.fault(), None);
        let mut found: Vec<Ns> = (0..20_001).map(|_| pause.draw(&mut draws)).collect();
        found.sort_unstable();
        found
    }

    /// Quantiles of 20,001 draws lie where the distributions' own do (five standard errors).
    #[test]
    fn draws_follow_their_distributions() {
        let close = |found: Ns, wanted: f64| assert!((found as f64 / wanted - 1.0).abs() < 0.05, "{found} {wanted}");
        let exponential = sorted(r#"{"exponential_ns": 1000000}"#);
        close(exponential[10_000], 1e6 * 2f64.ln());
        close(exponential[18_000], 1e6 * 10f64.ln());
        let lognormal = sorted(r#"{"lognormal_ns": 1000000, "sigma": 0.5}"#);
        close(lognormal[10_000], 1e6);
        close(lognormal[16_827], 1e6 * 0.5f64.exp());
        let even = sorted("[1000, 3000]");
        assert_eq!((even[0], even[20_000]), (1000, 3000));
        close(even[10_000], 2000.0);
        assert_eq!(sorted("[7, 7]")[0], 7);
        assert_eq!(sorted("[0, 0]")[20_000], 0);
    }

    /// A pause that means nothing is refused.
    #[test]
    fn bad_pauses() {
        for json in ["[3, 1]", "[-1, 1]", r#"{"exponential_ns": 0}"#, r#"{"lognormal_ns": 1, "sigma": 9}"#] {
            assert!(pause(json).fault().is_some(), "{json}");
        }
    }

    /// Each pause is longer than the one before, up to the longest; then nothing more is tried.
    #[test]
    fn backoff_grows() {
        let json = r#"{"times": 4, "outcomes": ["error"], "status": [[503, 503]], "backoff_ns": [10, 10],
            "factor": 3.0, "most_ns": 100}"#;
        let retry: Retry = serde_json::from_str(json).unwrap();
        let mut draws = SplitMix64::new(1);
        let mut after = |tries, outcome, status| retry.pause(tries, outcome, status, &mut draws);
        let pauses: Vec<_> = (0..5).map(|tries| after(tries, Outcome::Error, 0)).collect();
        assert_eq!(pauses, [Some(10), Some(30), Some(90), Some(100), None]);
        assert_eq!(after(0, Outcome::Failure, 503), Some(10));
        assert_eq!(after(0, Outcome::Failure, 500), None);
        assert_eq!(after(0, Outcome::Timeout, 0), None);
        assert_eq!(after(0, Outcome::Ok, 503), None);
    }
}
