//! `embassy-net`: a [`Nic`] as the driver of a network stack.
//!
//! Checksums of TCP and UDP are left to the backend both ways, and large packets
//! are received as they come; what a backend cannot do is done here.

use core::task::Context;

/// The traits: for whoever looks at packets between the stack and a [`Device`].
pub use embassy_net_driver as driver;
use embassy_net_driver::{
    Capabilities, Checksum, Driver, HardwareAddress, LinkState, RxToken, TxToken,
};
use hypercall_abi::platform::Platform;

use super::stack::{Arrived, Room, Stack};
use crate::netfront::{Error, Nic};

/// A network interface for `embassy-net`.
///
/// Whoever uses a socket wakes the stack's `Runner`, whether there is something to do or
/// not: in one task with its sockets it never sleeps, unless each is polled only when it was
/// woken itself. Tasks of an executor are, and `pv_guest::executor::select` does that.
#[derive(Debug)]
pub struct Device<'g, P: Platform>(Stack<'g, P>);

impl<'g, P: Platform> Device<'g, P> {
    /// Waits until the interface is connected: the stack wants to know its
    /// address and its MTU, which are not asked for again.
    ///
    /// What of them is another after a later connection ([`Nic::interface`] says it), the
    /// stack does not see: it has to be made anew. Until then packets of TCP that are too long
    /// for the interface are cut, others are dropped and counted
    /// ([`tx_dropped`](crate::netfront::Counters::tx_dropped)); packets are sent from the
    /// address of before, which a backend or a bridge may refuse.
    ///
    /// # Errors
    /// Those of [`Nic::ready`].
    pub async fn new(nic: &Nic<'g, P>) -> Result<Self, Error> {
        Stack::new(nic).await.map(Self)
    }
}

impl<'g, P: Platform> Driver for Device<'g, P> {
    type RxToken<'a>
        = Arrived<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, 'g, P>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Arrived<'_>, Room<'_, 'g, P>)> {
        self.0.poll_receive(cx)
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Room<'_, 'g, P>> {
        self.0.poll_transmit(cx)
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        match self.0.is_up(cx) {
            true => LinkState::Up,
            false => LinkState::Down,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = self.0.max_bytes();
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.0.interface().mac.0)
    }
}

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.bytes().as_mut())
    }
}

impl<P: Platform> TxToken for Room<'_, '_, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.send(len, f)
    }
}
