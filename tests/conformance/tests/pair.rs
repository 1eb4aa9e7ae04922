//! The two guests of `pair`, as two domains of one mock hypervisor.

#[path = "../src/pair.rs"]
mod pair;

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{HypercallNr, peer::PeerPtr, platform::Pages};
use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};
use xenstore_client::{Client, Ring};

type World = &'static Domain;

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn side(domain: World, choice: Choice, rounds: u32) -> pair::Side<'static, World> {
    // SAFETY: the domain is never freed.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = leak(Ports::new(domain, shared, choice, Throttle::default()).unwrap());
    // SAFETY: as above.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into()).unwrap();
    // SAFETY: the store's page, used as peer memory only.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let channel = Channel::adopt(ports, start.store_evtchn).unwrap();
    pair::Side {
        ports,
        table: leak(GrantTable::new(domain, Version::One).unwrap()),
        store: leak(Client::new(Ring::new(page, channel))),
        rounds,
    }
}

#[test]
fn two_guests_leave_nothing_over() {
    for choice in [Choice::Best, Choice::TwoLevel] {
        let xen = Xen::new(Time::Virtual);
        let [back, front] = [(); 2].map(|()| leak(xen.domain(Config::default()).unwrap()));
        for (one, other) in [(&back, &front), (&front, &back)] {
            let path = format!("/local/domain/{}/data/peer", one.domid());
            xen.store_write(&path, other.domid().to_string().as_bytes())
                .unwrap();
        }
        let work =
            |domain: World, work: fn(pair::Side<'static, World>) -> Result<String, String>| {
                let work = move |_: &Domain| work(side(domain, choice, pair::ROUND_TRIPS));
                (
                    domain,
                    Box::new(work) as Box<dyn FnOnce(&Domain) -> Result<String, String> + Send>,
                )
            };
        let ended = xen.run(vec![work(back, pair::back), work(front, pair::front)]);
        for ended in ended {
            let Outcome::Returned(Ok(done)) = ended else {
                panic!("{ended:?}");
            };
            assert!(done.contains("nothing left over"));
        }
        // What a round trip costs: each side sends once and sleeps once (or
        // not even that, if the other was faster).
        for domain in [back, front] {
            let calls = domain.calls();
            let sends = calls[&HypercallNr::EVENT_CHANNEL_OP.0];
            let sleeps = calls.get(&HypercallNr::SCHED_OP.0).copied().unwrap_or(0);
            // Others: looking at all ports, twice; the store.
            assert!(sends < u64::from(pair::ROUND_TRIPS) + 2500, "{calls:?}");
            assert!(sleeps < u64::from(pair::ROUND_TRIPS) + 1000, "{calls:?}");
        }
    }
}

/// One of the two guests.
#[derive(Clone, Copy)]
enum Role {
    Back,
    Front,
}

/// A guest that leaves nothing behind when it is done.
fn guest(domain: &Domain, role: Role, choice: Choice) -> Result<String, String> {
    const ROUNDS: u32 = 12;
    // SAFETY: all that has it ends before the domain does.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, choice, Throttle::default()).unwrap();
    let table = GrantTable::new(domain, Version::One).unwrap();
    // SAFETY: as above.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into()).unwrap();
    // SAFETY: the store's page, used as peer memory only.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let channel = Channel::adopt(&ports, start.store_evtchn).unwrap();
    let store = Client::new(Ring::new(page, channel));
    let side = pair::Side {
        ports: &ports,
        table: &table,
        store: &store,
        rounds: ROUNDS,
    };
    match role {
        Role::Back => pair::back(side),
        Role::Front => pair::front(side),
    }
}

/// The two in turns, and what came of it.
fn played(seed: u64) -> mock_hypervisor::Played<Result<String, String>> {
    // By turns: the seed's last bit.
    let choice = if seed & 1 == 0 {
        Choice::Best
    } else {
        Choice::TwoLevel
    };
    let xen = Xen::new(Time::Virtual);
    let [back, front] = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    for (one, other) in [(&back, &front), (&front, &back)] {
        let path = format!("/local/domain/{}/data/peer", one.domid());
        xen.store_write(&path, other.domid().to_string().as_bytes())
            .unwrap();
    }
    let in_role = |role| move |domain: &Domain| guest(domain, role, choice);
    xen.play(
        seed,
        vec![
            (&back, Box::new(in_role(Role::Back))),
            (&front, Box::new(in_role(Role::Front))),
        ],
    )
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let (first, second) = (played(seed), played(seed));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.steps, second.steps, "seed {seed}");
        traces.insert(first.trace);
    }
    assert_eq!(traces.len(), 50, "seeds that do not differ");
}

/// So many orders are tried.
const SEEDS: u64 = 10_000;

#[test]
fn in_whatever_order_nothing_is_lost() {
    let mut steps = 0;
    for seed in 0..SEEDS {
        let played = played(seed);
        for outcome in &played.outcomes {
            let done = matches!(outcome, Outcome::Returned(Ok(_)));
            assert!(done, "seed {seed}: {outcome:?}");
        }
        steps += played.steps;
    }
    println!("{steps} hypercalls");
}
