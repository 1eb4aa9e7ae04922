//! What others' crates ask of a platform, each behind a feature.

#[cfg(feature = "critical-section")]
mod critical_section;
#[cfg(feature = "embassy")]
pub mod embassy;
