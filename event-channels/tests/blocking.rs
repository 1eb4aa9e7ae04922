//! Who waits without an executor, while upcalls come at any moment.

use std::{
    ptr::NonNull,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Wake, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle, Wait};
use hypercall_abi::{
    DomId, Gfn, HypercallNr, Port, VcpuId,
    peer::PeerPtr,
    platform::{Clock, Hypercall, Pages, Park, Singletons},
};
use mock_hypervisor::{Config, Domain, Time, Xen};

const VCPU: VcpuId = VcpuId(0);
const BOTH: [Choice; 2] = [Choice::TwoLevel, Choice::Best];
const DEADLINE_NS: u64 = 1_000_000;

/// What is done at the next look at the clock.
type Interruption = Box<dyn FnOnce() + Send>;

/// A domain that can be interrupted when it looks at the clock: between its look for an
/// event and its sleep.
struct Interrupted {
    domain: Domain,
    by: Mutex<Option<Interruption>>,
}

// SAFETY: as the domain does.
unsafe impl Hypercall for Interrupted {
    unsafe fn call5(
        &self,
        nr: HypercallNr,
        a1: usize,
        a2: usize,
        a3: usize,
        a4: usize,
        a5: usize,
    ) -> isize {
        // SAFETY: this function's contract.
        unsafe { self.domain.call5(nr, a1, a2, a3, a4, a5) }
    }
}

// SAFETY: as the domain does.
unsafe impl Pages for Interrupted {
    fn alloc(&self, count: usize) -> Option<NonNull<u8>> {
        self.domain.alloc(count)
    }
    unsafe fn free(&self, first: NonNull<u8>, count: usize) {
        // SAFETY: this function's contract.
        unsafe { self.domain.free(first, count) }
    }
    fn gfn_of(&self, page: NonNull<u8>) -> Option<Gfn> {
        self.domain.gfn_of(page)
    }
    fn page_of(&self, gfn: Gfn) -> Option<NonNull<u8>> {
        self.domain.page_of(gfn)
    }
    fn singletons(&self) -> &Singletons {
        self.domain.singletons()
    }
}

impl Park for Interrupted {
    fn park(&self, ports: &[Port], deadline_ns: Option<u64>) {
        self.domain.park(ports, deadline_ns);
    }
    fn idle(&self, deadline_ns: Option<u64>, has_work: &dyn Fn() -> bool) {
        self.domain.idle(deadline_ns, has_work);
    }
}

impl Clock for Interrupted {
    fn now_ns(&self) -> u64 {
        let now_ns = self.domain.now_ns();
        let by = self.by.lock().unwrap().take();
        if let Some(by) = by {
            by();
        }
        now_ns
    }
    fn wall_clock_ns(&self) -> Option<u64> {
        self.domain.wall_clock_ns()
    }
}

type Guest = (&'static Interrupted, &'static Ports<&'static Interrupted>);
type Ends = [Channel<'static, &'static Interrupted>; 2];

fn guest(choice: Choice) -> Guest {
    let domain = Xen::new(Time::Virtual).domain(Config::default()).unwrap();
    // SAFETY: domains of these tests are never freed.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let by = Mutex::new(None);
    let platform: &'static Interrupted = Box::leak(Box::new(Interrupted { domain, by }));
    let ports = Ports::new(platform, shared, choice, Throttle::default()).unwrap();
    (platform, Box::leak(Box::new(ports)))
}

/// Two ends of a channel, the second of which has taken its first event.
fn pair(ports: &'static Ports<&'static Interrupted>) -> Ends {
    let offered = Channel::unbound(ports, DomId::SELF).unwrap();
    let bound = Channel::interdomain(ports, DomId::SELF, offered.port()).unwrap();
    assert!(bound.take());
    [offered, bound]
}

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has `channel` raise upcalls, as whoever waits with a waker does.
fn listen(channel: &Channel<'static, &'static Interrupted>) -> Arc<Wakes> {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let polled = channel.poll_wait(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    wakes
}

#[test]
fn an_upcall_before_the_sleep_takes_nothing_away() {
    for choice in BOTH {
        let (platform, ports) = guest(choice);
        let [near, far] = pair(ports);
        let _wakes = listen(&far);
        *platform.by.lock().unwrap() = Some(Box::new(move || {
            near.notify().unwrap();
            ports.dispatch(VCPU);
            // Its port stays open.
            std::mem::forget(near);
        }));
        assert_eq!(far.wait_blocking(Some(DEADLINE_NS)), Wait::Event);
        assert!(platform.now_ns() < DEADLINE_NS, "slept over the event");
    }
}

#[test]
fn who_listened_before_is_woken_afterwards() {
    for choice in BOTH {
        let (_, ports) = guest(choice);
        let [near, far] = pair(ports);
        let wakes = listen(&far);
        near.notify().unwrap();
        assert_eq!(far.wait_blocking(Some(DEADLINE_NS)), Wait::Event);
        assert_eq!(far.wait_blocking(Some(DEADLINE_NS)), Wait::Deadline);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        near.notify().unwrap();
        assert_eq!(ports.dispatch(VCPU).events, 1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        // Nobody listens now, and so it stays.
        assert_eq!(far.wait_blocking(Some(DEADLINE_NS)), Wait::Event);
        near.notify().unwrap();
        assert_eq!(ports.dispatch(VCPU).events, 0);
        assert!(far.take());
    }
}
