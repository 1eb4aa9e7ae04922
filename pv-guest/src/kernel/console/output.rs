//! Output by a ring whose daemon is slow, or has stopped.
//!
//! A daemon that takes bytes gets all of them, as long as a message takes it no longer than
//! [`MESSAGE_NS`]: the guest waits for it. One that takes nothing for [`STALL_NS`] has
//! stopped: then bytes are dropped and counted, without waiting any more, until it takes
//! something again. One that is too slow for a message has so much less: it is waited for
//! again when it has taken half of what is in its ring. The first thing that either gets
//! then is how many were lost.

use hypercall_abi::platform::Platform;

use super::ring::{Broken, ConsoleRing};
use crate::number::{Base, digits};

/// How long a daemon may take nothing before output is dropped: longer than one takes to
/// be started anew, or a busy host to come to it.
pub const STALL_NS: u64 = 30_000_000_000;
/// How long a message may take a daemon that takes some of it now and then: who prints
/// holds the console meanwhile, and upcalls.
pub const MESSAGE_NS: u64 = 60_000_000_000;
/// The same as [`STALL_NS`] for the last words of a kernel, which has another way to say them.
pub const DYING_STALL_NS: u64 = 5_000_000_000;
/// The longest that a dying kernel waits for room for all of its last words, and once more
/// for all that is in the ring to be taken.
pub const DYING_NS: u64 = 60_000_000_000;
/// Looks that a daemon gets at least: the clock also goes on while the guest is paused.
const MIN_LOOKS: u32 = 100;
/// Looks that it gets at most, where no clock goes on or it notifies without end.
const MAX_LOOKS: u32 = 1 << 20;

/// How long a daemon is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    stall_ns: u64,
    all_ns: u64,
    /// Looks that it gets in all at least.
    all_looks: u32,
}

const RUNNING: Patience = Patience {
    stall_ns: STALL_NS,
    all_ns: MESSAGE_NS,
    all_looks: MIN_LOOKS,
};
const DYING: Patience = Patience {
    stall_ns: DYING_STALL_NS,
    all_ns: DYING_NS,
    all_looks: 0,
};

/// A wait for the daemon to take something.
struct Wait {
    patience: Patience,
    begun_ns: u64,
    moved_ns: u64,
    /// Since it took something.
    looks: u32,
    all_looks: u32,
}

impl Wait {
    const fn new(patience: Patience, now_ns: u64) -> Self {
        Self {
            patience,
            begun_ns: now_ns,
            moved_ns: now_ns,
            looks: 0,
            all_looks: 0,
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
        self.all_looks = self.all_looks.saturating_add(1);
        let is_late = now_ns.saturating_sub(self.moved_ns) >= self.patience.stall_ns
            && self.looks >= MIN_LOOKS;
        is_late
            || self.looks >= MAX_LOOKS
            || now_ns.saturating_sub(self.begun_ns) >= self.patience.all_ns
                && self.all_looks >= self.patience.all_looks
    }
}

/// What is known of a daemon that takes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    state: State,
    lost_bytes: u64,
    /// When the message began of which pieces are written.
    message_since_ns: Option<u64>,
    /// When the kernel began to die.
    dying_since_ns: Option<u64>,
}

impl Stall {
    /// Whether a message has begun and not ended.
    pub(super) const fn is_in_message(&self) -> bool {
        self.message_since_ns.is_some()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Taking,
    /// It has taken nothing since it was given up.
    Stopped,
    /// It takes some, too slowly for a message.
    Trickling,
    /// It has stopped while the kernel was dying: it is not waited for again.
    LeftBehind,
}

impl<P: Platform> ConsoleRing<P> {
    /// How many bytes were dropped that the daemon has not been told of.
    pub const fn lost_bytes(&self) -> u64 {
        self.stall.lost_bytes
    }

    /// What is written until [`Self::end_message`] is one message: it is waited for no longer
    /// than one, and the daemon is notified once of each line.
    pub(super) fn begin_message(&mut self) {
        self.stall.message_since_ns = Some(self.now_ns());
    }

    /// Each further write is a message of its own.
    pub(super) fn end_message(&mut self) {
        self.stall.message_since_ns = None;
        self.tell_on();
    }

    /// Writes everything, if the daemon takes it within [`MESSAGE_NS`]. If it does not, or
    /// takes nothing for [`STALL_NS`], the rest is dropped and counted, and so is, at once,
    /// all that is written before it takes something (or half of what it has, if it was
    /// slow); then it is told how much was lost.
    ///
    /// # Errors
    /// The daemon broke the ring.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let wanted_room = match self.stall.state {
            State::Taking => 0,
            State::Stopped | State::LeftBehind => 1,
            State::Trickling => self.out_bytes() / 2,
        };
        if wanted_room > 0 {
            if self.room()? < wanted_room {
                self.stall.lost_bytes = self.stall.lost_bytes.saturating_add(bytes.len() as u64);
                return Ok(());
            }
            self.stall.state = State::Taking;
        }
        let now_ns = self.now_ns();
        let since_ns = self.stall.message_since_ns.unwrap_or(now_ns);
        let told = self.tell_lost(since_ns)?;
        let rest = match told {
            Told::Yes => self.put(bytes, self.patience(since_ns))?,
            Told::No => bytes.len(),
        };
        if rest > 0 {
            let is_late = self.patience(since_ns).all_ns == 0;
            self.stall.state = match is_late {
                true => State::Trickling,
                false => State::Stopped,
            };
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
            State::Stopped | State::Trickling => self.room()? == 0,
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
        self.tell_lost(self.now_ns())?;
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

    /// What is left of it for a message that began then.
    fn patience(&self, since_ns: u64) -> Patience {
        let passed_ns = self.now_ns().saturating_sub(since_ns);
        Patience {
            all_ns: RUNNING.all_ns.saturating_sub(passed_ns),
            ..RUNNING
        }
    }

    /// Tells the daemon how many bytes it has lost, if any, in a message that began then.
    fn tell_lost(&mut self, since_ns: u64) -> Result<Told, Broken> {
        let lost_bytes = core::mem::take(&mut self.stall.lost_bytes);
        if lost_bytes == 0 {
            return Ok(Told::Yes);
        }
        let mut told = Ok(Told::Yes);
        notice(lost_bytes, &mut |part| {
            if told == Ok(Told::Yes) {
                told = self
                    .put(part, self.patience(since_ns))
                    .map(|left| match left {
                        0 => Told::Yes,
                        _ => Told::No,
                    });
            }
        });
        if told == Ok(Told::No) {
            self.stall.lost_bytes = lost_bytes;
        }
        told
    }
}

/// What is said of lost bytes, in parts.
#[inline(never)]
pub(super) fn notice(lost_bytes: u64, say: &mut dyn FnMut(&[u8])) {
    let (digits, start) = digits(lost_bytes, Base::Ten, 1);
    say(b"\r\n[console: ");
    say(digits.get(start..).unwrap_or(&[]));
    say(b" bytes lost]\r\n");
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
        let mut wait = Wait::new(RUNNING, 7);
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
}
