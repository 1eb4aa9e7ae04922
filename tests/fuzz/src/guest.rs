//! A guest of the mock's, whose code is polled step by step.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Waker},
};

use event_channels::{Channel, Choice, Ports, Throttle};
use grant_tables::{GrantTable, Version};
use hypercall_abi::{
    VcpuId,
    peer::PeerPtr,
    platform::{Pages, Timer},
};
use mock_hypervisor::Domain;
use pv_guest::xenbus::Bus;
use xenstore_client::{Client, Ring};

const TEXTS: [&str; 8] = [
    "",
    "0",
    "1",
    "-1",
    "4",
    "4294967296",
    "18446744073709551615",
    "\u{fe}",
];

/// A value that makes sense, or one that makes none.
pub(crate) fn text(which: u8) -> &'static str {
    TEXTS[usize::from(which) % TEXTS.len()]
}

/// The most who wait at once.
pub(crate) const MAX_WAITING: usize = 64;

/// Those who wait.
pub(crate) type Waiting<'d> = Vec<Pin<Box<dyn Future<Output = ()> + 'd>>>;

/// All who wait are polled at each step, whatever time it is.
struct EachStep;

impl Timer for EachStep {
    fn wake_at(&self, _deadline_ns: u64, _waker: &Waker) {}
}

/// Calls `run` with what a guest has.
pub(crate) fn with_bus(
    domain: &Domain,
    run: impl for<'g> FnOnce(Bus<'g, &'g Domain>, &'g Ports<&'g Domain>),
) {
    // SAFETY: the page lives as long as the domain, which outlives the ports.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, Choice::Best, Throttle::default());
    let ports = ports.expect("there is memory for a few pages");
    let grants = GrantTable::new(domain, Version::One).expect("there is a Xen");
    // SAFETY: nothing writes it after the domain was built.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into());
    // SAFETY: the store's page, which lives as long as the domain.
    let page = unsafe { PeerPtr::new(page.expect("there is a store").cast()) };
    let channel = Channel::adopt(&ports, start.store_evtchn).expect("there is a port");
    let store = Client::new(Ring::new(page, channel));
    let bus = Bus::new(&store, &ports, &grants, &EachStep);
    run(bus, &ports);
}

/// Lets all who wait go on, until nothing is new.
pub(crate) fn go(ports: &Ports<&Domain>, waiting: &mut Waiting<'_>) {
    for _ in 0..20 {
        ports.dispatch(VcpuId(0));
        let mut cx = Context::from_waker(Waker::noop());
        waiting.retain_mut(|one| one.as_mut().poll(&mut cx).is_pending());
    }
}
