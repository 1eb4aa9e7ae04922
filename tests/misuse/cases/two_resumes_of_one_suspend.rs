//! The proof of a suspend is used up.
use event_channels::Ports;
use hypercall_abi::{
    platform::{Hypercall, Pages},
    sched::Resumed,
};

fn misuse<P: Hypercall + Pages>(ports: &Ports<P>, resumed: Resumed) {
    let _once = ports.resume(resumed);
    let _twice = ports.resume(resumed);
}

fn main() {}
