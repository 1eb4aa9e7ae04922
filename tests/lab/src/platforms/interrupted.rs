//! The lab is interrupted while a guest's process runs: that is asked to end, and what
//! it then tells is shown.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::platforms::run::PATIENCE;

/// The exit status of an interrupted lab, as a shell has it.
pub(crate) const STATUS: i32 = 130;

#[derive(Debug, Default)]
struct Processes {
    all: Vec<u32>,
    /// The lab is about to end.
    is_ending: bool,
}

static PROCESSES: Mutex<Processes> = Mutex::new(Processes {
    all: Vec::new(),
    is_ending: false,
});
static GONE: Condvar = Condvar::new();

/// A guest's process that is attended to until this is dropped.
#[derive(Debug)]
pub(crate) struct Attended(u32);

/// From now on, an interruption waits for this process.
pub(crate) fn attend(pid: u32) -> Attended {
    let mut processes = PROCESSES.lock().unwrap_or_else(PoisonError::into_inner);
    processes.all.push(pid);
    Attended(pid)
}

impl Drop for Attended {
    fn drop(&mut self) {
        let mut processes = PROCESSES.lock().unwrap_or_else(PoisonError::into_inner);
        processes.all.retain(|pid| *pid != self.0);
        GONE.notify_all();
        // Who interrupts has the last word, and the exit status.
        while processes.is_ending {
            processes = GONE
                .wait_timeout(processes, Duration::from_secs(3600))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Asks all of them to end, and waits for a moment until all that they say was shown.
pub(crate) fn ask() {
    let mut processes = PROCESSES.lock().unwrap_or_else(PoisonError::into_inner);
    processes.is_ending = true;
    for pid in &processes.all {
        // SAFETY: a child of ours that was not yet waited for, or just now: then it is
        // nobody's number yet.
        unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
    }
    let _waited = GONE
        .wait_timeout_while(processes, PATIENCE, |processes| !processes.all.is_empty())
        .unwrap_or_else(PoisonError::into_inner);
}
