//! Who has which frame: one bit for each.

use hypercall_abi::Pfn;

/// A bitmap of free frames, searched from where the last search ended.
#[derive(Debug)]
pub struct FrameAllocator<'a> {
    /// A set bit is a free frame.
    words: &'a mut [u64],
    free: usize,
    /// The word where the next search starts.
    hint: usize,
}

/// A frame was given back that was not given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllocated(
    /// The frame.
    pub Pfn,
);

impl core::fmt::Display for NotAllocated {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "frame {} was freed but not allocated", self.0)
    }
}

impl core::error::Error for NotAllocated {}

impl<'a> FrameAllocator<'a> {
    /// How many words of bitmap memory up to frame `end` needs.
    pub const fn words_for(end: Pfn) -> usize {
        end.0.div_ceil(64) as usize
    }

    /// An allocator over `words` (64 frames each) in which no frame is free.
    pub fn new(words: &'a mut [u64]) -> Self {
        words.fill(0);
        Self {
            words,
            free: 0,
            hint: 0,
        }
    }

    /// How many frames are free.
    pub const fn free_frames(&self) -> usize {
        self.free
    }

    fn is_free(&self, frame: usize) -> bool {
        self.words
            .get(frame / 64)
            .is_some_and(|word| word & (1 << (frame % 64)) != 0)
    }

    fn set(&mut self, start: Pfn, end: Pfn, state: State) {
        let end = end.0.min(self.words.len() as u64 * 64);
        let opposite = match state {
            State::Free => 0,
            State::Taken => u64::MAX,
        };
        let mut at = start.0;
        let mut changed = 0;
        while at < end {
            let Some(word) = self.words.get_mut((at / 64) as usize) else {
                break;
            };
            // A word at a time where that is right: a guest may have much memory.
            let (bits, count) = if at.is_multiple_of(64) && end - at >= 64 && *word == opposite {
                (u64::MAX, 64)
            } else {
                (1 << (at % 64), 1)
            };
            if (*word ^ opposite) & bits == 0 {
                *word ^= bits;
                changed += count as usize;
            }
            at += count;
        }
        match state {
            State::Free => self.free += changed,
            State::Taken => self.free -= changed,
        }
    }

    /// Makes the frames in `start..end` free, as far as the bitmap reaches.
    pub fn add(&mut self, start: Pfn, end: Pfn) {
        self.set(start, end, State::Free);
    }

    /// Takes the frames in `start..end`, free or not.
    pub fn reserve(&mut self, start: Pfn, end: Pfn) {
        self.set(start, end, State::Taken);
    }

    /// Takes `count` frames in a row; `None` if there is no such row.
    pub fn allocate(&mut self, count: usize) -> Option<Pfn> {
        self.allocate_below(Pfn(u64::MAX), count)
    }

    /// Takes `count` frames in a row, all of them below `end`; `None` if there is no such
    /// row.
    pub fn allocate_below(&mut self, end: Pfn, count: usize) -> Option<Pfn> {
        if count == 0 || count > self.free {
            return None;
        }
        let end = end.0.min(self.words.len() as u64 * 64) as usize;
        let hint = self.hint * 64;
        let first = self
            .find(hint, end, count)
            .or_else(|| self.find(0, (hint + count).min(end), count))?;
        let row = Pfn(first as u64);
        self.reserve(row, Pfn((first + count) as u64));
        self.hint = (first + count) / 64;
        Some(row)
    }

    /// The first of `count` free frames in a row in `start..end`.
    fn find(&self, start: usize, end: usize, count: usize) -> Option<usize> {
        let mut run = 0;
        let mut frame = start;
        while frame < end {
            // Skip whole words in which nothing is free.
            if run == 0 && frame.is_multiple_of(64) && self.words.get(frame / 64) == Some(&0) {
                frame += 64;
                continue;
            }
            run = if self.is_free(frame) { run + 1 } else { 0 };
            frame += 1;
            if run == count {
                return Some(frame - count);
            }
        }
        None
    }

    /// Gives back `count` frames from `first`.
    ///
    /// # Errors
    /// One of them is free already, or outside the bitmap; none is given back.
    pub fn free(&mut self, first: Pfn, count: usize) -> Result<(), NotAllocated> {
        let limit = self.words.len() as u64 * 64;
        let end = first
            .0
            .checked_add(count as u64)
            .filter(|end| *end <= limit)
            .ok_or(NotAllocated(first))?;
        for frame in first.0..end {
            if self.is_free(frame as usize) {
                return Err(NotAllocated(Pfn(frame)));
            }
        }
        self.add(first, Pfn(end));
        self.hint = self.hint.min((first.0 / 64) as usize);
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum State {
    Free,
    Taken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_given_out_once() {
        let mut words = [0; 3];
        let mut frames = FrameAllocator::new(&mut words);
        frames.add(Pfn(3), Pfn(130));
        frames.reserve(Pfn(60), Pfn(70));
        assert_eq!(frames.free_frames(), 117);
        let mut seen = [false; 192];
        while let Some(Pfn(frame)) = frames.allocate(1) {
            assert!(!core::mem::replace(&mut seen[frame as usize], true));
        }
        assert_eq!(frames.free_frames(), 0);
        for (frame, seen) in seen.iter().enumerate() {
            assert_eq!(
                *seen,
                (3..60).contains(&frame) || (70..130).contains(&frame)
            );
        }
    }

    #[test]
    fn rows_cross_words_and_avoid_holes() {
        let mut words = [0; 3];
        let mut frames = FrameAllocator::new(&mut words);
        frames.add(Pfn(0), Pfn(192));
        frames.reserve(Pfn(50), Pfn(51));
        assert_eq!(frames.allocate(100), Some(Pfn(51)));
        assert_eq!(frames.allocate(100), None);
        assert_eq!(frames.allocate(50), Some(Pfn(0)));
        assert_eq!(frames.free(Pfn(51), 100), Ok(()));
        assert_eq!(frames.allocate(141), Some(Pfn(51)));
    }

    #[test]
    fn frames_below_an_end_are_taken_first() {
        let mut words = [0; 4];
        let mut frames = FrameAllocator::new(&mut words);
        frames.add(Pfn(0), Pfn(250));
        let below = Pfn(100);
        assert_eq!(frames.allocate_below(below, 90), Some(Pfn(0)));
        assert_eq!(frames.allocate_below(below, 11), None);
        assert_eq!(frames.allocate_below(below, 10), Some(Pfn(90)));
        assert_eq!(frames.allocate_below(below, 1), None);
        assert_eq!(frames.allocate(20), Some(Pfn(100)));
        // What comes back below is found, wherever the last search ended.
        assert_eq!(frames.free(Pfn(10), 5), Ok(()));
        assert_eq!(frames.allocate_below(below, 6), None);
        assert_eq!(frames.allocate_below(below, 5), Some(Pfn(10)));
        assert_eq!(frames.allocate_below(Pfn(u64::MAX), 131), None);
        assert_eq!(frames.allocate_below(Pfn(u64::MAX), 130), Some(Pfn(120)));
    }

    /// Words are changed whole where they can be.
    #[test]
    fn ranges_of_any_ends_change_their_frames_and_no_others() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut words = [0; 5];
        let mut frames = FrameAllocator::new(&mut words);
        let mut model = [false; 320];
        for _ in 0..if cfg!(miri) { 50 } else { 3000 } {
            let (start, len) = (
                random(330),
                [0, 1, 63, 64, 65, 128, 400][random(7) as usize],
            );
            let (start, end) = (Pfn(start), Pfn(start + len));
            let is_free = random(2) == 0;
            if is_free {
                frames.add(start, end);
            } else {
                frames.reserve(start, end);
            }
            for (frame, free) in model.iter_mut().enumerate() {
                if (start.0..end.0).contains(&(frame as u64)) {
                    *free = is_free;
                }
                assert_eq!(frames.is_free(frame), *free);
            }
            let count = model.iter().filter(|free| **free).count();
            assert_eq!(frames.free_frames(), count);
        }
    }

    #[test]
    fn wrong_frees_are_refused_whole() {
        let mut words = [0; 1];
        let mut frames = FrameAllocator::new(&mut words);
        frames.add(Pfn(0), Pfn(10));
        assert_eq!(frames.allocate(4), Some(Pfn(0)));
        assert_eq!(frames.free(Pfn(2), 4), Err(NotAllocated(Pfn(4))));
        assert_eq!(frames.free(Pfn(60), 8), Err(NotAllocated(Pfn(60))));
        assert_eq!(
            frames.free(Pfn(u64::MAX), 2),
            Err(NotAllocated(Pfn(u64::MAX)))
        );
        assert_eq!(frames.free_frames(), 6);
        assert_eq!(frames.free(Pfn(0), 4), Ok(()));
        assert_eq!(frames.allocate(0), None);
    }
}
