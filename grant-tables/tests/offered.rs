//! What a hypervisor does not offer, it says by one error or another: the table does
//! without.

use grant_tables::{Borrowed, Error, GrantTable, Granted, Page, PeerReads, ReadOnly, Version};
use hypercall_abi::{
    Errno, HypercallNr,
    grant_table::{GNTTABOP_QUERY_SIZE, GNTTABOP_SET_VERSION, GNTTABOP_SETUP_TABLE},
};
use mock_hypervisor::{Config, Domain, Time, Xen};

/// How they say so.
const ABSENT: [Errno; 4] = [
    Errno::ENOSYS,
    Errno::EOPNOTSUPP,
    Errno::EINVAL,
    Errno::EPERM,
];

fn pair() -> [Domain; 2] {
    let xen = Xen::new(Time::Virtual);
    [(); 2].map(|()| {
        let config = Config {
            memory_mib: if cfg!(miri) { 1 } else { 4 },
            ..Config::default()
        };
        xen.domain(config).unwrap()
    })
}

/// A page is lent, and mapped.
fn try_it(table: &GrantTable<&Domain>, back: &Domain) {
    let page = Page::new(table).unwrap();
    let lent: Granted<'_, _, PeerReads> = table.share(back.domid(), page).unwrap();
    if cfg!(miri) {
        // Nothing can be mapped twice there.
        return;
    }
    let theirs = GrantTable::new(back, Version::One).unwrap();
    let front = table.platform().domid();
    let mapped = Borrowed::<_, ReadOnly>::map(&theirs, front, &[lent.gref()]).unwrap();
    mapped.check().unwrap();
}

#[test]
fn without_versions_there_is_the_first() {
    for (errno, wanted) in ABSENT.into_iter().flat_map(|errno| {
        let both = [Version::One, Version::Two];
        both.map(|wanted| (errno, wanted))
    }) {
        let [front, back] = pair();
        let op = Some(GNTTABOP_SET_VERSION);
        front.refuse(HypercallNr::GRANT_TABLE_OP, op, errno);
        let table = GrantTable::new(&front, wanted);
        let table = table.unwrap_or_else(|error| panic!("{errno}: {error}"));
        assert_eq!(table.version(), Version::One, "{errno}");
        try_it(&table, &back);
        table.resume().unwrap();
        assert_eq!(table.version(), Version::One, "{errno}");
    }
}

#[test]
fn without_its_size_a_table_is_small() {
    for errno in ABSENT {
        let [front, back] = pair();
        let op = Some(GNTTABOP_QUERY_SIZE);
        front.refuse(HypercallNr::GRANT_TABLE_OP, op, errno);
        let table = GrantTable::new(&front, Version::One);
        let table = table.unwrap_or_else(|error| panic!("{errno}: {error}"));
        assert_eq!(table.max_references(), 4 * 512 - 8, "{errno}");
        try_it(&table, &back);
        let full = table.reserve(table.max_references() + 1).unwrap_err();
        assert_eq!(full, Error::NoReference);
    }
}

#[test]
fn without_a_table_nobody_has_one() {
    for errno in ABSENT {
        let [front, _] = pair();
        for op in [GNTTABOP_QUERY_SIZE, GNTTABOP_SETUP_TABLE] {
            front.refuse(HypercallNr::GRANT_TABLE_OP, Some(op), errno);
        }
        for _ in 0..2 {
            let none = GrantTable::new(&front, Version::One).unwrap_err();
            assert_eq!(none, Error::Other(errno));
        }
    }
}

#[test]
fn what_is_no_absence_is_told_and_can_be_tried_again() {
    let [front, _] = pair();
    let op = Some(GNTTABOP_SET_VERSION);
    front.refuse(HypercallNr::GRANT_TABLE_OP, op, Errno::EBUSY);
    for wanted in [Version::One, Version::Two] {
        let busy = GrantTable::new(&front, wanted).unwrap_err();
        assert_eq!(busy, Error::Other(Errno::EBUSY));
    }
}
