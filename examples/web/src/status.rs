//! What the server knows of itself.

use alloc::{format, string::String};
use core::{
    cell::Cell,
    future::poll_fn,
    task::{Poll, Waker},
};

use pv_guest::{
    blkfront::Disk,
    netfront::{Nic, Steered},
    time,
    xenbus::Bus,
};

/// Where the figures come from.
pub(crate) struct Status {
    bus: Bus<'static>,
    nic: Nic<'static>,
    requests: Cell<u64>,
    busy: Cell<u64>,
    /// When the last of them was.
    last_ns: Cell<u64>,
    /// Who waits until so many were.
    waiting: Cell<Option<(u64, Waker)>>,
}

/// A request that is being answered; it counts when it was.
pub(crate) struct Answer<'a>(&'a Status);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        let status = self.0;
        status.busy.set(status.busy.get() - 1);
        status.requests.set(status.requests.get() + 1);
        status.last_ns.set(time::now_ns());
        match status.waiting.take() {
            Some((most, waker)) if status.requests.get() >= most => waker.wake(),
            other => status.waiting.set(other),
        }
    }
}

impl Status {
    pub(crate) const fn new(bus: Bus<'static>, nic: Nic<'static>) -> Self {
        Self {
            bus,
            nic,
            requests: Cell::new(0),
            busy: Cell::new(0),
            last_ns: Cell::new(0),
            waiting: Cell::new(None),
        }
    }

    /// Somebody is being answered, as long as this is kept.
    pub(crate) fn answer(&self) -> Answer<'_> {
        self.busy.set(self.busy.get() + 1);
        Answer(self)
    }

    /// How many are being answered.
    pub(crate) const fn busy(&self) -> u64 {
        self.busy.get()
    }

    /// How many queues there are, and who chooses.
    pub(crate) fn queues(&self) -> String {
        let queues = self.nic.interface().map_or(0, |interface| interface.queues);
        let chosen = match self.nic.steered() {
            Steered::Yes => "chosen by a hash",
            _ => "as the backend likes",
        };
        format!("{queues} queues, {chosen}")
    }

    /// When the last was answered.
    pub(crate) const fn last_ns(&self) -> u64 {
        self.last_ns.get()
    }

    /// Waits until so many were answered. One waits at a time.
    pub(crate) async fn reached(&self, most: u64) {
        poll_fn(|cx| {
            if self.requests.get() >= most {
                return Poll::Ready(());
            }
            self.waiting.set(Some((most, cx.waker().clone())));
            Poll::Pending
        })
        .await;
    }

    /// How many were.
    pub(crate) const fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// All figures, as JSON.
    pub(crate) fn json(&self, disk: Option<&Disk<'static>>) -> String {
        let nic = self.nic.counters();
        let disk = disk.map(Disk::counters).unwrap_or_default();
        let grants = self.bus.grants();
        let interface = self.nic.interface();
        let queues = interface.map_or(0, |interface| interface.queues);
        let steered = self.nic.steered();
        let mac = interface.map(|interface| interface.mac);
        let mac = mac.map_or_else(String::new, |mac| format!("{mac}"));
        format!(
            "{{\"uptime_ms\":{},\"requests\":{},\"free_bytes\":{},\"mac\":\"{mac}\",\
             \"queues\":{queues},\"steered\":\"{steered:?}\",\
             \"grants\":{{\"free\":{},\"of\":{}}},\
             \"net\":{{\"tx_packets\":{},\"tx_bytes\":{},\"rx_packets\":{},\"rx_bytes\":{},\
             \"told\":{},\"dropped\":{},\"pages\":{},\"connections\":{}}},\
             \"disk\":{{\"requests\":{},\"told\":{},\"pages\":{}}}}}",
            time::now_ns() / 1_000_000,
            self.requests.get(),
            free_bytes(),
            grants.free_references(),
            grants.references(),
            nic.tx_packets,
            nic.tx_bytes,
            nic.rx_packets,
            nic.rx_bytes,
            nic.tx_notified + nic.rx_notified,
            nic.tx_dropped + nic.rx_dropped,
            nic.pages,
            nic.connections,
            disk.sent,
            disk.notified,
            disk.pages,
        )
    }
}

/// Memory that is free, as JSON; a guest that is a process does not know.
fn free_bytes() -> String {
    #[cfg(target_os = "none")]
    return format!("{}", pv_guest::heap::remaining_bytes());
    #[cfg(not(target_os = "none"))]
    return "null".into();
}
