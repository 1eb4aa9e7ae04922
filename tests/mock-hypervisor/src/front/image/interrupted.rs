//! A guest that hangs, or whose user has seen enough: the process is asked to end, and
//! tells beforehand what it would have told at the guest's own end.

use std::{io, mem::MaybeUninit, thread, time::Duration};

use super::report::tell;
use crate::engine::domain::Domain;

const SIGNALS: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// The longest that is waited for the rest of the monitor, which may hang, too.
const PATIENCE: Duration = Duration::from_secs(1);

fn set() -> libc::sigset_t {
    let mut signals = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: fills the set.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    for signal in SIGNALS {
        // SAFETY: a set that was filled.
        unsafe { libc::sigaddset(signals.as_mut_ptr(), signal) };
    }
    // SAFETY: as above.
    unsafe { signals.assume_init() }
}

/// Lets those signals of this thread's through, or holds them back.
fn mask(how: libc::c_int) -> io::Result<()> {
    // SAFETY: changes this thread's mask.
    match unsafe { libc::pthread_sigmask(how, &set(), std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Holds them back from this thread and from all that it starts: for one that waits for
/// them, see [`watch`].
pub(super) fn hold() -> io::Result<()> {
    mask(libc::SIG_BLOCK)
}

/// Waits for them, on a thread of its own.
pub(super) fn watch(domain: &'static Domain) -> io::Result<()> {
    let watch = move || {
        let mut signal = 0;
        let signals = set();
        // SAFETY: waits for one of the set; both are there.
        if unsafe { libc::sigwait(&signals, &mut signal) } != 0 {
            return;
        }
        let last = thread::Builder::new().spawn(move || {
            thread::sleep(PATIENCE);
            end_by(signal);
        });
        if last.is_ok() {
            tell("xen: the guest is interrupted\n");
            let _by_signal = domain.last_acts(0);
        }
        end_by(signal);
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map(|_| ())
}

/// Ends the process as the signal would have.
fn end_by(signal: libc::c_int) -> ! {
    // SAFETY: as if it had never been looked for.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let _held = mask(libc::SIG_UNBLOCK);
    // SAFETY: the process ends.
    unsafe { libc::raise(signal) };
    std::process::exit(128 + signal)
}
