//! Interruptions for no reason, to test what interruptions do.

use std::{thread, time::Duration};

use super::vcpu::Thread;

/// The most microseconds between two.
const MAX_US: u64 = 40;

/// Interrupts each vCPU that runs the guest's code, again and again.
pub(super) fn start(threads: &'static [Thread]) {
    thread::spawn(move || {
        // Marsaglia's xorshift, from any number that is not zero.
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        loop {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            thread::sleep(Duration::from_micros(noise % MAX_US));
            threads.iter().for_each(Thread::kick);
        }
    });
}
