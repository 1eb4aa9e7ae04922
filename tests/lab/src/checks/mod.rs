//! What is tried: scenarios, claims, and single checks.

pub(crate) mod builders;
pub(crate) mod ends;
pub(crate) mod flood;
pub(crate) mod foreign;
pub(crate) mod layers;
pub(crate) mod matrix;
pub(crate) mod narrow;
pub(crate) mod outward;
pub(crate) mod refused;
pub(crate) mod reset;
pub(crate) mod same;
pub(crate) mod scenario;
pub(crate) mod silence;
pub(crate) mod size;
pub(crate) mod start_cost;
pub(crate) mod surroundings;
pub(crate) mod tools;
pub(crate) mod waiting;
pub(crate) mod words;
pub(crate) mod xtf;
