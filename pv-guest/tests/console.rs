//! The console's ring, with daemons that are slow, stop, or mean harm.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use event_channels::PortRef;
use hypercall_abi::{
    DomId, Port, event_channel,
    io::console::XenconsInterface,
    peer::PeerPtr,
    peer_field,
    platform::{Clock, Pages, Park},
};
use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};
use pv_guest::console::{
    output::{DYING_NS, DYING_STALL_NS, MESSAGE_NS, STALL_NS, Written},
    ring::{Broken, ConsoleRing},
};

const SECOND_NS: u64 = 1_000_000_000;

/// A page that a guest and its daemon share.
#[derive(Clone, Copy)]
struct Shared(PeerPtr<'static, XenconsInterface>);

// SAFETY: peer memory is made to be used by others at the same time.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

fn shared(domain: &Domain) -> Shared {
    let page = domain.alloc(1).expect("there is a page");
    // SAFETY: a page of the domain's, which the test keeps for as long as it goes on, used
    // as peer memory only.
    Shared(unsafe { PeerPtr::new(page.cast()) })
}

impl Shared {
    /// Takes up to `most` bytes, as the daemon.
    fn take(self, most: usize) -> Vec<u8> {
        let cons = peer_field!(self.0, XenconsInterface, out_cons);
        let prod = peer_field!(self.0, XenconsInterface, out_prod)
            .load_acquire()
            .trust();
        let out = peer_field!(self.0, XenconsInterface, out);
        let mut at = cons.load().trust();
        let mut bytes = Vec::new();
        while at != prod && bytes.len() < most {
            bytes.push(out.get(at as usize % 2048).unwrap().load().trust());
            at = at.wrapping_add(1);
        }
        cons.store_release(at);
        bytes
    }
}

fn ring(domain: &Domain, page: Shared) -> ConsoleRing<&Domain> {
    let port = event_channel::alloc_unbound(&domain, DomId(0)).unwrap();
    // SAFETY: the page lives as long as the domain, which outlives the ring.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    ConsoleRing::new(domain, page.0, PortRef::new(port, Some(shared)))
}

/// Lines that tell where they are.
fn text(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|line| format!("line {line}\n").into_bytes())
        .collect()
}

/// What runs in a domain.
type Main<'a, T> = Box<dyn FnOnce(&Domain) -> Option<T> + Send + 'a>;

/// Runs a guest and the daemon of its console, which is called every `period_ns`; all that
/// the daemon took.
fn with_daemon<T: Send>(
    period_ns: u64,
    mut daemon: impl FnMut(Shared, u64) -> Vec<u8> + Send,
    guest: impl FnOnce(&Domain, &mut ConsoleRing<&Domain>) -> T + Send,
) -> (T, Vec<u8>) {
    let xen = Xen::new(Time::Virtual);
    let domains = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    let page = shared(&domains[0]);
    let ended = AtomicBool::new(false);
    let taken = Mutex::new(Vec::new());
    let first: Main<'_, T> = Box::new(|domain| {
        let mut ring = ring(domain, page);
        let value = guest(domain, &mut ring);
        ended.store(true, Ordering::SeqCst);
        Some(value)
    });
    let second: Main<'_, T> = Box::new(|domain| {
        while !ended.load(Ordering::SeqCst) {
            domain.park(&[], Some(domain.now_ns() + period_ns));
            let bytes = daemon(page, domain.now_ns());
            taken.lock().unwrap().extend(bytes);
        }
        None
    });
    let outcomes = xen.run(vec![(&domains[0], first), (&domains[1], second)]);
    let value = match outcomes.into_iter().next() {
        Some(Outcome::Returned(Some(value))) => value,
        _ => panic!("the guest did not end"),
    };
    let mut taken = taken.into_inner().unwrap();
    taken.extend(page.take(usize::MAX));
    (value, taken)
}

#[test]
fn a_daemon_that_takes_each_message_in_time_gets_everything() {
    for (period_ns, most) in [
        (1_000, 1),
        (SECOND_NS / 10, 13),
        // As long as a daemon may take: a little less than what counts as stopped.
        (STALL_NS - SECOND_NS / 10, 1500),
    ] {
        let all = text(1000);
        let (lost, taken) = with_daemon(
            period_ns,
            |page, _| page.take(most),
            |_, ring| {
                for line in all.split_inclusive(|byte| *byte == b'\n') {
                    ring.write_all(line).unwrap();
                }
                ring.lost_bytes()
            },
        );
        assert_eq!(lost, 0);
        assert!(
            taken == all,
            "{period_ns} ns, {most} bytes: {} of {}",
            taken.len(),
            all.len()
        );
    }
}

/// One that takes a byte just before it counts as stopped: a message keeps nobody longer
/// than a minute, and what follows nobody at all.
#[test]
fn a_daemon_that_trickles_keeps_nobody_and_is_told_what_it_lost() {
    let mut all = text(400);
    all.truncate(2048);
    let ((waited, lost), taken) = with_daemon(
        STALL_NS - SECOND_NS,
        |page, now_ns| match now_ns < 20 * MESSAGE_NS {
            true => page.take(1),
            false => page.take(usize::MAX),
        },
        |domain, ring| {
            ring.write_all(&all).unwrap();
            assert_eq!(domain.now_ns(), 0);
            let waited = [(); 10].map(|()| {
                let begun_ns = domain.now_ns();
                ring.write_all(&[b'.'; 80]).unwrap();
                let waited_ns = domain.now_ns() - begun_ns;
                domain.park(&[], Some(domain.now_ns() + MESSAGE_NS));
                waited_ns
            });
            let lost = ring.lost_bytes();
            while domain.now_ns() < 21 * MESSAGE_NS {
                domain.park(&[], Some(domain.now_ns() + MESSAGE_NS));
            }
            ring.write_all(b"again\n").unwrap();
            (waited, lost)
        },
    );
    let (first, others) = waited.split_first().unwrap();
    assert!(
        (MESSAGE_NS..MESSAGE_NS + SECOND_NS).contains(first),
        "{first}"
    );
    assert_eq!(others, [0; 9]);
    assert!((780..800).contains(&lost), "{lost}");
    let told = format!("\r\n[console: {lost} bytes lost]\r\nagain\n");
    assert!(taken.ends_with(told.as_bytes()));
}

#[test]
fn a_daemon_that_stops_for_a_while_loses_nothing() {
    let all = text(1000);
    let ((), taken) = with_daemon(
        SECOND_NS / 100,
        |page, now_ns| {
            // It is stopped between the first second and the fifth.
            let is_stopped = (SECOND_NS..5 * SECOND_NS).contains(&now_ns);
            if is_stopped {
                Vec::new()
            } else {
                page.take(100)
            }
        },
        |_, ring| ring.write_all(&all).unwrap(),
    );
    assert!(taken == all);
}

#[test]
fn a_daemon_that_reads_nothing_stops_nobody_and_is_told_what_it_lost() {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let page = shared(&domain);
    let outcome = domain.run(|domain| {
        let mut ring = ring(domain, page);
        let all = text(1000);
        ring.write_all(&all).unwrap();
        let waited_ns = domain.now_ns();
        assert!(
            (STALL_NS..STALL_NS + SECOND_NS).contains(&waited_ns),
            "{waited_ns}"
        );
        assert_eq!(ring.lost_bytes(), all.len() as u64 - 2048);
        // It is waited for once.
        for _ in 0..1000 {
            ring.write_all(b"more\n").unwrap();
        }
        ring.drain().unwrap();
        assert_eq!(domain.now_ns(), waited_ns);
        let lost = all.len() as u64 - 2048 + 5000;
        assert_eq!(ring.lost_bytes(), lost);
        // Until it takes something.
        assert_eq!(page.take(usize::MAX), all[..2048]);
        ring.write_all(b"again\n").unwrap();
        let told = format!("\r\n[console: {lost} bytes lost]\r\nagain\n");
        assert_eq!(page.take(usize::MAX), told.as_bytes());
        assert_eq!(ring.lost_bytes(), 0);
        // And then as before.
        let begun_ns = domain.now_ns();
        ring.write_all(&all).unwrap();
        assert!(domain.now_ns() - begun_ns >= STALL_NS);
    });
    assert!(matches!(outcome, Outcome::Returned(())));
}

/// The number of lost bytes is told again if there was no room for all of the notice.
#[test]
fn a_daemon_that_stops_within_the_notice_is_told_of_all_that_it_lost() {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let page = shared(&domain);
    let outcome = domain.run(|domain| {
        let mut ring = ring(domain, page);
        let all = text(1000);
        ring.write_all(&all).unwrap();
        let lost = all.len() as u64 - 2048;
        assert_eq!(page.take(20), all[..20]);
        ring.write_all(b"not this\n").unwrap();
        assert_eq!(ring.lost_bytes(), lost + 9);
        let mut begun = all[20..2048].to_vec();
        begun.extend_from_slice(&format!("\r\n[console: {lost} bytes lost]\r\n").as_bytes()[..20]);
        assert_eq!(page.take(usize::MAX), begun);
        ring.write_all(b"again\n").unwrap();
        let told = format!("\r\n[console: {} bytes lost]\r\nagain\n", lost + 9);
        assert_eq!(page.take(usize::MAX), told.as_bytes());
    });
    assert!(matches!(outcome, Outcome::Returned(())));
}

#[test]
fn a_dying_guest_does_not_wait_long() {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let page = shared(&domain);
    let outcome = domain.run(|domain| {
        let mut ring = ring(domain, page);
        assert_eq!(ring.write_dying(b"one\n"), Ok(Written::Yes));
        assert_eq!(domain.now_ns(), 0);
        assert_eq!(ring.write_dying(&text(1000)), Ok(Written::No));
        let waited_ns = domain.now_ns();
        assert!(
            (DYING_STALL_NS..2 * DYING_STALL_NS).contains(&waited_ns),
            "{waited_ns}"
        );
        // What follows goes another way at once, also if a byte was taken.
        page.take(1);
        assert_eq!(ring.write_dying(&text(1000)), Ok(Written::No));
        assert_eq!(domain.now_ns(), waited_ns);
        ring.drain().unwrap();
        assert!(domain.now_ns() - waited_ns < 2 * DYING_STALL_NS);
    });
    assert!(matches!(outcome, Outcome::Returned(())));
}

/// However many words there are, and however slowly they are taken.
#[test]
fn a_dying_guest_does_not_wait_long_for_all_of_its_words() {
    let (waited_ns, _) = with_daemon(
        DYING_STALL_NS - SECOND_NS,
        |page, _| page.take(1),
        |domain, ring| {
            for _ in 0..1000 {
                let _said_otherwise = ring.write_dying(b"a word, ").unwrap();
            }
            domain.now_ns()
        },
    );
    assert!(
        (DYING_NS..DYING_NS + DYING_STALL_NS).contains(&waited_ns),
        "{waited_ns}"
    );
}

#[test]
fn the_end_waits_for_a_slow_daemon() {
    let all = text(200);
    let ((), taken) = with_daemon(
        SECOND_NS,
        |page, _| page.take(100),
        |_, ring| {
            ring.write_all(&all).unwrap();
            ring.drain().unwrap();
            assert_eq!(ring.pending_output(), Ok(0));
        },
    );
    assert!(taken == all);
}

#[test]
fn where_no_time_passes_the_looks_are_counted() {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let page = shared(&domain);
    let outcome = domain.run(|domain| {
        // To wait for a port that is not there is refused at once.
        let mut ring = ConsoleRing::new(domain, page.0, PortRef::new(Port(99), None));
        ring.write_all(&text(1000)).unwrap();
        assert_eq!(domain.now_ns(), 0);
        assert!(ring.lost_bytes() > 0);
    });
    assert!(matches!(outcome, Outcome::Returned(())));
}

#[test]
fn own_indices_are_not_read_back_from_the_page() {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    let page = shared(&domain);
    let word = |index: usize| {
        [
            peer_field!(page.0, XenconsInterface, out_prod),
            peer_field!(page.0, XenconsInterface, out_cons),
            peer_field!(page.0, XenconsInterface, in_prod),
            peer_field!(page.0, XenconsInterface, in_cons),
        ][index]
    };
    // Where somebody else left them.
    let start = u32::MAX - 1;
    for index in 0..4 {
        word(index).store(start);
    }
    let mut ring = ring(&domain, page);
    assert_eq!(ring.write(b"abc"), Ok(3));
    word(0).store(77);
    assert_eq!(ring.write(b"def"), Ok(3));
    assert_eq!(word(0).load().trust(), start.wrapping_add(6));
    assert_eq!(page.take(usize::MAX), b"abcdef");
    peer_field!(page.0, XenconsInterface, r#in)
        .get(1022)
        .unwrap()
        .store(b'x');
    word(2).store(start.wrapping_add(1));
    word(3).store(5);
    let mut buffer = [0; 4];
    assert_eq!(ring.read(&mut buffer), Ok(1));
    assert_eq!(
        (buffer[0], word(3).load().trust()),
        (b'x', start.wrapping_add(1))
    );
    // An impossible distance breaks the ring for good.
    word(1).store(start.wrapping_sub(3000));
    assert_eq!(ring.write_all(b"g"), Err(Broken));
    word(1).store(start.wrapping_add(6));
    assert_eq!(ring.write_dying(b"g"), Err(Broken));
}

#[test]
fn a_daemon_that_takes_again_is_waited_for_again() {
    const AGAIN_NS: u64 = STALL_NS + 10 * SECOND_NS;
    let all = text(1000);
    for by_drain in [false, true] {
        let daemon = |page: Shared, now_ns| match now_ns {
            ..AGAIN_NS => Vec::new(),
            _ => page.take(13),
        };
        let (lost, taken) = with_daemon(SECOND_NS / 1000, daemon, |domain, ring| {
            ring.write_all(&all).unwrap();
            assert!(ring.lost_bytes() > 0);
            domain.park(&[], Some(AGAIN_NS + SECOND_NS));
            let mut untold = 0;
            if by_drain {
                ring.drain().unwrap();
                untold = ring.lost_bytes();
            }
            // Faster than it takes them.
            for line in all.split_inclusive(|byte| *byte == b'\n') {
                ring.write_all(line).unwrap();
            }
            (untold, ring.lost_bytes())
        });
        assert_eq!(lost, (0, 0));
        let notice = format!("\r\n[console: {} bytes lost]\r\n", all.len() - 2048);
        assert_eq!(taken, [&all[..2048], notice.as_bytes(), &all].concat());
    }
}
