//! Devices: where they come from, and how the two halves of one find each
//! other.
//!
//! A device is a directory of the guest's in the store (`device/vbd/51712`),
//! which the toolstack makes, and one of its backend's, in another domain.
//! [`Bus`] finds devices, as they are and as they come and go;
//! [`Bus::serve`] is the handshake, one for all drivers: a driver is a
//! [`Frontend`], which says what it wants and is told what it gets.
//!
//! The same path serves the first connection, a backend that is restarted or
//! moves to another domain, a device that is taken away and given back, and a
//! driver that found its backend lying. What is next is decided by one function,
//! [`handshake::step`].

mod agree;
mod backoff;
mod discovery;
mod driver;
mod driver_task;
mod ending;
mod fault;
mod find;
pub mod handshake;
mod inbox;
mod nodes;
mod offer;
mod pause;
mod serve;
mod session;
mod status;
mod together;

use alloc::{format, string::String, vec::Vec};
use core::task::{Context, Poll};

use event_channels::Ports;
use grant_tables::{GrantTable, Owner};
use hypercall_abi::{
    io::xenbus::XenbusState,
    platform::{Platform, Timer},
};
use xenstore_client::{Client, Error, Ring};

pub use crate::buffers::MAX_QUARANTINED_PAGES;

pub use discovery::{Change, Discovery};
pub(crate) use driver_task::{DriverTask, Requests, Service};
pub use fault::{Fault, Quote};
pub use offer::{Key, KeyName, Nodes, Offer, Trust, Trusted};
#[cfg(feature = "net")]
pub(crate) use pause::Alarm;
pub use pause::TimedOut;
pub use status::Status;

/// What a driver needs of its guest: the store, ports, grants and a timer.
pub struct Bus<'g, P: Platform> {
    store: &'g Client<Ring<'g, P>>,
    ports: &'g Ports<P>,
    grants: &'g GrantTable<P>,
    timer: &'g dyn Timer,
}

impl<P: Platform> core::fmt::Debug for Bus<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl<P: Platform> Clone for Bus<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Bus<'_, P> {}

impl<'g, P: Platform> Bus<'g, P> {
    /// The bus of a guest that has these. The `timer` is that of the kernel's executor.
    pub const fn new(
        store: &'g Client<Ring<'g, P>>,
        ports: &'g Ports<P>,
        grants: &'g GrantTable<P>,
        timer: &'g dyn Timer,
    ) -> Self {
        Self {
            store,
            ports,
            grants,
            timer,
        }
    }

    /// The store.
    pub const fn store(&self) -> &'g Client<Ring<'g, P>> {
        self.store
    }

    /// The ports.
    pub const fn ports(&self) -> &'g Ports<P> {
        self.ports
    }

    /// The grants.
    pub const fn grants(&self) -> &'g GrantTable<P> {
        self.grants
    }

    /// The timer.
    pub const fn timer(&self) -> &'g dyn Timer {
        self.timer
    }

    /// For whom the driver of a device lends pages
    /// ([`Granted::set_owner`](grant_tables::Granted::set_owner)): the device, however
    /// often drivers of it come and go. While its backends keep more than
    /// [`MAX_QUARANTINED_PAGES`] of them that were to be given back, [`serve`](Self::serve)
    /// makes no connection.
    pub fn owner_of(&self, kind: &str, id: &str) -> Owner {
        Owner::named(&session::directory_of(kind, id))
    }

    /// The devices of a kind (`vbd`, `vif`) that there are now, by their
    /// numbers, the least first.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn devices(&self, kind: &str) -> Result<Vec<String>, Error> {
        let names = match self.store.tree().directory(&format!("device/{kind}")).await {
            Err(error) if error.errno() == Some(hypercall_abi::Errno::ENOENT) => Vec::new(),
            other => other?,
        };
        let number = |id: &str| id.parse::<u64>().unwrap_or(u64::MAX);
        let mut ids: Vec<String> = Vec::with_capacity(names.len());
        for id in names {
            let key = (number(&id), &id);
            let place = ids.partition_point(|other| (number(other), other) < key);
            ids.insert(place, id);
        }
        Ok(ids)
    }
}

/// What a driver is to the bus. One object for the life of the driver:
/// connections come and go.
///
/// Nothing here waits: [`Bus::serve`] reads and writes the store. It calls these
/// methods one at a time, in this order: [`negotiate`](Self::negotiate),
/// [`live`](Self::live), [`changed`](Self::changed) any number of times, perhaps
/// [`drain`](Self::drain), [`stop`](Self::stop), and from the start again; `stop`
/// may come at any point.
pub trait Frontend: Sync {
    /// The directory of its devices: `vbd`, `vif`.
    const KIND: &'static str;
    /// What it wants to know of its backend.
    const BACKEND_KEYS: &'static [&'static str];
    /// What it wants to know of its own directory.
    const OWN_KEYS: &'static [&'static str] = &[];
    /// All keys that the protocol has for a frontend to write, also those that this
    /// driver never writes: a frontend before it (another driver, firmware, the same
    /// driver with another configuration) may have left them, and a backend would
    /// believe them. At each connection [`Bus::serve`] removes those that
    /// [`negotiate`](Self::negotiate) does not return, in the transaction that writes
    /// the others. Keys of the toolstack's (`state`, `backend`, `mac`) are none of them.
    const FRONTEND_KEYS: &'static [KeyName];
    /// The state to enter once the frontend's keys are published: `INITIALISED`, or
    /// `CONNECTED` where the protocol has it so.
    const PUBLISHED_STATE: XenbusState;

    /// Makes what is shared with the backend, and says what it is to be told: keys
    /// of [`FRONTEND_KEYS`](Self::FRONTEND_KEYS). What was made before, for a
    /// connection that failed, is not used any more.
    ///
    /// # Errors
    /// [`Fault`]: this backend will not do.
    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault>;

    /// Whether the backend, which says that it is ready, has what it was told: if
    /// not, it is connected with what was told to another before it, and the
    /// handshake begins again.
    fn is_served(&self) -> bool {
        true
    }

    /// The backend is ready.
    ///
    /// # Errors
    /// [`Fault`]: what it says of its device cannot be.
    fn live(&self, offer: &Offer) -> Result<(), Fault>;

    /// The backend wrote something; perhaps nothing that matters.
    ///
    /// # Errors
    /// As for [`live`](Self::live).
    fn changed(&self, offer: &Offer) -> Result<(), Fault> {
        let _ = offer;
        Ok(())
    }

    /// The backend ends: nothing new is to be asked of it.
    fn drain(&self) {}

    /// Whether all that was asked has been answered, as far as there is anybody
    /// who answers.
    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Whether the backend of the connection before has let go of what it shared, or had
    /// answered all: one that still works on a request may undo what the next is asked
    /// to do. The
    /// bus waits for this before it [agrees](Self::negotiate) with the next, but
    /// not for ever.
    fn is_released(&self) -> bool {
        true
    }

    /// What was made for this connection is to be used no more.
    ///
    /// [`Stop::Lost`] comes as soon as that is so. [`Stop::Broken`] and [`Stop::Closed`]
    /// come after it, when the store has answered that it holds the frontend's state: who
    /// is told by the driver finds in the store what it was told.
    ///
    /// [`Stop::Lost`] also comes when there is to be a connection after all: a device that
    /// was gone is there again, or a backend that was out of order was made anew.
    fn stop(&self, why: Stop);

    /// The connection could not be made, or ended at once, for this reason, so many times in a row: the bus
    /// tries again after a pause.
    fn retrying(&self, why: Fault, attempts: u32) {
        let _ = (why, attempts);
    }

    /// What the driver wants of the bus.
    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        let _ = cx;
        Poll::Pending
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The backend went away, and may come back: what was not answered is to be
    /// asked again.
    Lost,
    /// The backend, or something this driver needs of others, is out of order.
    Broken(Fault),
    /// The device was taken away.
    Gone,
    /// The driver wanted it.
    Closed,
}

/// What a driver may want of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The backend did what it must not do.
    Fault(Fault),
    /// Begin again, also with a backend that misbehaved: the connection is made
    /// anew, and at once.
    Reconnect,
    /// The driver has no use for the device any more.
    Close,
}
