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
    netfront::{Nic, Poller},
    sync::{RawUpcallMutex, UpcallMutex},
    xenbus::Bus,
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

// Holds of upcalls are counted for one vCPU: a guard ends on the one that took it.
assert_not_impl_any!(MutexGuard<'static, RawUpcallMutex, u32>: Send);
assert_impl_all!(UpcallMutex<Cell<u32>>: Send, Sync);
assert_not_impl_any!(UpcallMutex<*mut u32>: Send, Sync);

// Its tasks are of one thread.
assert_not_impl_any!(Executor: Send, Sync);
