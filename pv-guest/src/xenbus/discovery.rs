//! Devices that come and go.

use alloc::{collections::BTreeSet, collections::VecDeque, format, string::String};

use hypercall_abi::platform::Platform;
use xenstore_client::{Error, Ring, Watch, machine::MAX_EVENTS};

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
    watch: Watch<'g, Ring<'g, P>>,
    known: BTreeSet<String>,
    told: VecDeque<Change>,
}

impl<'g, P: Platform> Bus<'g, P> {
    /// Watches the devices of a kind (`vbd`, `vif`).
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn discover(&self, kind: &'static str) -> Result<Discovery<'g, P>, Error> {
        let watch = self.store.watch(&format!("device/{kind}")).await?;
        Ok(Discovery {
            bus: *self,
            kind,
            watch,
            known: BTreeSet::new(),
            told: VecDeque::new(),
        })
    }
}

impl<'g, P: Platform> Discovery<'g, P> {
    /// The bus that the devices are on.
    pub const fn bus(&self) -> Bus<'g, P> {
        self.bus
    }

    /// Waits for the next device that comes or goes.
    ///
    /// # Errors
    /// [`Error`] of the store.
    pub async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if let Some(change) = self.told.pop_front() {
                return Ok(change);
            }
            self.watch.next().await?;
            // Of many events, only what is there afterwards matters. As many as can wait:
            // more may come without end.
            for _ in 0..MAX_EVENTS {
                if self.watch.try_next()?.is_none() {
                    break;
                }
            }
            let now: BTreeSet<String> = self.bus.devices(self.kind).await?.into_iter().collect();
            let went = self.known.difference(&now).cloned().map(Change::Went);
            self.told.extend(went);
            let came = now.difference(&self.known).cloned().map(Change::Came);
            self.told.extend(came);
            self.known = now;
        }
    }
}
