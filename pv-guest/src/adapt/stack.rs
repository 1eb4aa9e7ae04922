//! A network interface as network stacks want it: packets that are there, and
//! room for packets, by tokens.

use alloc::vec::Vec;
use core::task::{Context, Poll};

use hypercall_abi::platform::Platform;

use super::offload::{is_right, prepare};
use crate::netfront::{Carrier, ETHERNET_BYTES, Error, Interface, Nic, Poller};

/// What stacks' devices are made of.
#[derive(Debug)]
pub(super) struct Stack<'g, P: Platform> {
    poller: Poller<'g, P>,
    /// As it was when the stack was made: stacks ask once.
    interface: Interface,
    packet: Vec<u8>,
}

impl<'g, P: Platform> Stack<'g, P> {
    pub(super) async fn new(nic: &Nic<'g, P>) -> Result<Self, Error> {
        Ok(Self {
            interface: nic.ready().await?,
            poller: nic.poller(),
            packet: Vec::new(),
        })
    }

    pub(super) const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Bytes of a packet, with its Ethernet header.
    pub(super) const fn most_bytes(&self) -> usize {
        self.interface.mtu as usize + ETHERNET_BYTES
    }

    /// A packet that is right, and room for an answer; or the task is woken when
    /// there are.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Option<(Arrived<'_>, Room<'_, 'g, P>)> {
        if !self.has_room(cx) {
            return None;
        }
        loop {
            // Without a connection there is nothing; whoever asks for the link
            // is told when there is one.
            let Poll::Ready(Ok(received)) = self.poller.poll_receive(cx, &mut self.packet) else {
                return None;
            };
            if is_right(&self.packet, &received) {
                break;
            }
        }
        Some((Arrived(&mut self.packet), Room(&mut self.poller)))
    }

    /// Room for a packet; or the task is woken when there is.
    pub(super) fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Room<'_, 'g, P>> {
        self.has_room(cx).then_some(Room(&mut self.poller))
    }

    fn has_room(&mut self, cx: &mut Context<'_>) -> bool {
        matches!(self.poller.poll_room(cx), Poll::Ready(Ok(())))
    }

    /// Whether packets arrive; the task is woken when that changes.
    #[cfg(feature = "embassy-net")]
    pub(super) fn is_up(&mut self, cx: &mut Context<'_>) -> bool {
        let interface = self.poller.poll_interface(cx);
        interface.is_some_and(|interface| interface.carrier == Carrier::Up)
    }

    /// Has the task woken when something comes; `Ready`: it did.
    #[cfg(feature = "smoltcp")]
    pub(super) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poller.poll_changed(cx)
    }
}

/// A packet that came.
#[derive(Debug)]
pub struct Arrived<'a>(&'a mut Vec<u8>);

impl Arrived<'_> {
    pub(super) fn bytes(self) -> impl AsMut<[u8]> {
        self.0
    }
}

/// Room for a packet.
#[derive(Debug)]
pub struct Room<'a, 'g, P: Platform>(&'a mut Poller<'g, P>);

impl<P: Platform> Room<'_, '_, P> {
    /// Sends what `fill` writes, a packet without checksums of TCP and UDP.
    pub(super) fn send<R>(self, len_bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let interface = self.0.nic().interface();
        let features = interface.map(|it| it.features).unwrap_or_default();
        self.0.send_with(len_bytes, |packet| {
            let value = fill(packet);
            (prepare(packet, features), value)
        })
    }
}
