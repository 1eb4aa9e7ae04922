//! A guest of the mock's, as a kernel with its own executor would have it.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    Mfn, VcpuId,
    peer::PeerPtr,
    platform::{Clock, Pages, Park},
    sched::{self, Suspended},
};
use mock_hypervisor::Domain;
use pv_guest::xenbus::Bus;
use xenstore_client::{Client, Ring};

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `future` to its end, on this vCPU, or until it is too late.
fn block_on<F: Future>(
    bus: Bus<'_, &Domain>,
    domain: &Domain,
    deadline_ns: Option<u64>,
    future: F,
) -> Option<F::Output> {
    let ports = bus.ports();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if domain.xen().is_suspending(domain.domid()) {
            suspend(bus, domain);
        }
        if woken.0.swap(false, Ordering::SeqCst)
            && let Poll::Ready(value) = future.as_mut().poll(&mut cx)
        {
            return Some(value);
        }
        if deadline_ns.is_some_and(|deadline| domain.now_ns() >= deadline) {
            return None;
        }
        let held = ports.release_throttled(domain.now_ns());
        let next_ns = deadline_ns.into_iter().chain(held).min();
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
    if suspended != Ok(Suspended::Resumed) {
        return;
    }
    MOVES.fetch_add(1, Ordering::Relaxed);
    bus.ports().resume().unwrap();
    bus.grants().resume().unwrap();
    // SAFETY: nothing writes it while the domain runs.
    let port = unsafe { domain.start_info().read() }.store_evtchn;
    while let Err(error) = bus.store().resume_at(port) {
        // There may be a page at the next try.
        assert_eq!(error, event_channels::Error::NoMemory);
    }
}

/// Runs a guest that has a bus, until it is too late; an error: it could not
/// begin.
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
    let bus = Bus::new(&store, &ports, &grants);
    let value = block_on(bus, domain, deadline_ns, main(bus));
    grants.release_quarantine();
    Ok(value)
}

/// Lets others go on, and upcalls come.
pub(crate) async fn pause() {
    let mut first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
