//! Grants: no reference has two owners, no page is taken back that is used.

use grant_tables::{
    free::{pop, push},
    revoke::{FlagsWord, USED, revoke_v1, revoke_v2},
};
use hypercall_abi::grant_table::entry::GrantFlags;
use loom::{
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst, fence},
    },
    thread,
};
use model::{Flags, ListHead, Notes};

const PERMIT: u16 = GrantFlags::PERMIT_ACCESS.bits();
const READING: u16 = GrantFlags::READING.bits();

struct List {
    head: ListHead,
    notes: Notes,
}

fn list_of_two() -> Arc<List> {
    let list = Arc::new(List {
        head: ListHead(AtomicU64::new(0)),
        notes: Notes([0, 0, 0, 0].map(AtomicU32::new)),
    });
    push(&list.head, &list.notes, 1);
    push(&list.head, &list.notes, 2);
    list
}

#[test]
fn no_reference_is_given_to_two() {
    loom::model(|| {
        let list = list_of_two();
        let other = Arc::clone(&list);
        let theirs = thread::spawn(move || pop(&other.head, &other.notes));
        let ours = pop(&list.head, &list.notes);
        let theirs = theirs.join().unwrap();
        assert!(ours.is_some() && theirs.is_some());
        assert_ne!(ours, theirs);
        assert_eq!(pop(&list.head, &list.notes), None);
    });
}

#[test]
fn what_comes_back_in_between_is_no_danger() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let list = list_of_two();
        let other = Arc::clone(&list);
        // The top goes, the one below goes, the top comes back: a plain
        // compare-and-swap would believe that nothing happened.
        let theirs = thread::spawn(move || {
            let top = pop(&other.head, &other.notes);
            let below = pop(&other.head, &other.notes);
            if let Some(top) = top {
                push(&other.head, &other.notes, top);
            }
            below
        });
        let ours = pop(&list.head, &list.notes);
        let kept = theirs.join().unwrap();
        let rest = pop(&list.head, &list.notes);
        let mut all: Vec<u32> = [ours, kept, rest].into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

/// `_set_status_v1`: whether the peer may use the page now.
fn xen_pins_v1(flags: &Flags) -> bool {
    loop {
        let old = flags.load();
        if old & 3 != PERMIT {
            return false;
        }
        if flags.compare_exchange(old, old | READING).is_ok() {
            return true;
        }
    }
}

#[test]
fn version_1_end_against_use() {
    loom::model(|| {
        let flags = Arc::new(Flags(AtomicU16::new(PERMIT)));
        let theirs = Arc::clone(&flags);
        let peer = thread::spawn(move || xen_pins_v1(&theirs));
        let ended = revoke_v1(&*flags);
        let used = peer.join().unwrap();
        assert!(ended != used, "taken back while it is used, or neither");
    });
}

/// `_set_status_v2`: marks the use, then looks whether it is still granted.
fn xen_pins_v2(flags: &Flags, status: &AtomicU16) -> bool {
    if flags.load() & 3 != PERMIT {
        return false;
    }
    status.fetch_or(READING, SeqCst);
    fence(SeqCst);
    if flags.load() & 3 != PERMIT {
        status.fetch_and(!READING, SeqCst);
        return false;
    }
    true
}

#[test]
fn version_2_end_against_use() {
    loom::model(|| {
        let flags = Arc::new(Flags(AtomicU16::new(PERMIT)));
        let status = Arc::new(Flags(AtomicU16::new(0)));
        let (their_flags, their_status) = (Arc::clone(&flags), Arc::clone(&status));
        let peer = thread::spawn(move || xen_pins_v2(&their_flags, &their_status.0));
        let ended = revoke_v2(&*flags, &*status);
        let used = peer.join().unwrap();
        assert!(!(ended && used), "taken back while it is used");
        // What was marked and not used is not marked for ever.
        assert_eq!(status.load() & USED != 0, used);
        assert!(ended || used || revoke_v2(&*flags, &*status));
    });
}
