//! A page of another's is seen while it is mapped.
use grant_tables::{Borrowed, ReadWrite};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(borrowed: Borrowed<'_, P, ReadWrite>) {
    let page = borrowed.page(0);
    drop(borrowed);
    let _copied = page.map(|page| page.copy_from(&[1]));
}

fn main() {}
