//! A port that the toolstack bound before the guest started.

use hypercall_abi::{
    Errno, Port, event_channel, peer::PeerPtr, peer_field, platform::Hypercall, xen::SharedInfo,
};

/// Bits in a word of the pending and mask arrays.
const WORD_BITS: u32 = u64::BITS;

/// A channel that is bound already, and stays so.
///
/// Its pending bit lives in the shared page (the 2-level interface). A guest
/// that has no shared page yet can send, but neither see nor clear the bit.
#[derive(Clone, Copy, Debug)]
pub struct PortRef {
    port: Port,
    shared: Option<PeerPtr<'static, SharedInfo>>,
}

impl PortRef {
    /// The channel at `port`.
    pub const fn new(port: Port, shared: Option<PeerPtr<'static, SharedInfo>>) -> Self {
        Self { port, shared }
    }

    /// The port's number.
    pub const fn port(&self) -> Port {
        self.port
    }

    fn mask_word(&self) -> Option<PeerPtr<'static, u64>> {
        let mask = peer_field!(self.shared?, SharedInfo, evtchn_mask);
        mask.get((self.port.0 / WORD_BITS) as usize)
    }

    /// No upcalls for this port.
    pub(crate) fn mask(&self) {
        if let Some(word) = self.mask_word() {
            let _before = word.fetch_or(self.bit());
        }
    }

    /// Upcalls for the events to come; one that is pending is not told again.
    pub(crate) fn unmask_locally(&self) {
        if let Some(word) = self.mask_word() {
            let _before = word.fetch_and(!self.bit());
        }
    }

    fn word(&self) -> Option<PeerPtr<'static, u64>> {
        let pending = peer_field!(self.shared?, SharedInfo, evtchn_pending);
        pending.get((self.port.0 / WORD_BITS) as usize)
    }

    const fn bit(&self) -> u64 {
        1 << (self.port.0 % WORD_BITS)
    }

    /// Tells the other end that something happened.
    ///
    /// A channel that is gone has nobody to tell, so there is no error.
    pub fn notify(&self, hypercall: &impl Hypercall) {
        let _gone: Result<(), Errno> = event_channel::send(hypercall, self.port);
    }

    /// Whether the other end told us something that was not yet cleared.
    pub fn is_pending(&self) -> bool {
        self.word()
            .is_some_and(|word| word.load_acquire().trust() & self.bit() != 0)
    }

    /// Clears the pending bit, and says whether it was set. Look at what the
    /// peer shares only after this, or its next event may go unseen.
    pub fn clear_pending(&self) -> bool {
        self.word()
            .is_some_and(|word| word.fetch_and(!self.bit()).trust() & self.bit() != 0)
    }
}
