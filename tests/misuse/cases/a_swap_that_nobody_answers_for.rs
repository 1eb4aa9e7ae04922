//! Grants change places by those who have them.
use hypercall_abi::{
    grant_table::{GnttabSwapGrantRef, swap},
    platform::Hypercall,
};

fn misuse(hypercall: &impl Hypercall) {
    let _swapped = swap(hypercall, &mut [GnttabSwapGrantRef::default()]);
}

fn main() {}
