//! Nothing writes through a view what a reference reads.
use grant_tables::{Granted, PeerReads};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(granted: &Granted<'_, P, PeerReads>) {
    let bytes = granted.bytes();
    granted.peer().copy_from(&[1]);
    let _first = bytes.first();
}

fn main() {}
