//! Tables as bytes: a few typed columns, little-endian, in the form that the journal stores.
//!
//! ```text
//! u32 rows, u16 columns, then for each column: u8 length of its name, the name, u8 type, data
//! types: 0 i64 · 1 i32 · 2 u8 · 3 u32 · 4 f64 · 5 text: u32 k, k × (u32 length, UTF-8), u32 code per row
//!        6 list of u32: u32 offset × (rows + 1), then u32 × the last offset
//! ```
//!
//! The definition is `surgeline.samples` in Python; the reader of these bytes lives there.

use std::collections::HashMap;

use crate::secret::Secrets;

/// Rows whose texts are compared before there is a pause: distinct ones take some 50 to 100 ns each.
const ROWS_PER_PAUSE: usize = 512;

/// The frames' numbers in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Frame {
    /// Samples.
    Rows = 1,
    /// Deltas of windows.
    Windows = 2,
    /// Deltas of due and sent counts.
    Counts = 3,
    /// Readings of the generator's own state.
    Health = 4,
    /// Something that happened once.
    Event = 5,
    /// A request and its answer as evidence.
    Exchange = 6,
    /// Deltas of windows of transactions.
    Transactions = 7,
    /// Windows of messages, likewise.
    Messages = 8,
}

/// A table under construction. Columns are added whole, one after the other.
pub struct Table<'p> {
    bytes: Vec<u8>,
    rows: usize,
    columns: u16,
    pause: Option<&'p mut dyn FnMut()>,
}

impl<'p> Table<'p> {
    /// A table of `rows` rows without columns.
    pub fn new(rows: usize) -> Self {
        // A row of samples takes some 180 bytes; memory that is not touched costs nothing.
        let mut bytes = Vec::with_capacity(4096 + rows * 192);
        bytes.extend_from_slice(&(rows as u32).to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        Self { bytes, rows, columns: 0, pause: None }
    }

    /// Has this called before each column, and within those that take longer.
    pub fn pausing(mut self, pause: &'p mut dyn FnMut()) -> Self {
        self.pause = Some(pause);
        self
    }

    /// Calls what it was given to call.
    pub fn pause(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause();
        }
    }

    fn begin(&mut self, name: &str, kind: u8) {
        self.pause();
        self.bytes.push(name.len() as u8);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(kind);
        self.columns += 1;
    }

    /// One value per row.
    fn numbers<const SIZE: usize>(&mut self, values: impl Iterator<Item = [u8; SIZE]>) {
        let begin = self.bytes.len();
        self.bytes.resize(begin + self.rows * SIZE, 0);
        for (place, value) in self.bytes[begin..].chunks_exact_mut(SIZE).zip(values) {
            place.copy_from_slice(&value);
        }
    }

    /// Whole numbers of 64 bits.
    pub fn i64(&mut self, name: &str, values: impl Iterator<Item = i64>) {
        self.begin(name, 0);
        self.numbers(values.map(i64::to_le_bytes));
    }

    /// Whole numbers of 32 bits.
    pub fn i32(&mut self, name: &str, values: impl Iterator<Item = i32>) {
        self.begin(name, 1);
        self.numbers(values.map(i32::to_le_bytes));
    }

    /// Small numbers.
    pub fn u8(&mut self, name: &str, values: impl Iterator<Item = u8>) {
        self.begin(name, 2);
        self.bytes.extend(values);
    }

    /// Floating-point numbers.
    pub fn f64(&mut self, name: &str, values: impl Iterator<Item = f64>) {
        self.begin(name, 4);
        self.numbers(values.map(f64::to_le_bytes));
    }

    /// Texts, each row naming one of `texts` by its number there. Texts that no row names are left out.
    pub fn texts<'t>(&mut self, name: &str, codes: impl Iterator<Item = usize>, text: impl Fn(usize) -> &'t str) {
        let mut places: HashMap<usize, u32> = HashMap::new();
        let mut last = (usize::MAX, 0);
        let mut used = Vec::new();
        let coded: Vec<u32> = codes
            .map(|code| {
                if code != last.0 {
                    let place = *places.entry(code).or_insert_with(|| {
                        used.push(code);
                        used.len() as u32 - 1
                    });
                    last = (code, place);
                }
                last.1
            })
            .collect();
        self.begin(name, 5);
        self.bytes.extend_from_slice(&(used.len() as u32).to_le_bytes());
        for code in used {
            let text = text(code);
            self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.numbers(coded.iter().map(|code| code.to_le_bytes()));
    }

    /// Texts that are only known as such; equal ones are stored once. Bytes that are not UTF-8 are replaced.
    pub fn free_texts<'t>(&mut self, name: &str, secrets: &Secrets, values: impl Iterator<Item = &'t [u8]>) {
        let mut places: HashMap<&[u8], u32> = HashMap::new();
        let mut used = Vec::new();
        let mut last: (&[u8], u32) = (&[], u32::MAX);
        let coded: Vec<u32> = values
            .enumerate()
            .map(|(row, value)| {
                if row % ROWS_PER_PAUSE == 0 {
                    self.pause();
                }
                // Where the text is the very same one, its bytes need not be compared.
                if last.1 == u32::MAX || !(std::ptr::eq(value, last.0) || value == last.0) {
                    let place = *places.entry(value).or_insert_with(|| {
                        used.push(value);
                        used.len() as u32 - 1
                    });
                    last = (value, place);
                }
                last.1
            })
            .collect();
        self.begin(name, 5);
        self.bytes.extend_from_slice(&(used.len() as u32).to_le_bytes());
        for (number, value) in used.into_iter().enumerate() {
            if number % ROWS_PER_PAUSE == 0 {
                self.pause();
            }
            let text = secrets.masked(String::from_utf8_lossy(value));
            self.bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(text.as_bytes());
        }
        self.numbers(coded.iter().map(|code| code.to_le_bytes()));
    }

    /// Lists of numbers, one per row.
    pub fn lists(&mut self, name: &str, lists: &[Vec<u32>]) {
        self.begin(name, 6);
        let mut offset = 0u32;
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        for list in lists {
            offset += list.len() as u32;
            self.bytes.extend_from_slice(&offset.to_le_bytes());
        }
        lists.iter().flatten().for_each(|value| self.bytes.extend_from_slice(&value.to_le_bytes()));
    }

    /// The bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes[4..6].copy_from_slice(&self.columns.to_le_bytes());
        debug_assert!(self.rows <= u32::MAX as usize);
        self.bytes
    }
}
