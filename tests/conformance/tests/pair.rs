//! The two guests of `pair`, as two domains of one mock hypervisor.

#[path = "../src/pair.rs"]
mod pair;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use event_channels::{Channel, Choice, Ports, Throttle, Wait};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    DomId, Errno, HypercallNr, Mfn, VcpuId,
    peer::PeerPtr,
    platform::{Clock, Pages, Park},
    sched::{self, Suspended},
};
use mock_hypervisor::{
    Config, Domain, Faults, Mishap, Outcome, Plan, Suspend, Time, Xen, seed_count, seeds,
};
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

/// What a guest of the mixed scenario does.
#[derive(Clone, Copy)]
enum Role {
    /// Lends a page, and answers.
    Back,
    /// Maps and copies it, and asks.
    Front,
    /// Sleeps and rings at its own door, and suspends itself when it is asked to.
    Napper,
}

const ROUNDS: u32 = 12;

/// A guest that leaves nothing behind when it is done.
fn guest(domain: &Domain, role: Role, choice: Choice) -> Result<String, String> {
    // SAFETY: all that has it ends before the domain does.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, choice, Throttle::default());
    let ports = ports.map_err(|error| error.to_string())?;
    // What the hypervisor was given of its memory stays given.
    let before = domain.pages_in_use();
    let done = work(domain, &ports, role);
    drop(ports);
    // Nor do the pages of ports, where there are more of them than at the start.
    let after = domain.pages_in_use();
    if after > before {
        return Err(format!("{LEFT_OVER}: {} pages", after - before));
    }
    done
}

/// How an outcome begins that nothing excuses.
const LEFT_OVER: &str = "left over";

fn work(domain: &Domain, ports: &Ports<&Domain>, role: Role) -> Result<String, String> {
    let table = GrantTable::new(domain, Version::One).map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into()).unwrap();
    // SAFETY: the store's page, used as peer memory only.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let channel = Channel::adopt(ports, start.store_evtchn);
    let channel = channel.map_err(|error| error.to_string())?;
    let store = Client::new(Ring::new(page, channel));
    let side = pair::Side {
        ports,
        table: &table,
        store: &store,
        rounds: ROUNDS,
    };
    let done = match role {
        Role::Back => pair::back(side),
        Role::Front => pair::front(side),
        Role::Napper => nap(side),
    };
    // What the other side still has mapped is not used again before it lets go, in
    // a minute at the latest: that is how long each waits for the other.
    for _ in 0..100 {
        if table.release_quarantine() == 0 {
            return done;
        }
        domain.park(&[], Some(domain.now_ns() + 1_000_000_000));
    }
    Err(format!("{LEFT_OVER}: a page that nobody gives back"))
}

/// A node of its own, counted up in transactions; a bell; sleeps; suspends.
fn nap<'t>(side: pair::Side<'_, &'t Domain>) -> Result<String, String> {
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
    let domain: &'t Domain = side.ports.platform();
    let said = |error: &dyn core::fmt::Display| error.to_string();
    let bell = Channel::ipi(side.ports, VcpuId(0)).map_err(|error| said(&error))?;
    let watch = side
        .store
        .wait(PATIENCE, side.store.watch("control/shutdown"));
    let watch = watch.map_err(|error| said(&error))?;
    let mut suspends = 0;
    for round in 0..ROUNDS {
        bell.notify().map_err(|error| said(&error))?;
        let deadline = domain.now_ns() + 1_000_000_000;
        if bell.wait_blocking(Some(deadline)) == Wait::Deadline {
            return Err(format!(
                "{LEFT_OVER}: its own event is lost in round {round}"
            ));
        }
        domain.park(&[], Some(domain.now_ns() + 1_000));
        let counted = side.store.wait(PATIENCE, async {
            let tree = side.store.tree();
            tree.write_as("data/naps", round).await?;
            let told: u32 = tree.read_as("data/naps").await?;
            Ok(told == round)
        });
        match counted {
            Ok(true) => {}
            Ok(false) => return Err(format!("{LEFT_OVER}: another number was read")),
            Err(error) => return Err(said(&error)),
        }
        while watch.try_next().map_err(|error| said(&error))?.is_some() {
            if domain.xen().is_suspending(domain.domid()) {
                let gfn = domain
                    .gfn_of(domain.start_info().cast())
                    .map(|gfn| Mfn(gfn.0));
                // SAFETY: it is not moved, so nothing changes.
                let done = unsafe { sched::suspend(&domain, gfn) };
                if done != Ok(Suspended::Cancelled) {
                    return Err(format!("{LEFT_OVER}: {done:?}"));
                }
                suspends += 1;
            }
        }
    }
    Ok(format!("{ROUNDS} naps, {suspends} suspends"))
}

/// What a run came to.
struct Run {
    trace: u64,
    steps: u64,
    outcomes: Vec<Outcome<Result<String, String>>>,
    left_over: Vec<String>,
}

/// The three in turns, and what came of it.
fn played(plan: Plan) -> Run {
    // By turns: the seed's last bit.
    let choice = if plan.seed & 1 == 0 {
        Choice::Best
    } else {
        Choice::TwoLevel
    };
    let xen = Xen::new(Time::Virtual);
    let domains = [(); 3].map(|()| xen.domain(Config::default()).unwrap());
    let [back, front, napper] = &domains;
    for (one, other) in [(back, front), (front, back)] {
        let path = format!("/local/domain/{}/data/peer", one.domid());
        xen.store_write(&path, other.domid().to_string().as_bytes())
            .unwrap();
    }
    let in_role = |role| move |domain: &Domain| guest(domain, role, choice);
    let played = xen.play(
        plan,
        vec![
            (back, Box::new(in_role(Role::Back))),
            (front, Box::new(in_role(Role::Front))),
            (napper, Box::new(in_role(Role::Napper))),
        ],
    );
    let mut left_over = Vec::new();
    for (domain, outcome) in domains.iter().zip(&played.outcomes) {
        let left = (
            domain.open_ports(),
            domain.grants_in_use(),
            domain.grants_mapped(),
            xen.store_watches(domain.domid()),
        );
        // The toolstack's ports; the store's is closed with the guest's end of it.
        // What was destroyed lets go of what is others', no more.
        let is_bad = match outcome {
            Outcome::Returned(_) => left.0 > 2 || left.1 > 0 || left.2 > 0,
            Outcome::Shutdown(_) => left.2 > 0 || left.3 > 0,
        };
        if is_bad {
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

/// All that a Xen, or a peer, may do to its guests, now and then.
const FAULTS: Faults = Faults {
    no_room: 60,
    no_pages: 200,
    paged_out: 20,
    spurious: 10,
    lost: 100,
    doubled: 10,
    stormed: 100,
    corrupted: 100,
    paused: 50,
    late_services: 3,
    store_refuses: 100,
    lies: 30,
    store_restarts: 300,
    destroyed: 1000,
    io_fails: 0,
    io_slow: 0,
    backend_restarts: 0,
    detached: 0,
    resized: 0,
    mischief: 0,
};

/// What the mixed scenario of a seed is: the first domain is number 1.
fn mixed(seed: u64) -> Plan {
    const NAPPER: DomId = DomId(3);
    let suspend = Mishap::Suspend(NAPPER, Suspend::Cancelled);
    let plan = Plan::seed(seed).with_faults(FAULTS);
    plan.at(30 + seed % 50, suspend)
        .at(120 + seed % 90, suspend)
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut traces = std::collections::BTreeSet::new();
    let mut all = 0_u64;
    for plan in (0..50).flat_map(|seed| [Plan::seed(seed), mixed(seed)]) {
        let (first, second) = (played(plan.clone()), played(plan.clone()));
        assert_eq!(first.trace, second.trace, "seed {}", plan.seed);
        assert_eq!(first.steps, second.steps, "seed {}", plan.seed);
        traces.insert(first.trace);
        all = all.rotate_left(1) ^ first.trace;
    }
    assert_eq!(traces.len(), 100, "seeds that do not differ");
    // Whoever builds it otherwise can compare.
    println!("traces of 100 runs: {all:016x}");
}

#[test]
fn in_whatever_order_nothing_is_lost() {
    seeds(1_000, |seed| {
        let run = played(Plan::seed(seed));
        for outcome in &run.outcomes {
            let done = matches!(outcome, Outcome::Returned(Ok(_)));
            assert!(done, "seed {seed}: {outcome:?}");
        }
        assert!(run.left_over.is_empty(), "seed {seed}: {:?}", run.left_over);
    });
}

/// So many orders, with all that can go wrong.
/// Seeds of each change; a night tries ten thousand.
fn tries() -> u64 {
    seed_count(800)
}

/// A guest that is refused something says so; it does not hang, panic, or leave
/// anything behind, and what it is told to be done is done.
#[test]
fn whatever_goes_wrong_nothing_is_left_over() {
    let [whole, refused, destroyed] = [const { AtomicU64::new(0) }; 3];
    seeds(tries(), |seed| {
        let run = played(mixed(seed));
        for outcome in &run.outcomes {
            let count = match outcome {
                Outcome::Returned(Ok(_)) => &whole,
                Outcome::Returned(Err(why)) => {
                    assert!(!why.starts_with(LEFT_OVER), "seed {seed}: {why}");
                    &refused
                }
                Outcome::Shutdown(end) => {
                    assert!(end.report.contains("destroyed"), "seed {seed}: {end:?}");
                    &destroyed
                }
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        assert!(run.left_over.is_empty(), "seed {seed}: {:?}", run.left_over);
    });
    // All of it was tried, and often.
    let told = [&whole, &refused, &destroyed].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{} seeds: {told:?} guests were done, refused, destroyed",
        tries()
    );
    let least = [tries() / 4, tries() / 4, tries() / 20];
    let is_one = std::env::var_os(mock_hypervisor::SEED_VARIABLE).is_some();
    assert!(is_one || told.iter().zip(least).all(|(told, least)| *told > least));
}

/// By script: a call that is refused, a bell that rings, a store that forgets.
#[test]
fn a_script_says_what_goes_wrong_and_when() {
    let napper = DomId(3);
    let refuse = Mishap::Refuse(napper, HypercallNr::EVENT_CHANNEL_OP, Errno::ENOSPC);
    let run = played(Plan::seed(1).at(0, refuse));
    let Outcome::Returned(Err(why)) = &run.outcomes[2] else {
        panic!("{:?}", run.outcomes[2]);
    };
    assert!(why.contains("no port is free"), "{why}");
    // The others do not mind.
    for outcome in &run.outcomes[..2] {
        assert!(matches!(outcome, Outcome::Returned(Ok(_))), "{outcome:?}");
    }
    let run = played(Plan::seed(1).at(50, Mishap::Destroy(DomId(1))));
    assert!(matches!(&run.outcomes[0], Outcome::Shutdown(_)));
    assert!(matches!(&run.outcomes[1], Outcome::Returned(Err(_))));
    assert!(matches!(&run.outcomes[2], Outcome::Returned(Ok(_))));
    let run = played(
        Plan::seed(1)
            .at(20, Mishap::Pause(3_000_000_000))
            .at(40, Mishap::Suspend(napper, Suspend::Cancelled)),
    );
    let Outcome::Returned(Ok(done)) = &run.outcomes[2] else {
        panic!("{:?}", run.outcomes[2]);
    };
    assert!(done.contains("1 suspends"), "{done}");
}
