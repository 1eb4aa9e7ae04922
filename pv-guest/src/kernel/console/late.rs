//! What is written while the console is in use.
//!
//! Whoever writes to the console may be interrupted by a handler of events or faults, and
//! a value that is printed may print itself: its user does not go on before that is over,
//! so that a wait for it would never end. What is written meanwhile is kept here, and
//! goes out before anything else does once the console is free.

/// Bytes that are kept: some messages. What is written beyond them is lost, and counted.
const ROOM_BYTES: usize = 2048;
/// Bytes that are taken at a time.
pub(super) const PART_BYTES: usize = 128;

/// Bytes that wait for the console.
pub(super) struct Late {
    bytes: [u8; ROOM_BYTES],
    len: usize,
    lost_bytes: u64,
}

/// What is to go out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// So many of the bytes that were copied.
    Bytes(usize),
    /// The number of bytes that there was no room for.
    Lost(u64),
}

impl Late {
    pub(super) const fn new() -> Self {
        Self {
            bytes: [0; ROOM_BYTES],
            len: 0,
            lost_bytes: 0,
        }
    }

    /// Keeps bytes, as many as there is room for; none behind a gap.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = match self.lost_bytes {
            0 => self.bytes.get_mut(self.len..).unwrap_or_default(),
            _ => &mut [],
        };
        let kept = room.len().min(bytes.len());
        for (place, byte) in room.iter_mut().zip(bytes) {
            *place = *byte;
        }
        self.len += kept;
        self.lost_bytes = self.lost_bytes.saturating_add((bytes.len() - kept) as u64);
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0 && self.lost_bytes == 0
    }

    /// Moves the first bytes out, and then the number of those that were lost.
    pub(super) fn take(&mut self, place: &mut [u8; PART_BYTES]) -> Option<Part> {
        if self.len == 0 {
            let lost_bytes = core::mem::take(&mut self.lost_bytes);
            return (lost_bytes > 0).then_some(Part::Lost(lost_bytes));
        }
        let taken = self.len.min(PART_BYTES);
        for (to, from) in place.iter_mut().zip(&self.bytes).take(taken) {
            *to = *from;
        }
        for at in taken..self.len {
            let byte = self.bytes.get(at).copied().unwrap_or_default();
            if let Some(place) = self.bytes.get_mut(at - taken) {
                *place = byte;
            }
        }
        self.len -= taken;
        Some(Part::Bytes(taken))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn take_all(late: &mut Late) -> (Vec<u8>, Option<u64>) {
        let (mut bytes, mut place) = (Vec::new(), [0; PART_BYTES]);
        loop {
            match late.take(&mut place) {
                Some(Part::Bytes(len)) => bytes.extend(&place[..len]),
                Some(Part::Lost(lost_bytes)) => return (bytes, Some(lost_bytes)),
                None => return (bytes, None),
            }
        }
    }

    #[test]
    fn what_is_kept_comes_out_in_order() {
        let mut late = Late::new();
        assert_eq!(take_all(&mut late), (Vec::new(), None));
        let all: Vec<u8> = (0..ROOM_BYTES).map(|at| (at % 251) as u8).collect();
        for round in 0..3 {
            let (first, second) = all.split_at(round * 700 + 1);
            late.push(first);
            late.push(second);
            assert_eq!(take_all(&mut late), (all.clone(), None));
        }
    }

    #[test]
    fn what_has_no_room_is_counted_and_leaves_one_gap() {
        let mut late = Late::new();
        late.push(&[1; ROOM_BYTES - 1]);
        late.push(b"abc");
        let mut place = [0; PART_BYTES];
        assert_eq!(late.take(&mut place), Some(Part::Bytes(PART_BYTES)));
        // There is room again, but this would be behind the gap.
        late.push(b"d");
        let (bytes, lost_bytes) = take_all(&mut late);
        assert_eq!(bytes.last(), Some(&b'a'));
        assert_eq!(
            (bytes.len(), lost_bytes),
            (ROOM_BYTES - PART_BYTES, Some(3))
        );
        late.push(b"e");
        assert_eq!(take_all(&mut late), (b"e".to_vec(), None));
    }
}
