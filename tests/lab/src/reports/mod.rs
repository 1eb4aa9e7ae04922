//! Comparisons and figures: headers, benchmarks, claims, planted bugs, fuzzing, Miri.

pub(crate) mod abi;
pub(crate) mod bench;
pub(crate) mod claims;
pub(crate) mod fuzz;
pub(crate) mod miri;
pub(crate) mod mutants;
