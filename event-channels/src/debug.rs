//! The whole table, for the debugging eye.

use hypercall_abi::{
    Port,
    platform::{Hypercall, Pages},
};

use crate::{Ports, slots::Slot, words::Words};

struct Line<'a> {
    port: Port,
    slot: &'a Slot,
    words: Words<'a>,
}

impl core::fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {} events", self.port, self.slot.events())?;
        for (holds, what) in [
            (self.words.is_pending(self.port), "pending"),
            (self.words.is_masked(self.port), "masked"),
            (self.slot.has_fired(), "told"),
            (self.slot.is_throttled(), "held back"),
        ] {
            if holds {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

impl<P: Hypercall + Pages> core::fmt::Debug for Ports<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Ports ({:?}, {} spurious) ",
            self.interface(),
            self.spurious()
        )?;
        let open = self.slots.iter().filter(|(_, slot)| slot.is_open());
        f.debug_list()
            .entries(open.map(|(port, slot)| Line {
                port,
                slot,
                words: self.words(),
            }))
            .finish()
    }
}
