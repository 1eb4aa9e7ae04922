//! How a guest is run on each platform, and what came of it.

pub(crate) mod crash;
pub(crate) mod interrupted;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod xen;
