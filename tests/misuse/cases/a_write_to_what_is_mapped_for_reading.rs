//! What is mapped for reading is not written.
use grant_tables::{Borrowed, ReadOnly};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(borrowed: &Borrowed<'_, P, ReadOnly>) {
    let _copied = borrowed.page(0).map(|page| page.copy_from(&[1]));
}

fn main() {}
