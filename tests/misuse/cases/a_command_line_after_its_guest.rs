//! A command line lies in memory of the guest's platform, which goes with the guest.
use hypercall_abi::platform::Platform;
use pv_guest::Guest;

fn misuse<P: Platform>(guest: Guest<P>) -> usize {
    let line = guest.command_line();
    drop(guest);
    line.len()
}

fn main() {}
