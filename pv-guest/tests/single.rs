//! What may be sent to another thread, shared with one, or copied: of what owns
//! or borrows memory that a peer shares.

use core::cell::Cell;

use lock_api::MutexGuard;
use mock_hypervisor::Domain;
use pv_guest::{
    BootInfo, CommandLine, GrantedBuf, Guest, Store,
    blkfront::{Disk, Volume},
    console::ring::ConsoleRing,
    executor::Executor,
    memory::{FrameAllocator, MemoryMap},
    netfront::{Nic, Poller},
    power::Watchdog,
    sync::{RawUpcallMutex, UpcallMutex},
    time::Sleep,
    trap::Report,
    xenbus::{Bus, Discovery},
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Platform = &'static Domain;

// Handles: their platform may be used on any thread, and so may they.
assert_impl_all!(Bus<'static, Platform>: Send, Sync, Copy);
assert_impl_all!(Disk<'static, Platform>: Send, Sync, Clone);
assert_impl_all!(Volume<'static, Platform>: Send, Sync);
assert_impl_all!(Nic<'static, Platform>: Send, Sync, Clone);
assert_impl_all!(Store: Send, Sync);
assert_impl_all!(Guest: Send, Sync);
assert_impl_all!(BootInfo: Send, Sync);
assert_impl_all!(CommandLine: Send, Sync, Copy);
assert_impl_all!(ConsoleRing<Platform>: Send);

// One owner of pages, of a ring's end, of a place in a queue.
assert_impl_all!(GrantedBuf<'static, Platform>: Send);
assert_not_impl_any!(GrantedBuf<'static, Platform>: Clone, Copy);
assert_impl_all!(Poller<'static, Platform>: Send);
assert_not_impl_any!(Poller<'static, Platform>: Clone, Copy);
assert_not_impl_any!(ConsoleRing<Platform>: Clone, Copy);
assert_not_impl_any!(Guest: Clone, Copy);

assert_impl_all!(Discovery<'static, Platform>: Send, Sync);
assert_not_impl_any!(Discovery<'static, Platform>: Clone, Copy);
assert_not_impl_any!(Store: Clone, Copy);

// Whoever has frames to give out is one.
assert_impl_all!(FrameAllocator<'static>: Send);
assert_not_impl_any!(FrameAllocator<'static>: Clone, Copy);
assert_impl_all!(MemoryMap: Send, Sync);
assert_impl_all!(Report<'static>: Send, Sync);

// A watchdog is fed where its platform may be used.
assert_impl_all!(Watchdog<Platform>: Send, Sync);
assert_not_impl_any!(Watchdog<Platform>: Clone, Copy);

// A sleep is in the queue once.
assert_impl_all!(Sleep: Send);
assert_not_impl_any!(Sleep: Clone, Copy);

// Holds of upcalls are counted for one vCPU: a guard ends on the one that took it.
assert_not_impl_any!(MutexGuard<'static, RawUpcallMutex, u32>: Send);
assert_impl_all!(UpcallMutex<Cell<u32>>: Send, Sync);
assert_not_impl_any!(UpcallMutex<*mut u32>: Send, Sync);

// Its tasks are of one thread.
assert_not_impl_any!(Executor: Send, Sync);
