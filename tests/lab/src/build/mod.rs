//! Guests, packages and disks: built, fetched and kept.

pub(crate) mod disk;
pub(crate) mod guest;
pub(crate) mod packages;
pub(crate) mod spoil;
