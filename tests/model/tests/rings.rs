//! Shared rings: nobody sleeps while there is something in the ring, and what is
//! seen is whole.

use hypercall_abi::io::ring::index::{Index, Notify, listen_for, publish, published};
use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    thread,
};
use model::RingIndex;

struct Ring {
    producer: RingIndex,
    event: RingIndex,
    slots: [AtomicU32; 2],
}

/// One side puts two things in, in one step or in two; the other takes what it
/// sees and then goes to sleep, until there are `most` more, or as many as may come: if
/// it does so with that left, it is told.
fn nobody_sleeps_over(steps: &'static [u32], start: u32, most: u32) {
    loom::model(move || {
        let ring = Arc::new(Ring {
            producer: RingIndex(AtomicU32::new(start)),
            event: RingIndex(AtomicU32::new(start.wrapping_add(1))),
            slots: [0, 0].map(AtomicU32::new),
        });
        let theirs = Arc::clone(&ring);
        let producer = thread::spawn(move || {
            let (mut at, mut told) = (0, false);
            for step in steps {
                for slot in at..at + step {
                    theirs.slots[slot as usize].store(7, Relaxed);
                }
                let (old, new) = (start.wrapping_add(at), start.wrapping_add(at + step));
                told |= publish(&theirs.producer, &theirs.event, old, new) == Notify::Yes;
                at += step;
            }
            told
        });
        let mut taken = 0_u32;
        loop {
            let count = published(&ring.producer, start.wrapping_add(taken), 2);
            for slot in taken..taken + count.expect("no more than two") {
                assert_eq!(ring.slots[slot as usize].load(Relaxed), 7, "half written");
            }
            taken += count.unwrap_or(0);
            let count = most.min(2 - taken);
            if !listen_for(
                &ring.producer,
                &ring.event,
                start.wrapping_add(taken),
                count,
            ) {
                break;
            }
        }
        let told = producer.join().unwrap();
        assert!(taken == 2 || told, "{taken} taken, and asleep");
        assert_eq!(ring.producer.load(), start.wrapping_add(2));
    });
}

#[test]
fn two_at_once() {
    nobody_sleeps_over(&[2], 0, 1);
}

#[test]
fn one_after_the_other() {
    nobody_sleeps_over(&[1, 1], 0, 1);
}

#[test]
fn across_the_end_of_the_numbers() {
    nobody_sleeps_over(&[1, 1], u32::MAX, 1);
}

#[test]
fn until_both_are_there() {
    for steps in [&[1, 1][..], &[2]] {
        for start in [0, u32::MAX] {
            nobody_sleeps_over(steps, start, 2);
        }
    }
}
