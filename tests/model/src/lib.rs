//! The words that Xen (or a peer) and the guest change at once, as loom's
//! atomics: the libraries' own steps run on them, and loom tries every
//! interleaving and every value that the memory model allows.
//!
//! The other side of each model is Xen, written down after its source.

use event_channels::word::{BitsWord, EventWord};
use grant_tables::{
    free::{Head, Links},
    revoke::FlagsWord,
};
use hypercall_abi::io::ring::index::Index;
use loom::sync::atomic::{
    AtomicU16, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// One event's word.
#[derive(Debug)]
pub struct Event(pub AtomicU32);

impl EventWord for Event {
    fn load(&self) -> u32 {
        self.0.load(Acquire)
    }
    fn compare_exchange(&self, current: u32, new: u32) -> Result<(), u32> {
        self.0
            .compare_exchange(current, new, AcqRel, Acquire)
            .map(|_| ())
    }
    fn fetch_or(&self, bits: u32) -> u32 {
        self.0.fetch_or(bits, AcqRel)
    }
    fn fetch_and(&self, bits: u32) -> u32 {
        self.0.fetch_and(bits, AcqRel)
    }
}

/// A word of pending or mask bits.
#[derive(Debug)]
pub struct Bits(pub AtomicU64);

impl BitsWord for Bits {
    fn load(&self) -> u64 {
        self.0.load(Acquire)
    }
    fn fetch_or(&self, bits: u64) -> u64 {
        self.0.fetch_or(bits, AcqRel)
    }
    fn fetch_and(&self, bits: u64) -> u64 {
        self.0.fetch_and(bits, AcqRel)
    }
    fn fence(&self) {
        fence(SeqCst);
    }
}

/// A grant's flags or status.
#[derive(Debug)]
pub struct Flags(pub AtomicU16);

impl FlagsWord for Flags {
    fn load(&self) -> u16 {
        self.0.load(Acquire)
    }
    fn store(&self, value: u16) {
        self.0.store(value, Release);
    }
    fn compare_exchange(&self, current: u16, new: u16) -> Result<(), u16> {
        self.0
            .compare_exchange(current, new, AcqRel, Acquire)
            .map(|_| ())
    }
    fn fence(&self) {
        fence(SeqCst);
    }
}

/// An index of a ring.
#[derive(Debug)]
pub struct RingIndex(pub AtomicU32);

impl Index for RingIndex {
    fn load(&self) -> u32 {
        self.0.load(Acquire)
    }
    fn store(&self, value: u32) {
        self.0.store(value, Release);
    }
    fn fence(&self) {
        fence(SeqCst);
    }
}

/// A list's head.
#[derive(Debug)]
pub struct ListHead(pub AtomicU64);

impl Head for ListHead {
    fn load(&self) -> u64 {
        self.0.load(Acquire)
    }
    fn compare_exchange(&self, current: u64, new: u64) -> Result<(), u64> {
        self.0
            .compare_exchange(current, new, AcqRel, Acquire)
            .map(|_| ())
    }
}

/// The links of a few references.
#[derive(Debug)]
pub struct Notes(pub [AtomicU32; 4]);

impl Links for Notes {
    fn next(&self, gref: u32) -> u32 {
        self.0[gref as usize].load(Relaxed)
    }
    fn set_next(&self, gref: u32, next: u32) {
        self.0[gref as usize].store(next, Relaxed);
    }
}
