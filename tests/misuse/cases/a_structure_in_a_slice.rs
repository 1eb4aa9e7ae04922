//! In bytes that may be anything there are words, and no structures.
use hypercall_abi::{io::ring::Sring, peer::PeerSlice};

fn misuse(slice: PeerSlice<'_>) {
    let _head = slice.at::<Sring>(0);
}

fn main() {}
