//! Output by a ring whose daemon is slow, or has stopped.
//!
//! A daemon that takes bytes, at whatever pace, gets all of them: the guest waits for it.
//! One that takes nothing for [`STALL_NS`] has stopped: then bytes are dropped and
//! counted, without waiting any more, until it takes something again. The first thing that
//! it gets then is how many were lost.

use core::fmt::{self, Write as _};

use hypercall_abi::platform::Platform;

use super::ring::{Broken, ConsoleRing};

/// How long a daemon may take nothing before output is dropped: longer than one takes to
/// be started anew, or a busy host to come to it.
pub const STALL_NS: u64 = 30_000_000_000;
/// The same for the last words of a kernel, which has another way to say them.
pub const DYING_STALL_NS: u64 = 5_000_000_000;
/// The longest that a dying kernel waits for room for all of its last words, and once more
/// for all that is in the ring to be taken.
pub const DYING_NS: u64 = 60_000_000_000;
/// Looks that a daemon gets at least: the clock also goes on while the guest is paused.
const MIN_LOOKS: u32 = 100;
/// Looks that it gets at most, where no clock goes on or it notifies without end.
const MAX_LOOKS: u32 = 1 << 20;

/// A message about lost bytes, at its longest.
const NOTICE_BYTES: usize = 64;

/// How long a daemon is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    stall_ns: u64,
    all_ns: u64,
}

const RUNNING: Patience = Patience {
    stall_ns: STALL_NS,
    all_ns: u64::MAX,
};
const DYING: Patience = Patience {
    stall_ns: DYING_STALL_NS,
    all_ns: DYING_NS,
};

/// A wait for the daemon to take something.
struct Wait {
    patience: Patience,
    begun_ns: u64,
    moved_ns: u64,
    looks: u32,
}

impl Wait {
    const fn new(patience: Patience, now_ns: u64) -> Self {
        Self {
            patience,
            begun_ns: now_ns,
            moved_ns: now_ns,
            looks: 0,
        }
    }

    /// The daemon took something.
    const fn moved(&mut self, now_ns: u64) {
        self.moved_ns = now_ns;
        self.looks = 0;
    }

    /// Whether it has taken nothing for too long; one more look.
    const fn is_over(&mut self, now_ns: u64) -> bool {
        self.looks += 1;
        let is_late = now_ns.saturating_sub(self.moved_ns) >= self.patience.stall_ns
            && self.looks >= MIN_LOOKS;
        is_late
            || self.looks >= MAX_LOOKS
            || now_ns.saturating_sub(self.begun_ns) >= self.patience.all_ns
    }
}

/// What is known of a daemon that takes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    state: State,
    lost_bytes: u64,
    /// When the kernel began to die.
    dying_since_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Taking,
    /// It has taken nothing since it was given up.
    Stopped,
    /// It has stopped while the kernel was dying: it is not waited for again.
    LeftBehind,
}

/// Text of a bounded length.
struct Notice {
    bytes: [u8; NOTICE_BYTES],
    len: usize,
}

impl fmt::Write for Notice {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let place = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl<P: Platform> ConsoleRing<P> {
    /// How many bytes were dropped that the daemon has not been told of.
    pub const fn lost_bytes(&self) -> u64 {
        self.stall.lost_bytes
    }

    /// Writes everything, however slowly the daemon takes it. If it takes nothing for
    /// [`STALL_NS`], the rest is dropped and counted, and so is, at once, all that is
    /// written before it takes something; then it is told how much was lost.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.stall.state != State::Taking {
            if self.room()? == 0 {
                self.stall.lost_bytes = self.stall.lost_bytes.saturating_add(bytes.len() as u64);
                return Ok(());
            }
            self.stall.state = State::Taking;
        }
        let told = self.tell_lost()?;
        let rest = match told {
            Told::Yes => self.put(bytes, RUNNING)?,
            Told::No => bytes.len(),
        };
        if rest > 0 {
            self.stall.state = State::Stopped;
            self.stall.lost_bytes = self.stall.lost_bytes.saturating_add(rest as u64);
        }
        Ok(())
    }

    /// The last words of a kernel: all of them are in the ring, or the daemon has stopped
    /// for [`DYING_STALL_NS`] (or has not taken all that was written so in [`DYING_NS`]), and
    /// is not waited for again.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn write_dying(&mut self, bytes: &[u8]) -> Result<Written, Broken> {
        let is_stopped = match self.stall.state {
            State::LeftBehind => true,
            State::Stopped => self.room()? == 0,
            State::Taking => false,
        };
        if is_stopped {
            return Ok(Written::No);
        }
        let now_ns = self.now_ns();
        let since_ns = *self.stall.dying_since_ns.get_or_insert(now_ns);
        let patience = Patience {
            all_ns: DYING_NS.saturating_sub(now_ns.saturating_sub(since_ns)),
            ..DYING
        };
        if self.put(bytes, patience)? == 0 {
            return Ok(Written::Yes);
        }
        self.stall.state = State::LeftBehind;
        Ok(Written::No)
    }

    /// Waits until the daemon has taken everything; not for one that takes nothing for
    /// [`DYING_STALL_NS`], or has not done so in [`DYING_NS`].
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn drain(&mut self) -> Result<(), Broken> {
        if self.stall.state != State::Taking && self.room()? == 0 {
            return Ok(());
        }
        self.tell_lost()?;
        let mut wait = Wait::new(DYING, self.now_ns());
        let mut before = self.pending_output()?;
        while before > 0 && !wait.is_over(self.now_ns()) {
            self.wait(None);
            let left = self.pending_output()?;
            if left < before {
                wait.moved(self.now_ns());
            }
            before = left;
        }
        Ok(())
    }

    /// Writes while the daemon takes something, and says how many bytes are left.
    fn put(&mut self, mut bytes: &[u8], patience: Patience) -> Result<usize, Broken> {
        let mut wait = Wait::new(patience, self.now_ns());
        loop {
            let written = self.write(bytes)?;
            bytes = bytes.get(written..).unwrap_or(&[]);
            if bytes.is_empty() {
                return Ok(0);
            }
            if written > 0 {
                wait.moved(self.now_ns());
            }
            if wait.is_over(self.now_ns()) {
                return Ok(bytes.len());
            }
            self.wait(None);
        }
    }

    /// Tells the daemon how many bytes it has lost, if any.
    fn tell_lost(&mut self) -> Result<Told, Broken> {
        let lost_bytes = core::mem::take(&mut self.stall.lost_bytes);
        if lost_bytes == 0 {
            return Ok(Told::Yes);
        }
        let mut notice = Notice {
            bytes: [0; NOTICE_BYTES],
            len: 0,
        };
        let _fits = write!(notice, "\r\n[console: {lost_bytes} bytes lost]\r\n");
        let text = notice.bytes.get(..notice.len).unwrap_or(&[]);
        if self.put(text, RUNNING)? == 0 {
            return Ok(Told::Yes);
        }
        self.stall.lost_bytes = lost_bytes;
        Ok(Told::No)
    }
}

/// Whether the last words are in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// All of them.
    Yes,
    /// They have to go another way.
    No,
}

/// Whether the daemon knows what it has lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded_by_time_and_by_looks() {
        let mut wait = Wait::new(RUNNING, 7);
        for look in 1..MIN_LOOKS {
            // The guest was paused for an hour: the daemon has its looks all the same.
            assert!(!wait.is_over(3_600_000_000_000), "{look}");
        }
        assert!(wait.is_over(3_600_000_000_000));
        wait.moved(STALL_NS);
        // A clock that stands.
        let looks = (1..).take_while(|_| !wait.is_over(STALL_NS)).count();
        assert_eq!(looks as u32 + 1, MAX_LOOKS);
        // A daemon that takes a byte now and then does not keep a dying kernel.
        let mut wait = Wait::new(DYING, 0);
        let mut now_ns = 0;
        while !wait.is_over(now_ns) {
            now_ns += 4_000_000_000;
            wait.moved(now_ns);
        }
        assert_eq!(now_ns, DYING_NS);
    }

    #[test]
    fn a_notice_fits() {
        let mut notice = Notice {
            bytes: [0; NOTICE_BYTES],
            len: 0,
        };
        assert!(write!(notice, "\r\n[console: {} bytes lost]\r\n", u64::MAX).is_ok());
    }
}
