//! Rows of test data: which iteration takes which row.
//!
//! What comes in are rows of texts, each as long as the list of columns. Workers share them without asking each other:
//! worker i of n takes the rows i, i + n, i + 2n …, so no row is taken twice before all were taken. A row that belongs
//! to a user is the row of the user's number, which is one worker's alone.

use serde::Deserialize;

use crate::schedule::SplitMix64;

/// Rows as they come in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedText {
    /// What stands before the dot in `{{users.name}}`.
    pub name: String,
    order: Order,
    wraps: bool,
    /// What stands behind it.
    pub columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Who takes which row.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Order {
    /// Each iteration the next.
    Sequential,
    /// Each iteration any, drawn from its user's random numbers.
    Random,
    /// Each user one of its own.
    Unique,
}

/// Rows of texts.
#[derive(Debug)]
pub struct Feed {
    /// What stands before the dot in `{{users.name}}`.
    pub name: String,
    order: Order,
    wraps: bool,
    columns: usize,
    rows: u64,
    /// Where each cell ends in `texts`, row after row.
    ends: Vec<usize>,
    texts: Vec<u8>,
}

/// Who asks for a row.
pub struct Turn<'a> {
    /// The worker, and how many there are.
    pub share: (u64, u64),
    /// How many rows this worker took before.
    pub taken: &'a mut u64,
    /// The user's number; None where each iteration is a user of its own.
    pub user: Option<u64>,
    /// The user's random numbers.
    pub draws: &'a mut SplitMix64,
}

impl Feed {
    /// Checks the rows. The error is a sentence.
    pub fn compile(text: FeedText) -> Result<Self, String> {
        let FeedText { name, order, wraps, columns, rows } = text;
        if columns.is_empty() || rows.is_empty() {
            return Err(format!("feed '{name}' must have a column and a row"));
        }
        let mut feed = Self {
            name,
            order,
            wraps,
            columns: columns.len(),
            rows: rows.len() as u64,
            ends: Vec::with_capacity(rows.len() * columns.len()),
            texts: Vec::new(),
        };
        for (number, row) in rows.iter().enumerate() {
            if row.len() != columns.len() {
                return Err(format!(
                    "feed '{}', row {number}: {} values for {} columns",
                    feed.name,
                    row.len(),
                    feed.columns
                ));
            }
            for value in row {
                feed.texts.extend_from_slice(value.as_bytes());
                feed.ends.push(feed.texts.len());
            }
        }
        Ok(feed)
    }

    /// The row for this turn; None when all rows are used.
    pub fn take(&self, turn: Turn<'_>) -> Option<u64> {
        let (index, of) = turn.share;
        if self.order == Order::Random {
            return Some(turn.draws.between(0, self.rows as i64 - 1) as u64);
        }
        let number = match turn.user {
            Some(user) if self.order == Order::Unique => user,
            _ => {
                *turn.taken += 1;
                (*turn.taken - 1) * of + index
            }
        };
        match number < self.rows {
            true => Some(number),
            false => self.wraps.then(|| number % self.rows),
        }
    }

    /// The text in a row and column, both from 0 and within the feed.
    pub fn cell(&self, row: u64, column: usize) -> &[u8] {
        let at = row as usize * self.columns + column;
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.texts[begin..self.ends[at]]
    }

    /// Number of rows, at least 1.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(order: &str, wraps: bool) -> Feed {
        let rows = [["a", ""], ["b", "é"], ["c", "3"], ["d", "4"], ["e", "5"]];
        let text =
            serde_json::json!({"name": "f", "order": order, "wraps": wraps, "columns": ["x", "y"], "rows": rows});
        Feed::compile(serde_json::from_value(text).unwrap()).unwrap()
    }

    fn rows(feed: &Feed, share: (u64, u64), user: Option<u64>, times: usize) -> Vec<Option<u64>> {
        let (mut taken, mut draws) = (0, SplitMix64::new(7));
        (0..times).map(|_| feed.take(Turn { share, taken: &mut taken, user, draws: &mut draws })).collect()
    }

    /// Two workers take every row once, then nothing, or all again.
    #[test]
    fn shares_cover_the_rows_once() {
        let once = feed("sequential", false);
        assert_eq!(rows(&once, (0, 2), None, 4), [Some(0), Some(2), Some(4), None]);
        assert_eq!(rows(&once, (1, 2), None, 3), [Some(1), Some(3), None]);
        let again = feed("sequential", true);
        assert_eq!(rows(&again, (0, 2), None, 5), [Some(0), Some(2), Some(4), Some(1), Some(3)]);
    }

    /// A user keeps its row; a user beyond the last row has none.
    #[test]
    fn unique_rows_belong_to_users() {
        let own = feed("unique", false);
        assert_eq!(rows(&own, (0, 2), Some(4), 3), [Some(4), Some(4), Some(4)]);
        assert_eq!(rows(&own, (0, 1), Some(5), 1), [None]);
        assert_eq!(rows(&own, (0, 2), None, 4), [Some(0), Some(2), Some(4), None]);
    }

    /// Random rows never end, reach every row, and are the same for the same seed.
    #[test]
    fn random_rows_are_seeded() {
        let any = feed("random", true);
        let drawn = rows(&any, (0, 1), None, 200);
        assert_eq!(drawn, rows(&any, (0, 1), None, 200));
        assert!((0..5).all(|row| drawn.contains(&Some(row))));
    }

    /// Cells are found, empty ones too; rows of another length are refused.
    #[test]
    fn cells() {
        let feed = feed("random", true);
        assert_eq!((feed.cell(0, 0), feed.cell(0, 1), feed.cell(1, 1)), (&b"a"[..], &b""[..], "é".as_bytes()));
        assert_eq!(feed.cell(4, 1), b"5");
        let ragged = r#"{"name":"f","order":"random","wraps":true,"columns":["x"],"rows":[["1"],["1","2"]]}"#;
        assert!(Feed::compile(serde_json::from_str(ragged).unwrap()).unwrap_err().contains("row 1"));
    }
}
