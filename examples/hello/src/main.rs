//! The smallest guest: it says hello and powers off.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

use pv_guest::{Error, Guest, entry, println};

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    println!(
        "hello from {} on {}",
        guest.guest_type(),
        guest.hypervisor()
    );
    Ok(())
}
