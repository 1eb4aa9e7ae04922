//! A driver, whatever its kind: the bus's work is in an image once, not once for each.

use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::io::xenbus::XenbusState;

use super::{Fault, Frontend, Key, KeyName, Offer, Request, Stop};

/// What a protocol says of all devices of a kind: the constants of a [`Frontend`].
pub(super) struct Protocol {
    pub(super) kind: &'static str,
    pub(super) backend_keys: &'static [&'static str],
    pub(super) own_keys: &'static [&'static str],
    pub(super) frontend_keys: &'static [KeyName],
    pub(super) told: XenbusState,
}

impl Protocol {
    /// Whether a name, or the directory of one, is a key of it.
    pub(super) fn knows(&self, name: &str) -> bool {
        let node = name.split('/').next().unwrap_or(name);
        self.frontend_keys.iter().any(|key| key.matches(node))
    }
}

/// A [`Frontend`] as an object.
pub(super) trait Driver: Sync {
    fn protocol(&self) -> &'static Protocol;
    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault>;
    fn is_served(&self) -> bool;
    fn live(&self, offer: &Offer) -> Result<(), Fault>;
    fn changed(&self, offer: &Offer) -> Result<(), Fault>;
    fn drain(&self);
    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()>;
    fn is_released(&self) -> bool;
    fn stop(&self, why: Stop);
    fn retrying(&self, why: Fault, attempts: u32);
    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request>;
}

impl<F: Frontend> Driver for F {
    fn protocol(&self) -> &'static Protocol {
        const {
            &Protocol {
                kind: F::KIND,
                backend_keys: F::BACKEND_KEYS,
                own_keys: F::OWN_KEYS,
                frontend_keys: F::FRONTEND_KEYS,
                told: F::PUBLISHED_STATE,
            }
        }
    }

    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault> {
        Frontend::negotiate(self, offer)
    }

    fn is_served(&self) -> bool {
        Frontend::is_served(self)
    }

    fn live(&self, offer: &Offer) -> Result<(), Fault> {
        Frontend::live(self, offer)
    }

    fn changed(&self, offer: &Offer) -> Result<(), Fault> {
        Frontend::changed(self, offer)
    }

    fn drain(&self) {
        Frontend::drain(self);
    }

    fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        Frontend::poll_drained(self, cx)
    }

    fn is_released(&self) -> bool {
        Frontend::is_released(self)
    }

    fn stop(&self, why: Stop) {
        Frontend::stop(self, why);
    }

    fn retrying(&self, why: Fault, attempts: u32) {
        Frontend::retrying(self, why, attempts);
    }

    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        Frontend::poll_request(self, cx)
    }
}
