//! One small test per claim about the guest interface, on whatever hypervisor
//! runs this kernel. Prints a line for each and ends as they did.
//!
//! With `fault=panic|null|stack|loop|return|write-text|execute-data|watchdog|reboot` on the
//! command line it does that instead, so that the way a guest dies can be
//! looked at from outside; with `calls`, it makes every harmless call and says
//! what was answered. `spoil.S` has other entries, which spoil what the
//! loader hands over.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

mod calls;
mod claims;
mod faults;

use pv_guest::{Error, Guest, entry, println};

entry!(main);

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("spoil.S"), options(att_syntax));

/// How a claim turned out.
enum Verdict {
    Ok,
    Failed(&'static str),
    Skipped(&'static str),
}

type Claim = (&'static str, fn(&Guest) -> Verdict);

fn main(guest: Guest) -> Result<(), Error> {
    let options = guest.command_line().split_whitespace();
    if let Some(fault) = options
        .into_iter()
        .find_map(|word| word.strip_prefix("fault="))
    {
        println!("fault: {fault}");
        return faults::run(&guest, fault);
    }
    if guest
        .command_line()
        .split_whitespace()
        .any(|word| word == "calls")
    {
        return calls::run(&guest);
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, claim) in claims::ALL {
        match claim(&guest) {
            Verdict::Ok => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Verdict::Failed(why) => {
                failed += 1;
                println!("test {name} ... FAILED: {why}");
            }
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("test {name} ... skipped ({why})");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        return Err(Error::Failed("a claim does not hold"));
    }
    Ok(())
}
