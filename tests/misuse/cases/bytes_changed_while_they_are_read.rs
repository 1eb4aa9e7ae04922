//! The bytes of a page are changed by who borrows it alone.
use grant_tables::{Granted, PeerReads};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(granted: &mut Granted<'_, P, PeerReads>) {
    let bytes = granted.bytes();
    granted.bytes_mut().fill(1);
    let _first = bytes.first();
}

fn main() {}
