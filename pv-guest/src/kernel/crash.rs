//! What a kernel says before it ends by a fault or a panic.

use core::sync::atomic::{AtomicBool, Ordering};

use super::{console, power};
use crate::{
    arch::{image, traps},
    number::{Decimal, Hex},
    trap::{Frame, Report},
};

/// Set while the kernel reports its end.
static DYING: AtomicBool = AtomicBool::new(false);

/// Reports an exception that nobody handled, and ends the guest.
pub(crate) fn report(frame: &Frame, cr2: u64) -> ! {
    if DYING.swap(true, Ordering::Relaxed) {
        // A fault while reporting one: no more words.
        power::crash();
    }
    console::print_dying(format_args!(
        "{}",
        Report {
            frame,
            cr2,
            guards: &image::guards(),
        }
    ));
    print_backtrace((frame.rip, frame.rbp));
    power::crash();
}

/// What a panic says of itself.
struct Panic<'i>(&'i core::panic::PanicInfo<'i>);

impl core::fmt::Display for Panic<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("panicked at ")?;
        if let Some(place) = self.0.location() {
            f.write_str(place.file())?;
            let (line, column) = (u64::from(place.line()), u64::from(place.column()));
            write!(f, ":{}:{}", Decimal(line), Decimal(column))?;
        }
        f.write_str(":\n")?;
        self.0.message().fmt(f)?;
        f.write_str("\n")
    }
}

/// What the panic handler of `entry!` does.
pub fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::print_dying(format_args!("FATAL: {}", Panic(info)));
    print_backtrace(traps::here());
    power::crash()
}

/// The most frames that a backtrace shows.
const MAX_DEPTH: usize = 32;

/// Prints the return addresses on the stack, as far as they make sense.
pub(crate) fn print_backtrace((rip, rbp): (u64, u64)) {
    let text = image::text();
    let stacks = image::stacks();
    console::print_dying(format_args!("backtrace:\n  #0 {}\n", Hex(rip, 1)));
    let mut frame = rbp;
    for depth in 1..MAX_DEPTH as u64 {
        // A frame is two words: the caller's frame, and where to return.
        let on_stack = stacks
            .iter()
            .any(|stack| frame >= stack.start && frame.saturating_add(16) <= stack.end);
        if !on_stack || !frame.is_multiple_of(8) {
            break;
        }
        let place = core::ptr::with_exposed_provenance::<[u64; 2]>(frame as usize);
        // SAFETY: two aligned words of a stack of ours.
        let [caller, back] = unsafe { place.read_volatile() };
        if !text.contains(&back) {
            break;
        }
        console::print_dying(format_args!("  #{} {}\n", Decimal(depth), Hex(back, 1)));
        if caller <= frame {
            break;
        }
        frame = caller;
    }
}
