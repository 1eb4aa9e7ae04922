//! A page that is given back is seen by nobody who saw it while it was lent.
use grant_tables::{Granted, PeerWrites};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(granted: Granted<'_, P, PeerWrites>) {
    let peer = granted.peer();
    drop(granted);
    peer.copy_from(&[1]);
}

fn main() {}
