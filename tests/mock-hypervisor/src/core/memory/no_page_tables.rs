//! Without the feature `user`, no guest runs as an image: all see their memory in a
//! row.

use std::convert::Infallible;

use hypercall_abi::{Errno, Gfn};

use super::{Access, Memory, frame_types::Change};

/// A page of another domain's.
pub(crate) type Foreign = Infallible;

/// There are none.
#[derive(Debug)]
pub(crate) struct Tables(Infallible);

impl Tables {
    pub(crate) fn hang(&mut self, _: usize, _: usize, _: usize) {
        match self.0 {}
    }

    pub(crate) fn unhang(&mut self, _: usize, _: usize, _: usize) {
        match self.0 {}
    }

    pub(crate) fn changed(&mut self, _: usize, _: u8, _: usize) {
        match self.0 {}
    }
}

impl Memory {
    pub(crate) fn is_xens(&self, _: Gfn) -> bool {
        false
    }

    pub(crate) fn place_of(&self, _: u64) -> Option<(usize, usize)> {
        None
    }

    pub(crate) fn place_of_word(&self, _: u64) -> Option<(usize, usize)> {
        None
    }

    pub(crate) fn machine_to_physical(&self) -> Option<(u64, u64)> {
        None
    }

    pub(crate) fn tell_machine(&self, _: Gfn, _: u64) {}

    pub(crate) fn foreign(&self, _: Gfn) -> Option<Foreign> {
        None
    }

    pub(crate) fn map_granted(
        &mut self,
        _: (usize, usize),
        _: Gfn,
        foreign: Option<Foreign>,
        _: Access,
    ) -> Result<(), Errno> {
        foreign.map_or(Err(Errno::EINVAL), |foreign| match foreign {})
    }

    pub(crate) fn unmap_granted(
        &mut self,
        _: (usize, usize),
        _: Gfn,
        _: Access,
        _: Option<(usize, usize)>,
    ) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    pub(crate) fn take_entry_away(&mut self, _: (usize, usize)) {}

    pub(crate) fn maps_xens(&self, _: std::ops::Range<usize>) -> bool {
        false
    }

    pub(crate) fn count_xens(&mut self, _: Gfn, _: Change) {}

    pub(crate) fn switch_to(&mut self, _: usize) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    pub(crate) fn set_user_root(&mut self, _: Option<usize>) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}
