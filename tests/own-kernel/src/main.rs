//! A kernel that has its own boot, page tables, heap, interrupt table, executor and timer,
//! and takes the store's client and the disk's driver from this workspace: it reads its
//! disk, and powers off. It runs on Xen as PVH.
//!
//! It is here as the proof that the drivers can be linked to such a kernel, which loads
//! none of `pv-guest`'s own boot.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod kernel;
#[cfg(target_os = "none")]
mod platform;
#[cfg(target_os = "none")]
mod tasks;

#[cfg(target_os = "none")]
use kernel::run;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("a kernel: cargo lab run own-kernel --on xen-pvh --disk");
}
