//! `smoltcp`: a [`Nic`] as its `phy::Device`.
//!
//! Checksums of TCP and UDP are left to the backend both ways, and so is the cutting of
//! large packets of TCP; such packets are received as they come. What a backend cannot
//! do is done here. Over IPv6 the stack makes no large packets: `smoltcp` 0.14 drops those
//! that it has made itself, without a word. Its segments are joined on their way to the
//! backend, as long as nothing of another connection is between them; the module `net` has a
//! way around it.

#[cfg(feature = "net")]
use core::task::{Context, Poll};
use core::{future::poll_fn, num::NonZeroUsize};

use hypercall_abi::platform::Platform;
use smoltcp::{
    phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken},
    time::Instant,
    wire::EthernetAddress,
};

#[cfg(feature = "net")]
use super::limits::Ends;
use super::{
    offload::MAX_BYTES,
    stack::{Arrived, Room, Stack},
};
use crate::netfront::{Error, Nic};

/// A network interface for `smoltcp`.
///
/// Its `Interface::poll` looks at what is there, and wakes nobody: between two
/// polls, wait for [`Device::changed`], or for the stack's own timers.
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
        Ok(Self(Stack::new(nic).await?.with_segmentation()))
    }

    /// One whose stack makes large packets over IPv6, too, if the backend cuts them: it is
    /// told of an MTU that none is above. Whoever has it says which connections begin
    /// ([`Self::note_segments`]).
    #[cfg(feature = "net")]
    pub(crate) async fn with_large_v6(nic: &Nic<'g, P>) -> Result<Self, Error> {
        Ok(Self(Stack::new(nic).await?.with_large_v6()))
    }

    /// The packet that was [looked](Self::look) at is the first of a connection that the
    /// other end sends: it may say how large the segments are that it takes.
    #[cfg(feature = "net")]
    pub(crate) fn note_segments(&mut self, ends: Ends, is_there: impl Fn(Ends) -> bool) {
        self.0.note_segments(ends, is_there);
    }

    /// Its hardware address.
    pub const fn address(&self) -> EthernetAddress {
        EthernetAddress(self.0.interface().mac.0)
    }

    /// Whether the stack had something to send, and there was no room for it when it
    /// last asked. It says then that it is due ([`Interface::poll_at`]) until there is
    /// some: what is to be waited for is [`Self::changed`] alone.
    ///
    /// [`Interface::poll_at`]: smoltcp::iface::Interface::poll_at
    pub const fn lacks_room(&self) -> bool {
        self.0.lacks_room()
    }

    /// Waits until a packet came, there is room again if there was none, or the
    /// interface came or went.
    pub async fn changed(&mut self) {
        poll_fn(|cx| self.0.poll_changed(cx)).await;
    }

    /// [`changed`](Self::changed), for those who poll.
    #[cfg(feature = "net")]
    pub(crate) fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_changed(cx)
    }

    /// The packet that the stack is given next, if one is there.
    #[cfg(feature = "net")]
    pub(crate) fn look(&mut self) -> Option<&[u8]> {
        self.0.look()
    }

    /// Keeps the packet that was [looked](Self::look) at from the stack.
    #[cfg(feature = "net")]
    pub(crate) const fn pass_over(&mut self) {
        self.0.pass_over();
    }
}

impl<'g, P: Platform> phy::Device for Device<'g, P> {
    type RxToken<'a>
        = Arrived<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Room<'a, 'g, P>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived<'_>, Room<'_, 'g, P>)> {
        self.0.receive()
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_, 'g, P>> {
        self.0.transmit()
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.0.told_bytes();
        capabilities.checksum.tcp = Checksum::None;
        capabilities.checksum.udp = Checksum::None;
        if self.0.has_large_packets() {
            capabilities.segmentation.tcpv4 = NonZeroUsize::new(MAX_BYTES);
        }
        if self.0.has_large_v6() {
            capabilities.segmentation.tcpv6 = NonZeroUsize::new(MAX_BYTES);
        }
        capabilities
    }
}

impl RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.bytes().as_mut())
    }
}

impl<P: Platform> TxToken for Room<'_, '_, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.send(len, f)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.cut = meta.segmentation_offload_size;
    }
}
