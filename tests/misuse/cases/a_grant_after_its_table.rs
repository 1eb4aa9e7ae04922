//! A grant is of a table that is there.
use grant_tables::{GrantTable, Page};
use hypercall_abi::platform::{Hypercall, Pages};

fn misuse<P: Hypercall + Pages>(table: GrantTable<P>) {
    let page = Page::new(&table);
    drop(table);
    drop(page);
}

fn main() {}
