//! The proof of a suspend is made by a suspend.
use event_channels::Ports;
use hypercall_abi::{
    platform::{Hypercall, Pages},
    sched::Resumed,
};

fn misuse<P: Hypercall + Pages>(ports: &Ports<P>) {
    let _resumed = ports.resume(Resumed(()));
}

fn main() {}
