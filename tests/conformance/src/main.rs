//! One small test per claim about the guest interface, on whatever hypervisor
//! runs this kernel. Prints a line for each and ends as they did.
//!
//! Words on the command line have it do something else instead:
//! `fault=panic|print|null|stack|loop|hang|return|reason|write-text|execute-data|watchdog|reboot`
//! dies that way, to be looked at from outside; `measure` tells figures about
//! time; `pair=front` and `pair=back` work with each other; `registers=N` looks at
//! all registers N times while events come, and `ipis=N` sends as many to another
//! vCPU; `lines=N` writes N lines without a pause;
//! `prints` prints while it prints; `silence=SECONDS` and `silence=panic` print while the
//! console's daemon is stopped (on a real Xen);
//! `touch` writes to all memory, `touch=refused` after Xen has refused to map some of it and
//! `touch=suspend` before and after a suspend; `costs` tells what the ways to the hypervisor cost. `ports=2level`,
//! `upcall=apic` and `grants=2` have the claims tried with the other of two
//! interfaces; [`suite`] has the words that choose among them. `spoil.S` has other
//! entries, which spoil what the loader hands over.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

mod calls;
mod claim;
mod claims;
mod costs;
mod faults;
mod flood;
mod hypercall_page;
mod lent;
mod measure;
#[cfg(target_os = "none")]
mod noise;
mod pair;
mod prints;
mod probe;
mod second;
mod silence;
mod suite;
mod torture;
mod touch;

extern crate alloc;

use alloc::string::String;

use event_channels::Choice;
use grant_tables::Version;
use pv_guest::{Current, Delivery, Error, Guest, entry, println};

entry!(main);

#[cfg(target_os = "none")]
core::arch::global_asm!(include_str!("spoil.S"), options(att_syntax));

fn has_option(guest: &Guest, wanted: &str) -> bool {
    let mut options = guest.command_line().split_whitespace();
    options.any(|word| word == wanted)
}

fn choice(guest: &Guest) -> Choice {
    if has_option(guest, "ports=2level") {
        Choice::TwoLevel
    } else {
        Choice::Best
    }
}

fn delivery(guest: &Guest) -> Delivery {
    if has_option(guest, "upcall=apic") {
        Delivery::LocalApic
    } else {
        Delivery::Best
    }
}

fn two_guests(
    guest: &Guest,
    side: fn(pair::Side<'static, Current>) -> Result<String, String>,
) -> Result<(), Error> {
    let both = pair::Side {
        ports: guest.start_ports(choice(guest), delivery(guest))?,
        table: guest.grants()?,
        store: guest.store()?,
        rounds: pair::ROUND_TRIPS,
    };
    match side(both) {
        Ok(done) => println!("{done}"),
        Err(why) => {
            println!("FAILED: {why}");
            return Err(Error::Failed("the two guests did not work together"));
        }
    }
    Ok(())
}

fn number(text: &str) -> Result<u64, Error> {
    let number = text.parse();
    number.map_err(|_| Error::Failed("this word wants a number behind it"))
}

fn main(guest: Guest) -> Result<(), Error> {
    let options = guest.command_line().split_whitespace();
    if let Some(fault) = options
        .into_iter()
        .find_map(|word| word.strip_prefix("fault="))
    {
        println!("fault: {fault}");
        return faults::run(&guest, fault);
    }
    if has_option(&guest, "list") {
        suite::list();
        return Ok(());
    }
    for (option, side) in [
        ("pair=back", pair::back as fn(_) -> _),
        ("pair=front", pair::front as fn(_) -> _),
    ] {
        if has_option(&guest, option) {
            return two_guests(&guest, side);
        }
    }
    if let Some(count) = suite::value(&guest, "lines") {
        return torture::run(&guest, number(count)?, flood::lines);
    }
    if has_option(&guest, "prints") {
        return prints::run(&guest);
    }
    if let Some(how) = suite::value(&guest, "silence") {
        return silence::run(&guest, how);
    }
    for (option, test) in [
        ("touch", touch::all_memory as fn(&Guest, u64) -> _),
        ("touch=refused", touch::refused_memory),
        ("touch=suspend", touch::over_a_suspend),
    ] {
        if has_option(&guest, option) {
            return torture::run(&guest, 0, test);
        }
    }
    if has_option(&guest, "measure") {
        return measure::run(&guest);
    }
    if has_option(&guest, "costs") {
        let _ports = guest.start_ports(choice(&guest), delivery(&guest))?;
        return costs::run(&guest);
    }
    for (what, test) in [
        ("registers", torture::registers as fn(&Guest, u64) -> _),
        ("ipis", torture::ipis as fn(&Guest, u64) -> _),
    ] {
        if let Some(count) = suite::value(&guest, what) {
            let _ports = guest.start_ports(choice(&guest), delivery(&guest))?;
            return torture::run(&guest, number(count)?, test);
        }
    }
    // Errors show in the claims about them.
    let _ports = guest.start_ports(choice(&guest), delivery(&guest));
    if has_option(&guest, "grants=2") {
        let _table = guest.start_grants(Version::Two);
    }
    suite::run(&guest)
}
