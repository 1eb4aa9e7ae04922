//! Who masks upcalls expects none.
use hypercall_abi::{platform::Hypercall, sched};

fn misuse(hypercall: &impl Hypercall) {
    let _slept = sched::block(hypercall);
}

fn main() {}
