//! Programs of this machine that use a guest's servers.

pub(crate) mod clients;
pub(crate) mod crowd;
pub(crate) mod visitor;
