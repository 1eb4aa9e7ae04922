//! What domain 0 runs for its guests: the store, the console's daemon, backends, and the
//! toolstack's part of them. Each acts when it is notified, at once or later, and when its
//! time has come.

pub(crate) mod backends;
pub(crate) mod console;
pub(crate) mod xenstore;

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use hypercall_abi::{DomId, Mfn};

use crate::core::{channels::Signal, config::Time, machine::Core};

use backends::Backends;
use console::Console;
use xenstore::{Ring, Store};

/// The host with its services.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) core: Core,
    pub(crate) store: Store,
    /// The store's rings.
    rings: BTreeMap<DomId, Ring>,
    consoles: BTreeMap<DomId, Console>,
    pub(crate) backends: Backends,
    /// Who is notified, and looks only then.
    late: Vec<(u64, Signal)>,
}

impl Deref for Services {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Services {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Signal {
    /// The guest that it concerns; None: a backend is told, whose guest it knows.
    const fn guest(self) -> Option<DomId> {
        match self {
            Self::Console(domid) | Self::Store(domid) => Some(domid),
            Self::Backend(..) => None,
        }
    }
}

impl Services {
    pub(crate) fn new(time: Time) -> Self {
        Self {
            core: Core::new(time),
            store: Store::default(),
            rings: BTreeMap::new(),
            consoles: BTreeMap::new(),
            backends: Backends::default(),
            late: Vec::new(),
        }
    }

    /// A domain is there: the store knows it and serves its ring, and its console has a
    /// daemon.
    pub(crate) fn introduce(&mut self, domid: DomId, store: Ring, console: Console, frame: Mfn) {
        self.store.introduce(domid);
        self.store.tell_console(domid, frame, console.port);
        self.rings.insert(domid, store);
        self.consoles.insert(domid, console);
        self.push_store_events();
    }

    /// Tells services what they were notified of. Says whether anything may have changed
    /// for a vCPU that sleeps.
    pub(crate) fn deliver_signals(&mut self) -> bool {
        for signal in std::mem::take(&mut self.signals) {
            let latency_ns = match signal {
                Signal::Store(_) => self.store.latency_ns(),
                Signal::Console(_) | Signal::Backend(..) => 0,
            };
            match latency_ns + self.service_delay_ns() {
                0 => self.serve(signal),
                _ if self.late.iter().any(|(_, other)| *other == signal) => {}
                delay_ns => {
                    let due_ns = self.now_ns().saturating_add(delay_ns);
                    self.late.push((due_ns, signal));
                }
            }
        }
        std::mem::take(&mut self.has_news)
    }

    fn serve(&mut self, signal: Signal) {
        match signal {
            Signal::Console(domid) => self.serve_console(domid),
            Signal::Store(domid) => self.serve_store(domid),
            Signal::Backend(domid, port) => self.serve_backend(domid, port),
        }
    }

    /// A domain ends: what it told its console before is not lost.
    pub(crate) fn hear_out(&mut self, domid: DomId) {
        let told = Signal::Console(domid);
        if self.late.iter().any(|(_, signal)| *signal == told) {
            self.late.retain(|(_, signal)| *signal != told);
            self.serve(told);
        }
    }

    /// When a service has something to do next.
    pub(crate) fn next_service_ns(&self) -> Option<u64> {
        let late = self.late.iter().map(|(due_ns, _)| *due_ns);
        late.chain(self.next_backend_ns()).min()
    }

    /// Does what is due, and says whether that was anything.
    pub(crate) fn tick_services(&mut self, now_ns: u64) -> bool {
        let due: Vec<Signal> = self
            .late
            .extract_if(.., |(due_ns, _)| *due_ns <= now_ns)
            .map(|(_, signal)| signal)
            .collect();
        for signal in &due {
            self.serve(*signal);
        }
        let is_anything = self.tick_backends(now_ns) || !due.is_empty();
        if is_anything {
            self.push_store_events();
        }
        is_anything
    }

    /// Has others forget a domain: its channels end, its store connection too.
    pub(crate) fn forget(&mut self, domid: DomId) {
        self.forget_backends_of(domid);
        self.unmap_all(domid);
        let Some(state) = self.domains.get_mut(&domid) else {
            return;
        };
        if std::mem::replace(&mut state.is_destroyed, true) {
            return;
        }
        self.unbind_peers(domid);
        self.late
            .retain(|(_, signal)| signal.guest() != Some(domid));
        self.store.release(domid);
        self.push_store_events();
    }

    /// Removes a domain, with its memory.
    pub(crate) fn remove(&mut self, domid: DomId) {
        self.forget(domid);
        self.rings.remove(&domid);
        self.consoles.remove(&domid);
        self.domains.remove(&domid);
    }
}
