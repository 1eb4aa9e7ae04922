//! What is printed is told to the console's daemon, also if the guest ends meanwhile.

use std::{
    fmt,
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hypercall_abi::{HypercallNr, platform::Platform};
use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};
use pv_guest::{Error, Guest, hosted, power, print, println};

static DOMAIN: OnceLock<&'static Domain> = OnceLock::new();
/// Events that had been sent: before and behind a line of several pieces, before the end.
static SENT: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

fn sent() -> u64 {
    let calls = DOMAIN.get().unwrap().calls();
    let number = HypercallNr::EVENT_CHANNEL_OP.0;
    calls.get(&number).copied().unwrap_or(0)
}

fn note(index: usize) {
    SENT[index].store(sent(), Ordering::SeqCst);
}

/// A value at which the guest ends, in the middle of a line.
struct Off;

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the last words")?;
        note(2);
        power::power_off()
    }
}

fn main(guest: Guest) -> Result<(), Error> {
    guest.ports()?;
    note(0);
    println!("{} and {} and {}", 1, 2, 3);
    note(1);
    print!("{Off}");
    Ok(())
}

#[test]
fn a_line_is_one_event_and_the_end_is_told() {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    let domain: &'static Domain = Box::leak(Box::new(domain));
    assert!(DOMAIN.set(domain).is_ok());
    domain.on_upcall(|_| {
        // SAFETY: the mock calls this at upcalls of the only vCPU.
        unsafe { hosted::upcall() };
    });
    let guest: Box<dyn FnOnce(&Domain) + Send> = Box::new(|domain| {
        let (start, shared): (NonNull<_>, NonNull<_>) = (domain.start_info(), domain.shared_info());
        let platform: &'static dyn Platform = DOMAIN.get().copied().unwrap();
        // SAFETY: the mock made them for this domain, which is never dropped.
        unsafe { hosted::start(platform, start, shared, main) }
    });
    let outcomes = xen.run(vec![(domain, guest)]);
    assert!(matches!(outcomes[..], [Outcome::Shutdown(_)]));
    let [before, behind, last] = SENT.each_ref().map(|count| count.load(Ordering::SeqCst));
    assert_eq!(behind - before, 1, "events of a line");
    assert_eq!(last, behind, "the last words are told too early to tell");
    assert!(sent() > last, "the last words were not told");
    let console = domain.console_output();
    assert!(console.ends_with(b"1 and 2 and 3\nthe last words"));
}
