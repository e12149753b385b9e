//! What is kept of the bodies of answers while they come.
//!
//! How much memory that takes is up to servers nobody here trusts, and to how many answers come at once. So all bodies
//! share one room: a body asks it before it grows, and gives back when the answer has been looked at. A body for which
//! there is no room left gives back at once what it had, or all would stop half-way; its first bytes stay, and who looks
//! into it knows that there was more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What each body may take without asking: as much as a record of TLS, which connections hold too. Most bodies come in
/// one read and take nothing; of the others most are below this, and cost no more than their bytes.
const UNASKED: usize = 16 * 1024;
/// What a body's memory may be when it is let go of, so that the next body has it at once.
const KEPT_CAPACITY: usize = 4 * 1024;

/// Memory that bodies may take together, on all threads of an engine; without end by default.
#[derive(Clone, Debug, Default)]
pub struct Room(Option<Arc<AtomicUsize>>);

impl Room {
    /// Room for so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self(Some(Arc::new(AtomicUsize::new(bytes))))
    }

    /// Bytes that nobody has taken.
    pub fn left(&self) -> usize {
        self.0.as_ref().map_or(usize::MAX, |left| left.load(Ordering::Relaxed))
    }

    /// Whether there was so much room; then it is taken.
    fn take(&self, bytes: usize) -> bool {
        let Some(left) = self.0.as_ref().filter(|_| bytes > 0) else { return true };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        if let Some(left) = self.0.as_ref().filter(|_| bytes > 0) {
            left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// The beginning of one body: all of it, unless it is longer than wanted or there was no room.
#[derive(Debug, Default)]
pub struct Kept {
    bytes: Vec<u8>,
    /// What it has of the room.
    asked: usize,
    /// It has been refused room: what comes now would not join what is there.
    cut: bool,
}

impl Kept {
    /// What there is of it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a part, up to `most` bytes in all. `usize::MAX` keeps everything and asks for nothing.
    #[inline]
    pub fn add(&mut self, part: &[u8], most: usize, room: &Room) {
        let part = &part[..most.saturating_sub(self.bytes.len()).min(part.len())];
        let length = self.bytes.len() + part.len();
        if length <= self.bytes.capacity() && !self.cut || most == usize::MAX || self.grow(length, most, room) {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Makes place for `length` bytes, and for a quarter more where there is room, so that many small parts are not
    /// copied each time; false where there is none.
    #[cold]
    fn grow(&mut self, length: usize, most: usize, room: &Room) -> bool {
        if self.cut {
            return false;
        }
        let held = self.bytes.capacity();
        let roomy = (held + held / 4).max(KEPT_CAPACITY).min(most).max(length);
        for capacity in [roomy, length] {
            let more = capacity.saturating_sub(UNASKED).saturating_sub(self.asked);
            if room.take(more) {
                self.asked += more;
                self.bytes.reserve_exact(capacity - self.bytes.len());
                return true;
            }
        }
        self.cut = true;
        self.bytes.truncate(UNASKED);
        self.bytes.shrink_to(UNASKED);
        room.give_back(std::mem::take(&mut self.asked));
        false
    }

    /// Lets go of the body and keeps its memory, for the next piece of the same answer.
    pub fn rewind(&mut self) {
        self.bytes.clear();
        self.cut = false;
    }

    /// Whether it holds memory that others may need.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.bytes.capacity() > KEPT_CAPACITY
    }

    /// Lets go of the body, and of its memory if that is much.
    #[inline]
    pub fn clear(&mut self, room: &Room) {
        self.rewind();
        if self.is_large() {
            self.bytes = Vec::new();
            room.give_back(std::mem::take(&mut self.asked));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// A body takes no more memory than what is wanted of it, however small its parts, and gives all of it back.
    #[test]
    fn bodies_grow_up_to_what_is_wanted() {
        for part in [1, 100, 1400, 64 * KIB] {
            let room = Room::of(1024 * KIB);
            let (mut kept, bytes) = (Kept::default(), vec![7; part]);
            for _ in 0..2_000_000_usize.div_ceil(part) {
                kept.add(&bytes, 1000 * KIB, &room);
                assert!(kept.bytes.capacity() <= 1000 * KIB + UNASKED);
                assert!(kept.asked + UNASKED >= kept.bytes.capacity());
            }
            assert_eq!((kept.bytes().len(), room.left()), (1000 * KIB, 1024 * KIB - kept.asked));
            kept.clear(&room);
            assert_eq!((kept.bytes().len(), kept.bytes.capacity(), room.left()), (0, 0, 1024 * KIB));
        }
    }

    /// All bodies together take no more than the room; one that was refused stays a beginning, though room comes back.
    #[test]
    fn bodies_share_their_room() {
        let room = Room::of(100 * KIB);
        let part = vec![1; 10 * KIB];
        let mut bodies: Vec<Kept> = std::iter::repeat_with(Kept::default).take(8).collect();
        for _ in 0..5 {
            bodies.iter_mut().for_each(|body| body.add(&part, usize::MAX - 1, &room));
        }
        let taken: usize = bodies.iter().map(|body| body.bytes.capacity().saturating_sub(UNASKED)).sum();
        assert!(taken <= 100 * KIB && room.left() == 100 * KIB - bodies.iter().map(|body| body.asked).sum::<usize>());
        let whole = bodies.iter().filter(|body| body.bytes().len() == 50 * KIB).count();
        assert!(whole >= 2, "{whole}: there is room for 34 KiB each of two, even if each has a quarter more");
        assert!(bodies.iter().all(|body| body.cut == (body.bytes().len() <= UNASKED)));
        bodies.iter_mut().filter(|body| !body.cut).for_each(|body| body.clear(&room));
        let refused = bodies.iter_mut().find(|body| body.cut).expect("there is not room for all");
        refused.add(&part, usize::MAX - 1, &room);
        assert_eq!((refused.bytes().len(), refused.asked), (UNASKED, 0));
        bodies.iter_mut().for_each(|body| body.clear(&room));
        assert_eq!(room.left(), 100 * KIB);
    }

    /// Who wants all of a body has it, whatever room there is.
    #[test]
    fn some_bodies_are_wanted_whole() {
        let room = Room::of(0);
        let mut kept = Kept::default();
        (0..10).for_each(|_| kept.add(&[1; 64 * KIB], usize::MAX, &room));
        assert_eq!(kept.bytes().len(), 640 * KIB);
        kept.rewind();
        assert!(kept.bytes().is_empty() && kept.is_large());
    }
}
