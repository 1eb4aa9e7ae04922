//! The two guests of `pair`, as two domains of one mock hypervisor.

#[path = "../src/pair.rs"]
mod pair;

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{HypercallNr, peer::PeerPtr, platform::Pages};
use mock_hypervisor::{Config, Domain, Faults, Outcome, Time, Xen};
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
    let ports = Ports::new(domain, shared, choice, Throttle::default());
    let ports = ports.map_err(|error| error.to_string())?;
    let table = GrantTable::new(domain, Version::One).map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into()).unwrap();
    // SAFETY: the store's page, used as peer memory only.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let channel = Channel::adopt(&ports, start.store_evtchn);
    let channel = channel.map_err(|error| error.to_string())?;
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

/// What a run came to.
struct Run {
    trace: u64,
    steps: u64,
    outcomes: Vec<Outcome<Result<String, String>>>,
    left_over: Vec<String>,
}

/// The two in turns, and what came of it.
fn played(seed: u64, faults: Faults) -> Run {
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
    let played = xen.play(
        seed,
        faults,
        vec![
            (&back, Box::new(in_role(Role::Back))),
            (&front, Box::new(in_role(Role::Front))),
        ],
    );
    let mut left_over = Vec::new();
    for domain in [&back, &front] {
        let left = (
            domain.open_ports(),
            domain.grants_in_use(),
            domain.grants_mapped(),
        );
        // The toolstack's ports; the store's is closed with the guest's end of it.
        if left.0 > 2 || left.1 > 0 || left.2 > 0 {
            left_over.push(format!("{}: {left:?}", domain.domid()));
        }
    }
    Run {
        trace: played.trace,
        steps: played.steps,
        outcomes: played.outcomes,
        left_over,
    }
}

/// All that a Xen may do to its guests, now and then.
const FAULTS: Faults = Faults {
    no_ports: 40,
    no_pages: 200,
    paged_out: 10,
    spurious: 10,
};

#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = std::collections::BTreeSet::new();
    for faults in [Faults::default(), FAULTS] {
        for seed in 0..50 {
            let (first, second) = (played(seed, faults), played(seed, faults));
            assert_eq!(first.trace, second.trace, "seed {seed}");
            assert_eq!(first.steps, second.steps, "seed {seed}");
            traces.insert(first.trace);
        }
    }
    assert_eq!(traces.len(), 100, "seeds that do not differ");
}

/// So many orders are tried.
const SEEDS: u64 = 5_000;

#[test]
fn in_whatever_order_nothing_is_lost() {
    for seed in 0..SEEDS {
        let run = played(seed, Faults::default());
        for outcome in &run.outcomes {
            let done = matches!(outcome, Outcome::Returned(Ok(_)));
            assert!(done, "seed {seed}: {outcome:?}");
        }
        assert!(run.left_over.is_empty(), "seed {seed}: {:?}", run.left_over);
    }
}

/// A guest that is refused something says so; it does not hang, panic, or leave
/// anything behind.
#[test]
fn whatever_goes_wrong_nothing_is_left_over() {
    let (mut whole, mut refused) = (0, 0);
    for seed in 0..SEEDS {
        let run = played(seed, FAULTS);
        for outcome in &run.outcomes {
            match outcome {
                Outcome::Returned(Ok(_)) => whole += 1,
                Outcome::Returned(Err(_)) => refused += 1,
                Outcome::Shutdown(end) => panic!("seed {seed}: {end:?}"),
            }
        }
        assert!(run.left_over.is_empty(), "seed {seed}: {:?}", run.left_over);
    }
    // Both were tried, and often.
    assert!(
        whole > SEEDS / 4 && refused > SEEDS / 4,
        "{whole} {refused}"
    );
}
