//! Devices that come and go.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};

use hypercall_abi::platform::Platform;
use xenstore_client::{Error, Ring, Subscription};

use super::Bus;

/// A device came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is one of this number.
    Came(String),
    /// There is no longer one of this number.
    Went(String),
}

/// The devices of one kind, as they come and go: those that are there already
/// come first.
#[derive(Debug)]
pub struct Discovery<'g, P: Platform> {
    bus: Bus<'g, P>,
    kind: &'static str,
    watch: Subscription<'g, Ring<'g, P>>,
    look: Look,
    known: Vec<String>,
    told: VecDeque<Change>,
}

/// Whether something changed that was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Due,
    NotDue,
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Watches the devices of a kind (`vbd`, `vif`).
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn discover(&self, kind: &'static str) -> Result<Discovery<'g, P>, Error> {
        let watch = self.store.subscribe("device", &format!("device/{kind}"))?;
        watch.changed().await?;
        Ok(Discovery {
            bus: *self,
            kind,
            watch,
            look: Look::Due,
            known: Vec::new(),
            told: VecDeque::new(),
        })
    }
}

impl<'g, P: Platform> Discovery<'g, P> {
    /// The bus that the devices are on.
    pub const fn bus(&self) -> Bus<'g, P> {
        self.bus
    }

    /// Waits for the next device that comes or goes. Dropping the future loses none.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.told.pop_front() {
                return Ok(change);
            }
            if self.look == Look::NotDue {
                self.watch.changed().await?;
                self.look = Look::Due;
                // There may be news without end, of what is no device: the store's client
                // lets others go on when it has looked at enough of it.
            }
            let now = self.bus.devices(self.kind).await?;
            self.look = Look::NotDue;
            let went = self.known.iter().filter(|id| !now.contains(id));
            self.told.extend(went.cloned().map(Change::Went));
            let came = now.iter().filter(|id| !self.known.contains(id));
            self.told.extend(came.cloned().map(Change::Came));
            self.known = now;
        }
    }
}
