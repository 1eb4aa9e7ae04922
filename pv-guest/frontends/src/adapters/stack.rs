//! A network interface as network stacks want it: packets that are there, and
//! room for packets, by tokens.

use alloc::vec::Vec;
use core::{
    num::NonZeroU16,
    task::{Context, Poll},
};

#[cfg(feature = "smoltcp")]
use hypercall_abi::PAGE_SIZE;
use hypercall_abi::platform::Platform;

#[cfg(feature = "net")]
use super::limits::{Ends, Limits, bound_segments, bound_wishes};
#[cfg(feature = "smoltcp")]
use super::offload::{MAX_BYTES, protocol};
use super::{
    cut::{max_payload, segments},
    offload::{is_right, prepare},
};
#[cfg(feature = "embassy-net")]
use crate::netfront::Carrier;
use crate::netfront::{ETHERNET_BYTES, Error, Features, Interface, Nic, Poller};
#[cfg(feature = "smoltcp")]
use crate::netfront::{Offload, Protocol, Segmentation, TURN};

/// Small packets that there is room for when a stack may send nothing else: what answers one
/// that came.
#[cfg(feature = "smoltcp")]
const ANSWERS: usize = 8;

/// What stacks' devices are made of.
#[derive(Debug)]
pub(super) struct Stack<'g, P: Platform> {
    poller: Poller<'g, P>,
    /// As it was when the stack was made: stacks ask once.
    interface: Interface,
    packet: Vec<u8>,
    /// Bytes of the largest packet that the stack may send.
    max_room_bytes: usize,
    /// How many packets it may still be given before it is told that there are no more.
    #[cfg(feature = "smoltcp")]
    left: u32,
    /// `packet` is one that the stack is still to be given.
    #[cfg(feature = "net")]
    is_looked_at: bool,
    /// Who takes less than the interface: of a stack that was told of a larger MTU than there
    /// is.
    #[cfg(feature = "net")]
    limits: Option<Limits>,
}

impl<'g, P: Platform> Stack<'g, P> {
    pub(super) async fn new(nic: &Nic<'g, P>) -> Result<Self, Error> {
        let interface = nic.ready().await?;
        Ok(Self {
            interface,
            poller: nic.poller(),
            packet: Vec::new(),
            max_room_bytes: usize::from(interface.mtu) + ETHERNET_BYTES,
            #[cfg(feature = "smoltcp")]
            left: TURN,
            #[cfg(feature = "net")]
            is_looked_at: false,
            #[cfg(feature = "net")]
            limits: None,
        })
    }

    /// For a stack that has large packets cut, where they can be.
    #[cfg(feature = "smoltcp")]
    pub(super) fn with_segmentation(mut self) -> Self {
        if self.has_large_packets() {
            self.max_room_bytes = MAX_BYTES;
        }
        self
    }

    /// For a stack that makes large packets over IPv6 if it knows of no MTU.
    #[cfg(feature = "net")]
    pub(super) fn with_large_v6(mut self) -> Self {
        if cuts(self.interface.features, Protocol::TcpV6) {
            self.limits = Some(Limits::default());
            self.max_room_bytes = MAX_BYTES;
        }
        self.with_segmentation()
    }

    /// Whether the stack may send packets larger than the MTU, of TCP over IPv4.
    #[cfg(feature = "smoltcp")]
    pub(super) const fn has_large_packets(&self) -> bool {
        cuts(self.interface.features, Protocol::TcpV4)
    }

    /// Whether it may over IPv6.
    #[cfg(feature = "smoltcp")]
    pub(super) const fn has_large_v6(&self) -> bool {
        #[cfg(feature = "net")]
        return self.limits.is_some();
        #[cfg(not(feature = "net"))]
        false
    }

    /// Bytes of a packet, with its Ethernet header, as the stack is told.
    #[cfg(feature = "smoltcp")]
    pub(super) const fn told_bytes(&self) -> usize {
        match self.has_large_v6() {
            true => MAX_BYTES,
            false => self.max_bytes(),
        }
    }

    /// The packet that was looked at is the first that the other end of a connection sends.
    #[cfg(feature = "net")]
    pub(super) fn note_segments(&mut self, ends: Ends, is_there: impl Fn(Ends) -> bool) {
        if let Some(limits) = &mut self.limits {
            limits.note(&mut self.packet, self.interface.mtu, ends, is_there);
        }
    }

    pub(super) const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Bytes of a packet, with its Ethernet header.
    pub(super) const fn max_bytes(&self) -> usize {
        self.interface.mtu as usize + ETHERNET_BYTES
    }

    /// A packet that is right, and room for an answer; or the task is woken when
    /// there are.
    #[cfg(feature = "embassy-net")]
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Option<(Arrived<'_>, Room<'_, 'g, P>)> {
        if !self.poll_has_room(cx) {
            return None;
        }
        loop {
            // Without a connection there is nothing; whoever asks for the link
            // is told when there is one.
            let Poll::Ready(Ok(received)) = self.poller.poll_receive(cx, &mut self.packet) else {
                return None;
            };
            if is_right(&self.packet, &received) {
                return Some(self.tokens());
            }
        }
    }

    /// Room for a packet; or the task is woken when there is.
    #[cfg(feature = "embassy-net")]
    pub(super) fn poll_transmit(&mut self, cx: &mut Context<'_>) -> Option<Room<'_, 'g, P>> {
        self.poll_has_room(cx).then(|| self.tokens().1)
    }

    #[cfg(feature = "embassy-net")]
    fn poll_has_room(&mut self, cx: &mut Context<'_>) -> bool {
        let room = self.poller.poll_room(cx, self.max_room_bytes);
        matches!(room, Poll::Ready(Ok(())))
    }

    /// Whether there was no room when that was last asked.
    #[cfg(feature = "smoltcp")]
    pub(super) const fn lacks_room(&self) -> bool {
        self.poller.lacks_room()
    }

    /// A packet that is right, if one is there, and room for an answer, which is never large:
    /// some is kept for answers ([`Self::transmit`]). One that finds none is dropped, and
    /// counted: what comes does not wait for what goes, for it may be what makes room.
    /// A stack asks until there is none: after some packets, whether they
    /// were right or not, it is told so, however fast more of them come.
    #[cfg(feature = "smoltcp")]
    pub(super) fn receive(&mut self) -> Option<(Arrived<'_>, Room<'_, 'g, P>)> {
        #[cfg(feature = "net")]
        if core::mem::take(&mut self.is_looked_at) {
            return Some(self.tokens());
        }
        self.has_come().then(|| self.tokens())
    }

    /// The packet that the stack is given next, if one is there.
    #[cfg(feature = "net")]
    pub(super) fn look(&mut self) -> Option<&[u8]> {
        self.is_looked_at = self.is_looked_at || self.has_come();
        self.is_looked_at.then_some(&self.packet)
    }

    /// Keeps the packet that was [looked](Self::look) at from the stack.
    #[cfg(feature = "net")]
    pub(super) const fn pass_over(&mut self) {
        self.is_looked_at = false;
    }

    #[cfg(feature = "smoltcp")]
    fn has_come(&mut self) -> bool {
        let has_come = self.receive_right();
        if !has_come {
            self.left = TURN;
        }
        has_come
    }

    #[cfg(feature = "smoltcp")]
    fn receive_right(&mut self) -> bool {
        while self.left > 0 {
            let Some(received) = self.poller.receive(&mut self.packet) else {
                return false;
            };
            self.left -= 1;
            if is_right(&self.packet, &received) {
                #[cfg(feature = "net")]
                if self.limits.is_some() {
                    bound_segments(&mut self.packet, self.interface.mtu);
                }
                return true;
            }
        }
        self.poller.yield_next();
        false
    }

    /// Room for a packet, if there is some.
    #[cfg(feature = "smoltcp")]
    pub(super) fn transmit(&mut self) -> Option<Room<'_, 'g, P>> {
        let wanted_bytes = self.max_room_bytes + ANSWERS * PAGE_SIZE;
        let has_room = self.poller.has_room(wanted_bytes);
        has_room.then(|| self.tokens().1)
    }

    /// What came, and room.
    const fn tokens(&mut self) -> (Arrived<'_>, Room<'_, 'g, P>) {
        let room = Room {
            poller: &mut self.poller,
            told: self.interface,
            #[cfg(feature = "smoltcp")]
            cut: None,
            #[cfg(feature = "net")]
            limits: self.limits.as_ref(),
        };
        (Arrived(&mut self.packet), room)
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

/// Whether a backend cuts large packets of TCP.
#[cfg(feature = "smoltcp")]
const fn cuts(features: Features, protocol: Protocol) -> bool {
    let both = match protocol {
        Protocol::TcpV4 => Features::SEGMENT_V4.union(Features::CHECKSUM_V4),
        Protocol::TcpV6 => Features::SEGMENT_V6.union(Features::CHECKSUM_V6),
    };
    features.contains(both.union(Features::SCATTER))
}

/// Room for a packet.
#[derive(Debug)]
pub struct Room<'a, 'g, P: Platform> {
    poller: &'a mut Poller<'g, P>,
    /// As it was when the stack was made.
    told: Interface,
    /// What is sent is TCP, and to be cut into segments of so many bytes.
    #[cfg(feature = "smoltcp")]
    pub(super) cut: Option<NonZeroU16>,
    #[cfg(feature = "net")]
    limits: Option<&'a Limits>,
}

impl<'a, 'g, P: Platform> Room<'a, 'g, P> {
    /// Sends what `fill` writes, a packet without checksums of TCP and UDP.
    pub(super) fn send<R>(self, len_bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let now = self.poller.nic().interface().unwrap_or(self.told);
        let max_bytes = usize::from(now.mtu) + ETHERNET_BYTES;
        let is_smaller = now.mtu < self.told.mtu;
        #[cfg(feature = "smoltcp")]
        if let Some(protocol) = self.large(len_bytes) {
            let can_less = cuts(self.told.features, protocol) && !cuts(now.features, protocol);
            return match is_smaller || can_less {
                true => self.send_parts(now.features, max_bytes, len_bytes, fill),
                false => self.send_large(now.features, len_bytes, fill),
            };
        }
        if is_smaller && len_bytes > max_bytes {
            return self.send_parts(now.features, max_bytes, len_bytes, fill);
        }
        #[cfg(feature = "net")]
        let has_limits = self.limits.is_some();
        self.poller.send_with(len_bytes, |packet| {
            let value = fill(packet);
            #[cfg(feature = "net")]
            if has_limits {
                bound_wishes(packet, now.mtu);
            }
            (prepare(packet, now.features), value)
        })
    }

    /// Of which kind of TCP a packet of so many bytes is, if it may have to be cut.
    #[cfg(feature = "smoltcp")]
    const fn large(&self, len_bytes: usize) -> Option<Protocol> {
        if self.cut.is_some() {
            return Some(Protocol::TcpV4);
        }
        #[cfg(feature = "net")]
        if let Some(limits) = self.limits
            && limits.may_cut(len_bytes, self.told.mtu)
        {
            // smoltcp says nothing of those over IPv6.
            return Some(Protocol::TcpV6);
        }
        let _ = len_bytes;
        None
    }

    /// Says of a packet that is to be cut how many bytes of payload each segment has.
    #[cfg(feature = "smoltcp")]
    fn segment_bytes(&self) -> impl Fn(&[u8]) -> Option<NonZeroU16> + use<'a, 'g, P> {
        let cut = self.cut;
        #[cfg(feature = "net")]
        let (limits, mtu) = (self.limits, self.told.mtu);
        move |_packet| {
            #[cfg(feature = "net")]
            if cut.is_none() {
                return limits?.segment_bytes(_packet, mtu);
            }
            cut
        }
    }

    /// Sends a packet of TCP that the interface of before would have taken as several ones,
    /// of up to so many bytes with their headers. No other packet can be cut: it is dropped,
    /// and counted.
    fn send_parts<R>(
        self,
        features: Features,
        max_bytes: usize,
        len_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let mut packet = alloc::vec![0; len_bytes];
        let value = fill(&mut packet);
        #[cfg(feature = "net")]
        if self.limits.is_some() {
            bound_wishes(&mut packet, self.told.mtu);
        }
        #[cfg(feature = "smoltcp")]
        let segment_bytes = self.segment_bytes()(&packet);
        #[cfg(not(feature = "smoltcp"))]
        let segment_bytes: Option<NonZeroU16> = None;
        let mut send = |packet: &[u8]| {
            self.poller.send_with(packet.len(), |bytes| {
                bytes.copy_from_slice(packet);
                (prepare(bytes, features), ())
            });
        };
        let is_short = segment_bytes.is_none() && len_bytes <= max_bytes;
        match max_payload(&packet, max_bytes) {
            Some(most) if !is_short => {
                let most = segment_bytes.map_or(most, |bytes| bytes.min(most));
                segments(&packet, most).for_each(|segment| send(&segment));
            }
            _ => send(&packet),
        }
        value
    }

    /// Sends a packet that the backend cuts, if there is something to cut.
    #[cfg(feature = "smoltcp")]
    fn send_large<R>(
        self,
        features: Features,
        len_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        let segment_bytes = self.segment_bytes();
        #[cfg(feature = "net")]
        let (has_limits, mtu) = (self.limits.is_some(), self.told.mtu);
        self.poller.send_with(len_bytes, |packet| {
            let value = fill(packet);
            #[cfg(feature = "net")]
            if has_limits {
                bound_wishes(packet, mtu);
            }
            let parts = protocol(packet).zip(segment_bytes(packet));
            let offload = Offload {
                segmentation: parts.map(|(protocol, segment_bytes)| Segmentation {
                    protocol,
                    segment_bytes,
                }),
                ..prepare(packet, features)
            };
            (offload, value)
        })
    }
}
