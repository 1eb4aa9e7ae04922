//! Grants between two domains of the mock hypervisor.

use grant_tables::{
    Borrowed, CopyFrom, CopyTo, Error, GrantTable, Granted, InUse, Owner, Page, PeerReads,
    PeerWrites, ReadOnly, ReadWrite, Version,
};
use hypercall_abi::{
    DomId, Errno, GrantRef, HypercallNr, Mfn, PAGE_SIZE,
    grant_table::{GNTTABOP_QUERY_SIZE, GrantStatus},
    platform::Pages,
    sched::{self, Suspended},
};
use mock_hypervisor::{Config, Domain, DomainType, Suspend, Time, Xen};

const BOTH: [Version; 2] = [Version::One, Version::Two];

struct Pair {
    front: Domain,
    back: Domain,
}

/// The side that maps.
struct Back<'p> {
    table: GrantTable<&'p Domain>,
}

impl<'p> Back<'p> {
    fn of(domain: &'p Domain) -> Self {
        let table = GrantTable::new(domain, Version::One).unwrap();
        Self { table }
    }

    fn domid(&self) -> DomId {
        self.table.platform().domid()
    }
}

impl Pair {
    fn new() -> Self {
        let xen = Xen::new(Time::Virtual);
        let config = || Config {
            memory_mib: if cfg!(miri) { 1 } else { 4 },
            ..Config::default()
        };
        Self {
            front: xen.domain(config()).unwrap(),
            back: xen.domain(config()).unwrap(),
        }
    }

    fn table(&self, version: Version) -> GrantTable<&Domain> {
        let table = GrantTable::new(&self.front, version).unwrap();
        assert_eq!(table.version(), version);
        table
    }
}

fn lend<'t, A: grant_tables::Access>(
    table: &'t GrantTable<&'t Domain>,
    peer: DomId,
    text: &[u8],
) -> Granted<'t, &'t Domain, A> {
    let mut page = Page::new(table).unwrap();
    page.bytes_mut()[..text.len()].copy_from_slice(text);
    table.share(peer, page).unwrap()
}

/// Reads what is in the page, and writes something else.
fn answer(borrowed: &Borrowed<'_, &Domain, ReadWrite>) {
    let mut text = [0; 5];
    borrowed.page(0).unwrap().copy_to(&mut text);
    assert_eq!(&text, b"hello");
    borrowed.page(0).unwrap().copy_from(b"HELLO");
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn a_page_is_lent_mapped_and_comes_back() {
    for version in BOTH {
        let pair = Pair::new();
        let table = pair.table(version);
        let granted = lend::<PeerWrites>(&table, pair.back.domid(), b"hello");
        let free = table.free_references();
        let back = Back::of(&pair.back);
        let borrowed: Borrowed<_, ReadWrite> =
            Borrowed::map(&back.table, pair.front.domid(), &[granted.gref()]).unwrap();
        borrowed.check().unwrap();
        answer(&borrowed);
        assert!(granted.is_used());
        let InUse(mut granted) = granted.end().unwrap_err();
        // With version 2 nothing is granted any more, but it is not over.
        assert!(!granted.is_over());
        granted.renew(pair.back.domid()).unwrap();
        let mut text = [0; 5];
        granted.peer().copy_to(&mut text);
        assert_eq!(&text, b"HELLO");
        drop(borrowed);
        let page = granted.end().unwrap();
        assert_eq!(&page.bytes()[..5], b"HELLO");
        assert_eq!(table.free_references(), free + 1);
    }
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn elsewhere_all_grants_are_over_and_can_be_made_again() {
    for version in BOTH {
        let pair = Pair::new();
        let (front, peer) = (&pair.front, pair.back.domid());
        let table = pair.table(version);
        let back = Back::of(&pair.back);
        let mut granted = lend::<PeerWrites>(&table, peer, b"hello");
        let dropped = lend::<PeerReads>(&table, peer, b"");
        let hoarded = lend::<PeerWrites>(&table, peer, b"");
        let grefs = [granted.gref(), hoarded.gref()];
        let kept: Borrowed<_, ReadWrite> =
            Borrowed::map(&back.table, front.domid(), &grefs).unwrap();
        kept.check().unwrap();
        drop(hoarded);
        assert_eq!(table.quarantined(), 1);
        granted.renew(peer).unwrap();
        assert!(!granted.is_over() && granted.is_used());
        let free = table.free_references();

        front.xen().suspend(front.domid(), Suspend::Moved).unwrap();
        let frame = front.gfn_of(front.start_info().cast()).unwrap();
        // SAFETY: what it changes is looked at anew.
        let suspended = unsafe { sched::suspend(&front, Some(Mfn(frame.0))) };
        assert!(matches!(suspended, Ok(Suspended::Resumed(_))));
        table.resume().unwrap();
        assert!(granted.is_over() && !granted.is_used() && dropped.is_over());
        assert_eq!(table.quarantined(), 0);
        assert_eq!(table.free_references(), free + 1);
        drop(dropped);
        assert_eq!(table.free_references(), free + 2);
        let gref = granted.gref();
        granted.renew(peer).unwrap();
        assert_eq!(granted.gref(), gref);
        drop(kept);
        let borrowed: Borrowed<_, ReadWrite> =
            Borrowed::map(&back.table, front.domid(), &[gref]).unwrap();
        borrowed.check().unwrap();
        answer(&borrowed);
        assert!(granted.is_used());
        drop(borrowed);
        assert_eq!(&granted.end().unwrap().bytes()[..5], b"HELLO");
    }
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn what_is_dropped_in_use_waits_in_quarantine() {
    for version in BOTH {
        let pair = Pair::new();
        let table = pair.table(version);
        let back = Back::of(&pair.back);
        let granted = lend::<PeerWrites>(&table, back.domid(), b"x");
        let gref = granted.gref();
        let borrowed: Borrowed<_, ReadWrite> =
            Borrowed::map(&back.table, pair.front.domid(), &[gref]).unwrap();
        // What the back wrote into it would be seen in a page that is another's.
        drop(granted);
        assert_eq!(table.quarantined(), 1);
        assert_eq!(table.quarantine().collect::<Vec<_>>(), [gref]);
        assert_eq!(table.release_quarantine(), 1);
        // The page is nobody else's while the peer writes to it.
        let others: Vec<_> = (0..500)
            .map(|_| lend::<PeerReads>(&table, back.domid(), b""))
            .collect();
        borrowed.page(0).unwrap().copy_from(&[0xff; PAGE_SIZE]);
        for other in &others {
            assert_eq!(other.bytes(), [0; PAGE_SIZE], "the peer writes to it");
            assert_ne!(other.gref(), gref);
        }
        drop(borrowed);
        assert_eq!(table.release_quarantine(), 0);
        assert_eq!(table.quarantine().count(), 0);
        // Its next owner sees none of what the peer wrote.
        drop(others);
        let next = lend::<PeerReads>(&table, back.domid(), b"");
        assert_eq!(next.bytes(), [0; PAGE_SIZE]);
    }
}

/// Lends pages that the peer has mapped when they are dropped.
fn leave_in_use<'b>(
    table: &GrantTable<&Domain>,
    back: &'b Back<'_>,
    owner: Owner,
    count: usize,
) -> Vec<Borrowed<'b, &'b Domain, ReadWrite>> {
    let peer = back.domid();
    let front = table.platform().domid();
    let leave = |_| {
        let page = Page::new(table).unwrap();
        let mut lent: Granted<'_, _, PeerWrites> = table.share(peer, page).unwrap();
        lent.set_owner(owner);
        Borrowed::map(&back.table, front, &[lent.gref()]).unwrap()
    };
    (0..count).map(leave).collect()
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn what_peers_keep_is_counted_for_its_owner() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let (disk, nic) = (Owner::named("disk"), Owner::named("nic"));
    assert!(disk != nic && disk != Owner::NONE && nic != Owner::NONE);
    assert_eq!(Owner::named("disk"), disk);
    let disks = leave_in_use(&table, &back, disk, 3);
    let nics = leave_in_use(&table, &back, nic, 2);
    let other = leave_in_use(&table, &back, Owner::NONE, 1);
    let kept = || [disk, nic, Owner::NONE].map(|owner| table.quarantined_of(owner));
    assert_eq!(kept(), [3, 2, 1]);
    drop(disks);
    assert_eq!(kept(), [3, 2, 1], "nobody has looked yet");
    table.release_quarantine();
    assert_eq!(kept(), [0, 2, 1]);
    drop((nics, other));
    table.release_quarantine();
    assert_eq!(kept(), [0; 3]);
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn quarantine_is_looked_at_again_when_memory_runs_out() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let let_go = leave_in_use(&table, &back, Owner::NONE, 100);
    let kept = leave_in_use(&table, &back, Owner::NONE, 1);
    drop(let_go);
    assert_eq!(table.quarantined(), 101);
    let mut pages = Vec::new();
    while let Ok(page) = Page::new(&table) {
        pages.push(page);
    }
    assert_eq!(table.quarantined(), 1, "the peer has this one");
    assert!(pages.len() >= 100);
    // Also where the memory is not for a page to lend.
    drop(kept);
    assert_eq!(table.quarantined(), 1);
    let mapped = Borrowed::<_, ReadOnly>::map(&table, back.domid(), &[GrantRef(9)]);
    assert!(mapped.is_ok(), "a page for its list came from quarantine");
}

/// A table that can have no more references, of which some are in quarantine.
#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn quarantine_is_looked_at_again_when_references_run_out() {
    let pair = Pair::new();
    let op = Some(GNTTABOP_QUERY_SIZE);
    pair.front
        .refuse(HypercallNr::GRANT_TABLE_OP, op, Errno::ENOSYS);
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let theirs = leave_in_use(&table, &back, Owner::NONE, 2);
    let _reserved = table.reserve(table.max_references() - 2).unwrap();
    let one_more = || {
        let page = Page::new(&table).unwrap();
        table.share::<PeerReads>(back.domid(), page)
    };
    assert_eq!(one_more().err(), Some(Error::NoReference));
    drop(theirs);
    assert_eq!((table.quarantined(), table.free_references()), (2, 0));
    let both = [(); 2].map(|()| one_more().unwrap());
    assert_eq!(table.quarantined(), 0);
    assert_eq!(one_more().err(), Some(Error::NoReference));
    drop(both);
}

/// A guest of each kind that takes its table up anew where it is: what it has lent is lent
/// still, by the entries that Xen looks at.
#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn a_resume_without_a_suspend_changes_nothing() {
    for (version, domain_type) in BOTH
        .into_iter()
        .flat_map(|version| [DomainType::Pv, DomainType::Pvh].map(|kind| (version, kind)))
    {
        let xen = Xen::new(Time::Virtual);
        let config = || Config {
            memory_mib: 4,
            domain_type,
            ..Config::default()
        };
        let [front, back] = [(); 2].map(|()| xen.domain(config()).unwrap());
        let table = GrantTable::new(&front, version).unwrap();
        let back = Back::of(&back);
        let lend = |text: &[u8]| {
            let mut page = Page::new(&table).unwrap();
            page.bytes_mut()[..text.len()].copy_from_slice(text);
            let lent: Granted<'_, _, PeerReads> = table.share(back.domid(), page).unwrap();
            lent
        };
        let read = |lent: &Granted<'_, _, PeerReads>| {
            let mapped: Borrowed<'_, _, ReadOnly> =
                Borrowed::map(&back.table, front.domid(), &[lent.gref()]).unwrap();
            let mut text = [0; 6];
            mapped.page(0).unwrap().copy_to(0, &mut text);
            text
        };
        let before = lend(b"before");
        table.resume().unwrap();
        assert!(!before.is_over());
        let after = lend(b"after!");
        assert_eq!((&read(&before), &read(&after)), (b"before", b"after!"));
        assert_ne!(before.gref(), after.gref());
        let page = before.end().map_err(|_| ()).unwrap();
        assert!(page.bytes().starts_with(b"before"));
    }
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn readers_do_not_write() {
    for version in BOTH {
        let pair = Pair::new();
        let table = pair.table(version);
        let back = Back::of(&pair.back);
        let granted = lend::<PeerReads>(&table, back.domid(), b"look");
        let borrowed: Borrowed<_, ReadWrite> =
            Borrowed::map(&back.table, pair.front.domid(), &[granted.gref()]).unwrap();
        assert_eq!(
            borrowed.check(),
            Err(Error::Status(GrantStatus::GENERAL_ERROR))
        );
        let borrowed: Borrowed<_, ReadOnly> =
            Borrowed::map(&back.table, pair.front.domid(), &[granted.gref()]).unwrap();
        let mut text = [0; 4];
        assert_eq!(borrowed.page(0).unwrap().copy_to(0, &mut text), 4);
        assert_eq!(&text, b"look");
        assert_eq!(borrowed.page(0).unwrap().copy_to(PAGE_SIZE, &mut text), 0);
    }
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn each_page_of_a_batch_has_its_own_fate() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let granted: Vec<_> = (0..40)
        .map(|index| lend::<PeerReads>(&table, back.domid(), &[index]))
        .collect();
    let other = lend::<PeerReads>(&table, DomId(77), b"not yours");
    let mut refs: Vec<_> = granted.iter().map(Granted::gref).collect();
    refs[7] = other.gref();
    refs[9] = GrantRef(1 << 30);
    let borrowed: Borrowed<_, ReadOnly> =
        Borrowed::map(&back.table, pair.front.domid(), &refs).unwrap();
    for index in 0..40 {
        let page = borrowed.page(index);
        match index {
            7 => assert_eq!(page.unwrap_err(), GrantStatus::GENERAL_ERROR),
            9 => assert_eq!(page.unwrap_err(), GrantStatus::BAD_GNTREF),
            _ => {
                let mut byte = [0];
                page.unwrap().copy_to(0, &mut byte);
                assert_eq!(usize::from(byte[0]), index);
            }
        }
    }
    assert_eq!(borrowed.page(40).unwrap_err(), GrantStatus::BAD_HANDLE);
    drop(borrowed);
    assert!(granted.iter().all(|granted| !granted.is_used()));
    assert_eq!(
        Borrowed::<_, ReadOnly>::map(&back.table, DomId(99), &[GrantRef(9)])
            .unwrap()
            .check(),
        Err(Error::Status(GrantStatus::BAD_DOMAIN))
    );
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn what_a_call_mapped_before_it_failed_is_unmapped() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let granted: Vec<_> = (0..20)
        .map(|index| lend::<PeerReads>(&table, back.domid(), &[index]))
        .collect();
    let refs: Vec<_> = granted.iter().map(Granted::gref).collect();
    // A call has 16 entries: nothing, some, or all but one are done when it fails, and
    // behind the last there would be another call.
    for (refs, done) in [(&refs[..16], 0), (&refs[..16], 3), (&refs[..], 15)] {
        let handles = pair.back.grants_mapped();
        pair.back.fail_grant_list_after(done, Errno::EFAULT);
        let borrowed: Result<Borrowed<_, ReadOnly>, _> =
            Borrowed::map(&back.table, pair.front.domid(), refs);
        assert_eq!(borrowed.err(), Some(Error::Other(Errno::EFAULT)), "{done}");
        assert_eq!(pair.back.grants_mapped(), handles, "{done} stay mapped");
        assert!(granted.iter().all(|granted| !granted.is_used()), "{done}");
    }
    // Nothing of it is left over: the same pages are mapped again.
    let borrowed: Borrowed<_, ReadOnly> =
        Borrowed::map(&back.table, pair.front.domid(), &refs).unwrap();
    borrowed.check().unwrap();
    drop(borrowed);
    assert_eq!(pair.back.grants_mapped(), 0);
}

#[test]
fn the_table_grows_to_its_limit_and_tells_when_it_is_full() {
    for version in BOTH {
        if cfg!(miri) {
            // All references of the table take too long there.
            return;
        }
        let pair = Pair::new();
        let table = pair.table(version);
        assert_eq!(table.references(), 0);
        let most = table.max_references();
        let blocks: Vec<_> = (0..most / 100)
            .map(|_| table.reserve(100).unwrap())
            .collect();
        assert_eq!(table.references(), most);
        let rest = table.reserve(most % 100).unwrap();
        assert_eq!(table.free_references(), 0);
        let page = Page::new(&table).unwrap();
        let full = table.share::<PeerReads>(DomId(2), page).unwrap_err();
        assert_eq!(full, Error::NoReference);
        // Those with a block of their own go on.
        let page = Page::new(&table).unwrap();
        let granted = blocks[3].share::<PeerReads>(DomId(2), page).unwrap();
        assert_eq!(blocks[3].free(), 99);
        drop(granted);
        assert_eq!(blocks[3].free(), 100);
        drop((blocks, rest));
        assert_eq!(table.free_references(), most);
        assert_eq!(table.reserve(most + 1).unwrap_err(), Error::NoReference);
        assert_eq!(table.free_references(), most);
    }
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn two_grants_change_places() {
    for version in BOTH {
        let pair = Pair::new();
        let table = pair.table(version);
        let back = Back::of(&pair.back);
        let front = pair.front.domid();
        let mut one = lend::<PeerReads>(&table, back.domid(), b"1");
        let mut other = lend::<PeerReads>(&table, back.domid(), b"2");
        let refs = [one.gref(), other.gref()];
        table.swap(&mut one, &mut other).unwrap();
        assert_eq!([other.gref(), one.gref()], refs);
        let borrowed: Borrowed<_, ReadOnly> = Borrowed::map(&back.table, front, &refs).unwrap();
        let mut text = [0];
        borrowed.page(0).unwrap().copy_to(0, &mut text);
        assert_eq!(&text, b"2");
        let used = table.swap(&mut one, &mut other);
        assert_eq!(used, Err(Error::Status(GrantStatus::EAGAIN)));
        drop(borrowed);
        assert_eq!(one.end().unwrap().bytes()[0], b'1');
        assert_eq!(other.end().unwrap().bytes()[0], b'2');
    }
}

#[test]
fn copies_go_both_ways_and_across_pages() {
    for version in BOTH {
        let pair = Pair::new();
        let table = pair.table(version);
        let backs = GrantTable::new(&pair.back, Version::One).unwrap();
        let lent = lend::<PeerWrites>(&table, pair.back.domid(), b"0123456789");
        // Three pages of the peer's own, in a row.
        let pages = pair.back.alloc(3).unwrap();
        // SAFETY: pages of the domain's, allocated for this test.
        let own = unsafe { std::slice::from_raw_parts_mut(pages.as_ptr(), 3 * PAGE_SIZE) };
        let (low, high) = own.split_at_mut(PAGE_SIZE + 7);
        let (high, highest) = high.split_at_mut(8);
        let peer = pair.front.domid();
        let mut copies = [
            CopyFrom {
                peer,
                gref: lent.gref(),
                offset: 2,
                target: &mut low[PAGE_SIZE - 4..PAGE_SIZE + 4],
                status: GrantStatus::BAD_PAGE,
            },
            CopyFrom {
                peer,
                gref: lent.gref(),
                offset: PAGE_SIZE - 1,
                target: &mut high[..2],
                status: GrantStatus::OKAY,
            },
            CopyFrom {
                peer,
                gref: GrantRef(3),
                offset: 0,
                target: &mut highest[..12],
                status: GrantStatus::OKAY,
            },
        ];
        backs.copy_from(&mut copies).unwrap();
        let statuses = copies.map(|copy| copy.status);
        assert_eq!(
            statuses,
            [
                GrantStatus::OKAY,
                GrantStatus::BAD_COPY_ARG,
                GrantStatus::GENERAL_ERROR
            ]
        );
        assert_eq!(&own[PAGE_SIZE - 4..PAGE_SIZE + 4], b"23456789");
        own.fill(b'#');
        let mut copies = [CopyTo {
            peer,
            gref: lent.gref(),
            offset: 0,
            source: &own[5..5 + PAGE_SIZE],
            status: GrantStatus::BAD_PAGE,
        }];
        backs.copy_to(&mut copies).unwrap();
        assert_eq!(copies[0].status, GrantStatus::OKAY);
        assert_eq!(lent.end().unwrap().bytes(), [b'#'; PAGE_SIZE]);
        // What is no memory of the domain's cannot be copied to.
        let mut outside = [0; 4];
        let mut copies = [CopyFrom {
            peer,
            gref: GrantRef(9),
            offset: 0,
            target: &mut outside,
            status: GrantStatus::OKAY,
        }];
        assert_eq!(backs.copy_from(&mut copies), Err(Error::NotMemory));
    }
}

#[test]
fn parts_and_grants_of_grants_can_be_copied_only() {
    let xen = Xen::new(Time::Virtual);
    let [owner, middle, end] = [(); 3].map(|()| xen.domain(Config::default()).unwrap());
    let owners = GrantTable::new(&owner, Version::Two).unwrap();
    let middles = GrantTable::new(&middle, Version::Two).unwrap();
    let ends = GrantTable::new(&end, Version::One).unwrap();
    let mut page = Page::new(&owners).unwrap();
    page.bytes_mut()[100..104].copy_from_slice(b"part");
    let part = owners
        .share_part::<PeerReads>(middle.domid(), page, 100..104)
        .unwrap();
    let forwarded = middles
        .forward::<PeerReads>(end.domid(), owner.domid(), part.gref())
        .unwrap();
    let target = end.alloc(1).unwrap();
    let copy = |offset, len| {
        // SAFETY: a page of the domain's, allocated for this test.
        let target = unsafe { std::slice::from_raw_parts_mut(target.as_ptr(), len) };
        let mut copies = [CopyFrom {
            peer: middle.domid(),
            gref: forwarded.gref(),
            offset,
            target,
            status: GrantStatus::OKAY,
        }];
        ends.copy_from(&mut copies).unwrap();
        let [CopyFrom { target, status, .. }] = copies;
        (status, target.to_vec())
    };
    assert_eq!(copy(100, 4), (GrantStatus::OKAY, b"part".to_vec()));
    assert_eq!(copy(99, 4).0, GrantStatus::GENERAL_ERROR);
    assert_eq!(copy(100, 5).0, GrantStatus::GENERAL_ERROR);
    let mapped: Borrowed<_, ReadOnly> =
        Borrowed::map(&ends, middle.domid(), &[forwarded.gref()]).unwrap();
    assert!(mapped.check().is_err());
    drop(forwarded);
    let page = part.end().unwrap();
    // Version 1 has neither.
    drop(page);
    let page = Page::new(&ends).unwrap();
    let refused = ends.share_part::<PeerReads>(DomId(1), page, 0..4);
    assert_eq!(refused.unwrap_err(), Error::NeedsVersion2);
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn a_peer_that_goes_lets_go() {
    let Pair { front, back } = Pair::new();
    let table = GrantTable::new(&front, Version::One).unwrap();
    let granted = lend::<PeerWrites>(&table, back.domid(), b"");
    let domid = front.domid();
    {
        let table = GrantTable::new(&back, Version::One).unwrap();
        let borrowed: Borrowed<_, ReadWrite> =
            Borrowed::map(&table, domid, &[granted.gref()]).unwrap();
        std::mem::forget(borrowed);
    }
    drop(granted);
    assert_eq!(table.release_quarantine(), 1);
    drop(back);
    assert_eq!(table.release_quarantine(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "nothing can be mapped twice")]
fn a_page_that_is_paged_out_is_asked_for_again_but_not_for_ever() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = Back::of(&pair.back);
    let granted = lend::<PeerWrites>(&table, back.domid(), b"late");
    let front = pair.front.domid();
    pair.front.page_out(5);
    let borrowed: Borrowed<_, ReadWrite> =
        Borrowed::map(&back.table, front, &[granted.gref()]).unwrap();
    borrowed.check().unwrap();
    drop(borrowed);
    let mut page = Page::new(&back.table).unwrap();
    let mut copy = |uses| {
        pair.front.page_out(uses);
        let mut copies = [CopyFrom {
            peer: front,
            gref: granted.gref(),
            offset: 0,
            target: &mut page.bytes_mut()[..4],
            status: GrantStatus::OKAY,
        }];
        back.table.copy_from(&mut copies).unwrap();
        let [CopyFrom { status, target, .. }] = copies;
        (status, target.to_vec())
    };
    assert_eq!(copy(5), (GrantStatus::OKAY, b"late".to_vec()));
    assert_eq!(copy(1_000_000).0, GrantStatus::EAGAIN);
    let borrowed: Borrowed<_, ReadWrite> =
        Borrowed::map(&back.table, front, &[granted.gref()]).unwrap();
    let status = Error::Status(GrantStatus::EAGAIN);
    assert_eq!(borrowed.check(), Err(status));
    drop(borrowed);
    assert!(!granted.is_used());
}

#[test]
fn many_threads_share_one_table() {
    let pair = Pair::new();
    let table = pair.table(Version::One);
    let back = pair.back.domid();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..if cfg!(miri) { 5 } else { 300 } {
                    let first = lend::<PeerReads>(&table, back, b"");
                    let second = lend::<PeerWrites>(&table, back, b"");
                    assert_ne!(first.gref(), second.gref());
                    drop(first);
                    if round % 2 == 0 {
                        second.end().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(table.free_references(), table.references());
    assert_eq!(table.quarantined(), 0);
}
