//! A port that the toolstack bound before the guest started.

use hypercall_abi::{
    Errno, Port, event_channel, peer::PeerPtr, platform::Hypercall, xen::SharedInfo,
};

use crate::words::Words;

/// A channel that is bound already, and stays so, for whoever needs no more
/// than to send, to see its pending bit and to clear it.
///
/// A guest that has no shared page yet can send only.
#[derive(Clone, Copy, Debug)]
pub struct PortRef {
    port: Port,
    words: Option<Words<'static>>,
}

impl PortRef {
    /// The channel at `port`, in a guest that uses the 2-level interface (as
    /// every guest does until [`Ports`](crate::Ports) chooses another).
    pub const fn new(port: Port, shared: Option<PeerPtr<'static, SharedInfo>>) -> Self {
        let words = match shared {
            Some(shared) => Some(Words::TwoLevel(shared)),
            None => None,
        };
        Self { port, words }
    }

    pub(crate) const fn with_words(port: Port, words: Words<'static>) -> Self {
        Self {
            port,
            words: Some(words),
        }
    }

    /// The port's number.
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Tells the other end that something happened.
    ///
    /// A channel that is gone has nobody to tell, so there is no error.
    pub fn notify(&self, hypercall: &impl Hypercall) {
        let _gone: Result<(), Errno> = event_channel::send(hypercall, self.port);
    }

    /// Whether the other end told us something that was not yet cleared.
    pub fn is_pending(&self) -> bool {
        self.words.is_some_and(|words| words.is_pending(self.port))
    }

    /// Clears the pending bit, and says whether it was set. Look at what the
    /// peer shares only after this, or its next event may go unseen.
    pub fn clear_pending(&self) -> bool {
        self.words
            .is_some_and(|words| words.clear_pending(self.port))
    }
}
