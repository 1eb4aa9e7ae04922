//! Who lends a page has it no more.
use grant_tables::{GrantTable, Page, PeerReads, PeerWrites};
use hypercall_abi::{
    DomId,
    platform::{Hypercall, Pages},
};

fn misuse<'t, P: Hypercall + Pages>(table: &'t GrantTable<P>, page: Page<'t, P>) {
    let _one = table.share::<PeerReads>(DomId(1), page);
    let _other = table.share::<PeerWrites>(DomId(2), page);
}

fn main() {}
