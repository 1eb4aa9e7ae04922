//! The last words of a kernel.
//!
//! A kernel may die while it uses the console: in a value that is being printed, say. Who
//! uses it then does not give it back, and the words go by another handle on the ring.

use core::fmt::{self, Write as _};

use spin::Mutex;

use super::{
    CONSOLE, Device, LATE, Terminal, input,
    late::{self, Part},
    output::Written,
    ring::{Broken, ConsoleRing},
    write_late,
};
use crate::hypervisor::Current;

/// How often a dying kernel tries to get the console before it uses the other handle.
const TRIES: usize = 1_000_000;

/// The other handle on the kernel's console.
struct Spare {
    ring: Option<ConsoleRing<Current>>,
    /// It is what is written by: whoever used the console is no more.
    is_used: bool,
}

static SPARE: Mutex<Spare> = Mutex::new(Spare {
    ring: None,
    is_used: false,
});

/// This ring is the kernel's console.
pub(super) fn set(ring: &ConsoleRing<Current>) {
    SPARE.lock().ring = Some(ring.again());
}

/// Output of a kernel that cannot go on: a daemon that takes nothing is waited for a few
/// seconds only. Then all of the message goes the emergency way.
pub(crate) fn print_dying(args: fmt::Arguments<'_>) {
    if in_console(args).or_else(|| by_spare(args)) != Some(Written::Yes) {
        write_late(&mut Device::None);
        write_all(&mut Device::None, args);
    }
}

/// Writes to the console; none: it is in use, for good.
fn in_console(args: fmt::Arguments<'_>) -> Option<Written> {
    let tries = match SPARE.try_lock() {
        Some(spare) if !spare.is_used => TRIES,
        _ => 1,
    };
    for _ in 0..tries {
        if let Some(mut console) = CONSOLE.try_lock() {
            return Some(match &mut *console {
                Device::Ring(ring) => last_words(ring, args),
                other => {
                    write_late(other);
                    write_all(other, args);
                    Written::Yes
                }
            });
        }
        core::hint::spin_loop();
    }
    None
}

/// Writes by the other handle; none: there is none.
fn by_spare(args: fmt::Arguments<'_>) -> Option<Written> {
    let mut spare = SPARE.try_lock()?;
    let is_first = !core::mem::replace(&mut spare.is_used, true);
    let ring = spare.ring.as_mut()?;
    if is_first {
        ring.go_on();
        // What was interrupted has no end.
        let _said_otherwise: Result<Written, Broken> = ring.write_dying(b"\r\n");
    }
    Some(last_words(ring, args))
}

fn write_all(device: &mut Device, args: fmt::Arguments<'_>) {
    let _infallible: fmt::Result = Terminal::Device(device).write_fmt(args);
}

/// Writes what was kept, and then the last words.
#[inline(never)]
fn last_words(ring: &mut ConsoleRing<Current>, args: fmt::Arguments<'_>) -> Written {
    let mut place = [0; late::PART_BYTES];
    while let Some(Part::Bytes(len)) = LATE.try_lock().and_then(|mut late| late.take(&mut place)) {
        if ring.write_dying(place.get(..len).unwrap_or(&[])) != Ok(Written::Yes) {
            break;
        }
    }
    match Terminal::LastWords(ring).write_fmt(args) {
        Ok(()) => Written::Yes,
        Err(_) => Written::No,
    }
}

/// Waits until the daemon has taken everything, for a while.
pub(crate) fn drain() {
    super::send_late();
    // Nothing is left to be said by a ring that is broken.
    let drain = |ring: &mut ConsoleRing<Current>| {
        let _broken: Result<(), Broken> = ring.drain();
        if ring.take_event() {
            input::put_back();
        }
    };
    match CONSOLE.try_lock().as_deref_mut() {
        Some(Device::Ring(ring)) => drain(ring),
        Some(_) => {}
        None => {
            if let Some(mut spare) = SPARE.try_lock() {
                let is_used = spare.is_used;
                if let Some(ring) = &mut spare.ring {
                    if !is_used {
                        // Whoever uses the console was interrupted, or ends the guest himself:
                        // the daemon may not know of what he has written.
                        ring.go_on();
                    }
                    drain(ring);
                }
            }
        }
    }
}
