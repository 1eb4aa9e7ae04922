//! What runs all tests, and the long ones.

pub(crate) mod nightly;
pub(crate) mod test;
