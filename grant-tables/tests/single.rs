//! What safe code can try with a grant table, of which a guest has one: nothing of it gives
//! back a page that a peer still has.

use grant_tables::{
    Borrowed, Error, GrantTable, Granted, Page, PeerReads, PeerWrites, ReadWrite, Version,
};
use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE,
    platform::{Pages, Singleton},
};
use mock_hypervisor::{Config, Domain, OneThread, Time, Xen};
use static_assertions::{assert_impl_all, assert_not_impl_any};

fn pair() -> (Domain, Domain) {
    let xen = Xen::new(Time::Virtual);
    let config = || Config {
        memory_mib: if cfg!(miri) { 1 } else { 4 },
        ..Config::default()
    };
    (xen.domain(config()).unwrap(), xen.domain(config()).unwrap())
}

type Lent<'t, 'p> = Granted<'t, &'p Domain, PeerWrites>;

fn lend<'t, 'p>(table: &'t GrantTable<&'p Domain>, peer: DomId) -> Lent<'t, 'p> {
    table.share(peer, Page::new(table).unwrap()).unwrap()
}

fn map<'p>(
    table: &'p GrantTable<&Domain>,
    peer: DomId,
    gref: GrantRef,
) -> Borrowed<'p, &'p Domain, ReadWrite> {
    let mapped = Borrowed::map(table, peer, &[gref]).unwrap();
    mapped.check().unwrap();
    mapped
}

fn table(domain: &Domain) -> Result<GrantTable<&Domain>, Error> {
    GrantTable::new(domain, Version::One)
}

#[test]
fn a_guest_has_one_table() {
    let (front, back) = pair();
    let first = table(&front).unwrap();
    assert_eq!(table(&front).unwrap_err(), Error::Taken);
    let lent = lend(&first, back.domid());
    assert_eq!(table(&front).unwrap_err(), Error::Taken);
    // Another's is another.
    let others = table(&back).unwrap();
    assert_eq!(lend(&others, front.domid()).gref(), lent.gref());
    // When all is given back there may be another.
    drop(lent);
    drop(first);
    // Miri has no atomics of another size where some were, as the mock's entries have.
    let other = if cfg!(miri) {
        Version::One
    } else {
        Version::Two
    };
    let second = GrantTable::new(&front, other).unwrap();
    assert_eq!(second.version(), other);
    drop(lend(&second, back.domid()));
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn a_table_that_leaves_a_page_with_a_peer_is_the_last() {
    let (front, back) = pair();
    let first = table(&front).unwrap();
    let theirs = table(&back).unwrap();
    let lent = lend(&first, back.domid());
    let mapped = map(&theirs, front.domid(), lent.gref());
    drop(lent);
    assert_eq!(first.quarantined(), 1);
    drop(first);
    assert_eq!(table(&front).unwrap_err(), Error::Taken);
    // What it writes there is seen by nobody.
    mapped.page(0).unwrap().copy_from(&[0xff; PAGE_SIZE]);
    drop(mapped);
    assert_eq!(table(&front).unwrap_err(), Error::Taken);
}

#[test]
fn a_grant_that_was_forgotten_keeps_its_reference() {
    let (front, back) = pair();
    let first = table(&front).unwrap();
    std::mem::forget(lend(&first, back.domid()));
    drop(first);
    assert_eq!(table(&front).unwrap_err(), Error::Taken);
}

#[test]
fn references_that_were_set_aside_are_free_again() {
    let (front, _) = pair();
    let first = table(&front).unwrap();
    drop(first.reserve(3).unwrap());
    drop(first);
    assert!(!front.singletons().is_taken(Singleton::GrantTable));
    assert!(table(&front).is_ok());
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn grants_of_another_table_are_not_swapped() {
    let (front, back) = pair();
    let first = table(&front).unwrap();
    let theirs = table(&back).unwrap();
    let (mut one, mut other) = (lend(&first, back.domid()), lend(&first, back.domid()));
    let grefs = [one.gref(), other.gref()];
    // The references exist there, too.
    let _kept = [(); 2].map(|()| lend(&theirs, DomId(9)));
    let swapped = theirs.swap(&mut one, &mut other);
    assert_eq!(swapped, Err(Error::OtherTable));
    assert_eq!([one.gref(), other.gref()], grefs);
    // The page that the second reference grants is the second grant's.
    let mapped = map(&theirs, front.domid(), grefs[1]);
    mapped.page(0).unwrap().copy_from(&[66]);
    assert_eq!(one.end().unwrap().bytes()[0], 0);
    assert!(other.end().is_err());
}

assert_not_impl_any!(GrantTable<OneThread>: Send, Sync);
assert_not_impl_any!(Page<'static, OneThread>: Send, Sync);
assert_not_impl_any!(Granted<'static, OneThread, PeerReads>: Send, Sync);
assert_not_impl_any!(Granted<'static, OneThread, PeerWrites>: Send, Sync);
assert_not_impl_any!(Borrowed<'static, OneThread, ReadWrite>: Send, Sync);
assert_not_impl_any!(grant_tables::Reserved<'static, OneThread>: Send, Sync);
assert_not_impl_any!(grant_tables::Forwarded<'static, OneThread>: Send, Sync);

assert_impl_all!(GrantTable<&'static Domain>: Send, Sync);
assert_impl_all!(Page<'static, Domain>: Send, Sync);
assert_impl_all!(Granted<'static, Domain, PeerReads>: Send, Sync);
assert_impl_all!(Granted<'static, Domain, PeerWrites>: Send, Sync);
assert_impl_all!(Borrowed<'static, Domain, ReadWrite>: Send, Sync);
assert_impl_all!(Borrowed<'static, Domain, grant_tables::ReadOnly>: Send, Sync);
assert_impl_all!(grant_tables::PeerView<'static>: Send, Sync, Copy);
assert_impl_all!(grant_tables::Reserved<'static, Domain>: Send, Sync);
assert_impl_all!(grant_tables::Forwarded<'static, Domain>: Send, Sync);
// One of each owns its page or its reference.
assert_not_impl_any!(Page<'static, Domain>: Clone, Copy);
assert_not_impl_any!(Granted<'static, Domain, PeerWrites>: Clone, Copy);
assert_not_impl_any!(Borrowed<'static, Domain, ReadWrite>: Clone, Copy);
assert_not_impl_any!(grant_tables::Forwarded<'static, Domain>: Clone, Copy);
assert_not_impl_any!(GrantTable<&'static Domain>: Clone, Copy);
assert_not_impl_any!(grant_tables::Reserved<'static, Domain>: Clone, Copy);
// What is copied is borrowed: its target for as long as the copy, by one.
assert_impl_all!(grant_tables::CopyFrom<'static>: Send, Sync);
assert_not_impl_any!(grant_tables::CopyFrom<'static>: Clone, Copy);
// A grant that could not be ended goes where the grant does.
assert_impl_all!(grant_tables::InUse<Granted<'static, Domain, PeerWrites>>: Send, Sync);
assert_not_impl_any!(grant_tables::InUse<Granted<'static, OneThread, PeerWrites>>: Send, Sync);
assert_not_impl_any!(grant_tables::InUse<Granted<'static, Domain, PeerWrites>>: Clone, Copy);
