//! How often each duration occurred, to three significant digits.
//!
//! The layout is HdrHistogram's with three digits and a unit of 1 ns: below 2048 ns every value has its own bucket,
//! above it each power of two is cut into 1024 equal ones. The Python side has the same function, so histograms made
//! here and there merge bucket by bucket.

const HALF: u32 = 1024;
const PAGE: usize = HALF as usize;
/// Pages that the largest index (of `i64::MAX`) needs.
const PAGES: usize = 54;

/// The bucket of a value; values below zero fall into the first.
#[inline]
pub fn index(value_ns: i64) -> u32 {
    if value_ns < 2 * HALF as i64 {
        return value_ns.max(0) as u32;
    }
    let shift = 53 - value_ns.leading_zeros();
    HALF * shift + (value_ns as u64 >> shift) as u32
}

/// The greatest value that falls into the bucket, ns.
pub fn high(index: u32) -> i64 {
    low(index + 1) - 1
}

fn low(index: u32) -> i64 {
    let shift = (index / HALF).saturating_sub(1);
    (i64::from(index) - i64::from(HALF) * i64::from(shift)) << shift
}

/// Counts by bucket, with exact count, sum, least and greatest value.
///
/// Pages of 1024 buckets (one power of two each) come into being when a value first falls into them and are kept when
/// the histogram is cleared: recording allocates nothing once the usual range has been seen.
pub struct Histogram {
    pages: [Option<Box<[u32; PAGE]>>; PAGES],
    /// Number of values.
    pub count: u64,
    /// Sum of the values, ns.
    pub sum: i64,
    /// Least value, ns; -1 when empty.
    pub min: i64,
    /// Greatest value, ns; -1 when empty.
    pub max: i64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { pages: [const { None }; PAGES], count: 0, sum: 0, min: -1, max: -1 }
    }
}

impl Histogram {
    /// Counts one value; negative ones count as 0.
    #[inline]
    pub fn record(&mut self, value_ns: i64) {
        let value = value_ns.max(0);
        let index = index(value) as usize;
        let page = self.pages[index / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
        page[index % PAGE] += 1;
        if self.count == 0 || value < self.min {
            self.min = value;
        }
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += value;
    }

    /// Forgets the values, keeps the memory.
    pub fn clear(&mut self) {
        if self.count > 0 {
            self.pages.iter_mut().flatten().for_each(|page| page.fill(0));
        }
        (self.count, self.sum, self.min, self.max) = (0, 0, -1, -1);
    }

    /// The filled buckets in ascending order, with their counts.
    pub fn buckets(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let pages = self.pages.iter().enumerate().filter_map(|(number, page)| Some((number, page.as_ref()?)));
        pages.flat_map(|(number, page)| {
            let filled = page.iter().enumerate().filter(|(_, count)| **count > 0);
            filled.map(move |(slot, count)| ((number * PAGE + slot) as u32, *count))
        })
    }

    /// The value at nearest rank, as the upper edge of its bucket and never beyond the greatest value; None when empty.
    pub fn quantile(&self, q: f64) -> Option<i64> {
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        self.buckets().find_map(|(index, count)| {
            seen += u64::from(count);
            (seen >= rank).then(|| high(index).min(self.max))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::SplitMix64;

    /// The index ascends with the value, changes only at bucket edges, and `high` is the last value of its bucket.
    #[test]
    fn buckets_are_contiguous() {
        let mut before = 0;
        for value in 0..(1 << 20) {
            let at = index(value);
            assert!(at == before || at == before + 1, "value {value}");
            if at != before {
                assert_eq!(high(before), value - 1);
            }
            before = at;
        }
        assert_eq!(index(2047), 2047);
        assert_eq!(index(2048), 2048);
        assert!((index(i64::MAX) as usize) < PAGES * PAGE);
    }

    /// A quantile is off by less than 1/1024 from the sorted list's.
    #[test]
    fn quantiles_have_three_digits() {
        let mut draws = SplitMix64::new(7);
        let mut values: Vec<i64> = (0..50_000).map(|_| (draws.exponential() * 3e6) as i64).collect();
        let mut histogram = Histogram::default();
        values.iter().for_each(|value| histogram.record(*value));
        values.sort_unstable();
        for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[((q * 50_000.0_f64).ceil() as usize).clamp(1, 50_000) - 1];
            let got = histogram.quantile(q).unwrap();
            assert!(got >= exact && (got - exact) as f64 <= exact as f64 / 1024.0, "{q}: {got} for {exact}");
        }
        assert_eq!(histogram.buckets().map(|(_, count)| u64::from(count)).sum::<u64>(), 50_000);
    }

    /// Nothing recorded is None, not zero; clearing leaves nothing behind.
    #[test]
    fn empty_has_no_quantile() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record(5);
        histogram.clear();
        assert_eq!((histogram.quantile(0.5), histogram.min, histogram.max), (None, -1, -1));
        assert_eq!(histogram.buckets().count(), 0);
    }
}
