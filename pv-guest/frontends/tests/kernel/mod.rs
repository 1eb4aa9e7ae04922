//! A guest of the mock's, as a kernel with its own executor would have it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    Mfn, VcpuId,
    peer::PeerPtr,
    platform::{Clock, Pages, Park, Timer},
    sched::{self, Suspended},
};
use mock_hypervisor::Domain;
use pv_frontends::xenbus::Bus;
use xenstore_client::{Client, Ring};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Who waits for which time.
#[derive(Default)]
struct Alarms {
    waiting: Mutex<Vec<(u64, Waker)>>,
    /// As the executor saw the clock last.
    now_ns: AtomicU64,
    /// How often the guest has paused.
    pauses: AtomicU64,
}

thread_local! {
    /// Those of the guest that runs on this thread.
    static ALARMS: Arc<Alarms> = Arc::default();
}

impl Timer for Alarms {
    fn wake_at(&self, deadline_ns: u64, waker: &Waker) {
        let mut waiting = self.lock();
        let same = |(at_ns, known): &(u64, Waker)| *at_ns == deadline_ns && known.will_wake(waker);
        if !waiting.iter().any(same) {
            waiting.push((deadline_ns, waker.clone()));
        }
    }
}

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Waker)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose time has come, and says when the next one's does.
    fn expire(&self, now_ns: u64) -> Option<u64> {
        self.now_ns.store(now_ns, Ordering::Relaxed);
        let due = {
            let mut waiting = self.lock();
            waiting
                .extract_if(.., |(at_ns, _)| *at_ns <= now_ns)
                .collect::<Vec<_>>()
        };
        due.into_iter().for_each(|(_, waker)| waker.wake());
        self.lock().iter().map(|(at_ns, _)| *at_ns).min()
    }
}

/// Longer than any test takes, in the guest's time.
const FOR_EVER_NS: u64 = 3_600_000_000_000;
/// More rounds of the executor than any test makes at one time of its clock.
const MAX_ROUNDS: u32 = 300_000;

/// Runs `future` to its end, on this vCPU, or until it is too late.
fn block_on<F: Future>(
    bus: Bus<'_, &Domain>,
    domain: &Domain,
    alarms: &Alarms,
    deadline_ns: Option<u64>,
    future: F,
) -> Option<F::Output> {
    let ports = bus.ports();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let (mut rounds, mut last_ns) = (0, domain.now_ns());
    loop {
        if domain.xen().is_suspending(domain.domid()) {
            suspend(bus, domain);
        }
        if woken.0.swap(false, Ordering::SeqCst)
            && let Poll::Ready(value) = future.as_mut().poll(&mut cx)
        {
            return Some(value);
        }
        let now_ns = domain.now_ns();
        if deadline_ns.is_some_and(|deadline| now_ns >= deadline) {
            return None;
        }
        assert!(now_ns < FOR_EVER_NS, "it waits for what cannot come");
        rounds = if now_ns == last_ns { rounds + 1 } else { 0 };
        last_ns = now_ns;
        assert!(
            rounds < MAX_ROUNDS,
            "it goes round without end: a task wakes itself, and no time passes"
        );
        let held = ports.release_throttled(now_ns);
        let alarm = alarms.expire(now_ns);
        let next_ns = deadline_ns.into_iter().chain(held).chain(alarm).min();
        domain.idle(next_ns, &|| woken.0.load(Ordering::SeqCst));
        ports.dispatch(VcpuId(0));
    }
}

/// How often a guest went on elsewhere.
pub(crate) static MOVES: AtomicU64 = AtomicU64::new(0);

/// Suspends the guest, and does what is to be done if it goes on elsewhere.
fn suspend(bus: Bus<'_, &Domain>, domain: &Domain) {
    let frame = domain.gfn_of(domain.start_info().cast()).unwrap();
    // SAFETY: all that it changes is looked at anew below.
    let suspended = unsafe { sched::suspend(&domain, Some(Mfn(frame.0))) };
    let Ok(Suspended::Resumed(resumed)) = suspended else {
        return;
    };
    MOVES.fetch_add(1, Ordering::Relaxed);
    bus.ports().resume(resumed).unwrap();
    bus.grants().resume().unwrap();
    // SAFETY: nothing writes it while the domain runs.
    let port = unsafe { domain.start_info().read() }.store_evtchn;
    while let Err(error) = bus.store().resume_at(port) {
        // There may be a page at the next try.
        assert_eq!(error, event_channels::Error::NoMemory);
    }
}

/// Runs a guest that has a bus, until it is too late; an error: it could not begin.
/// Without a deadline it panics if the guest waits for what cannot come.
pub(crate) fn run_until<T>(
    domain: &Domain,
    deadline_ns: Option<u64>,
    main: impl for<'g> AsyncFnOnce(Bus<'g, &'g Domain>) -> T,
) -> Result<Option<T>, Box<dyn std::error::Error>> {
    // SAFETY: the page lives as long as the domain.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, Choice::Best, Throttle::default())?;
    let grants = GrantTable::new(domain, Version::One)?;
    // SAFETY: nothing writes it while the domain runs.
    let start = unsafe { domain.start_info().read() };
    let page = domain.page_of(start.store_mfn.into()).ok_or("no store")?;
    // SAFETY: the store's page, which lives as long as the domain.
    let page = unsafe { PeerPtr::new(page.cast()) };
    let channel = Channel::adopt(&ports, start.store_evtchn)?;
    let store = Client::new(Ring::new(page, channel));
    let alarms = ALARMS.with(Arc::clone);
    alarms.lock().clear();
    alarms.pauses.store(0, Ordering::Relaxed);
    alarms.expire(domain.now_ns());
    let bus = Bus::new(&store, &ports, &grants, &*alarms);
    let value = block_on(bus, domain, &alarms, deadline_ns, main(bus));
    grants.release_quarantine();
    Ok(value)
}

/// Lets others go on, and upcalls come: for a microsecond the first time, and each time for
/// one more. So time runs out soon for those who wait for what cannot come.
pub(crate) async fn pause() {
    let alarms = ALARMS.with(Arc::clone);
    let pause_ns = (alarms.pauses.fetch_add(1, Ordering::Relaxed) + 1) * 1_000;
    let until_ns = alarms.now_ns.load(Ordering::Relaxed) + pause_ns;
    poll_fn(|cx| {
        if alarms.now_ns.load(Ordering::Relaxed) >= until_ns {
            return Poll::Ready(());
        }
        alarms.wake_at(until_ns, cx.waker());
        Poll::Pending
    })
    .await;
}
