//! A guest that puts load on its devices. Words on the command line say which:
//!
//! - `torture=S`: random reads, writes and flushes of a disk for so many seconds,
//!   to which the world outside does what it likes; each sector is compared with
//!   what it may be. `depth=N` tasks (32), `queues=N` of the disk (4), `seed=N`;
//!   `compare=no` for a disk that may give back anything. `statuses=N`: on until the
//!   disk's status has changed so often, for 12 times as long at the most.
//! - `again=N`: a disk is used by one frontend after the other, N of them, each with
//!   another number of queues and another size of rings than the one before: what that
//!   one left in the store is of no use to it.
//! - `devices=close|many|refused|cycles|odd`: what a toolstack does to devices;
//!   `devices=stale-nic|groups|ports|offloads`: interfaces on a host as it is.
//! - `bench=PHASE,PHASE...`: one kind of load after the other, measured; see
//!   [`load_plan`].
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod again;
mod bench;
mod blocks;
mod devices;
mod nics;
mod odd;
mod offloads;
mod options;
mod sockets;
mod strain;
mod torture;
mod wire;

use pv_guest::{Error, Guest, entry, println};

use options::Options;

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    let options = Options::of(guest.command_line());
    if let Some(seconds) = options.number("torture") {
        return strain::run(&guest, &options, seconds);
    }
    if let Some(rounds) = options.number("again") {
        return again::run(&guest, rounds);
    }
    if let Some(what) = options.text("devices") {
        return devices::run(&guest, &options, what);
    }
    if options.text("bench").is_some() {
        return bench::run(&guest);
    }
    println!("load: nothing to do: say torture=SECONDS, again=N, devices=TEST or bench=PHASES");
    Ok(())
}

/// Lets other tasks go on, and upcalls come.
async fn pause() {
    let mut first = true;
    core::future::poll_fn(|cx| {
        if core::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return core::task::Poll::Pending;
        }
        core::task::Poll::Ready(())
    })
    .await;
}
