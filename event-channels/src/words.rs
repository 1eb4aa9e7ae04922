//! Pending and mask bits, by either interface.

use hypercall_abi::{Port, peer::PeerPtr, peer_field, xen::SharedInfo};

use crate::{fifo::Fifo, word};

/// Where the bits of all ports are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Words<'a> {
    TwoLevel(PeerPtr<'static, SharedInfo>),
    Fifo(&'a Fifo),
}

/// Bits in a word of the 2-level arrays.
const WORD_BITS: u32 = u64::BITS;

const fn bit(port: Port) -> u64 {
    1 << (port.0 % WORD_BITS)
}

fn pending(shared: PeerPtr<'static, SharedInfo>, port: Port) -> Option<PeerPtr<'static, u64>> {
    let words = peer_field!(shared, SharedInfo, evtchn_pending);
    words.get((port.0 / WORD_BITS) as usize)
}

fn mask(shared: PeerPtr<'static, SharedInfo>, port: Port) -> Option<PeerPtr<'static, u64>> {
    let words = peer_field!(shared, SharedInfo, evtchn_mask);
    words.get((port.0 / WORD_BITS) as usize)
}

impl Words<'_> {
    pub(crate) fn is_pending(self, port: Port) -> bool {
        match self {
            Self::TwoLevel(shared) => pending(shared, port)
                .is_some_and(|word| word.load_acquire().trust() & bit(port) != 0),
            Self::Fifo(fifo) => fifo
                .word(port)
                .is_some_and(|word| word.load_acquire().trust() & word::PENDING != 0),
        }
    }

    pub(crate) fn is_masked(self, port: Port) -> bool {
        match self {
            Self::TwoLevel(shared) => {
                mask(shared, port).is_some_and(|word| word.load_acquire().trust() & bit(port) != 0)
            }
            Self::Fifo(fifo) => fifo
                .word(port)
                .is_some_and(|word| word.load_acquire().trust() & word::MASKED != 0),
        }
    }

    /// Clears the pending bit, and says whether it was set.
    pub(crate) fn clear_pending(self, port: Port) -> bool {
        match self {
            Self::TwoLevel(shared) => pending(shared, port)
                .is_some_and(|word| word.fetch_and(!bit(port)).trust() & bit(port) != 0),
            Self::Fifo(fifo) => fifo
                .word(port)
                .is_some_and(|word| word::clear_pending(&word)),
        }
    }

    /// Sets the mask, and says whether it was there.
    pub(crate) fn mask(self, port: Port) -> bool {
        match self {
            Self::TwoLevel(shared) => mask(shared, port)
                .is_none_or(|word| word.fetch_or(bit(port)).trust() & bit(port) != 0),
            Self::Fifo(fifo) => fifo.word(port).is_none_or(|word| word::mask(&word)),
        }
    }

    /// Takes the mask away without Xen's help, if that will do: where something
    /// is pending, Xen must raise the upcall that the mask held back.
    #[must_use]
    pub(crate) fn unmask_if_quiet(self, port: Port) -> bool {
        match self {
            Self::TwoLevel(shared) => match (pending(shared, port), mask(shared, port)) {
                (Some(pending), Some(mask)) => {
                    word::unmask_bit_if_quiet(&pending, &mask, bit(port))
                }
                _ => false,
            },
            Self::Fifo(fifo) => fifo
                .word(port)
                .is_some_and(|word| word::unmask_if_quiet(&word)),
        }
    }
}
