//! What runs domains: one lock, threads for vCPUs, sleep, turns, what goes wrong by plan, and
//! suspends.

pub(crate) mod dispatch;
pub(crate) mod domain;
pub(crate) mod host;
mod mishaps;
pub(crate) mod plan;
pub(crate) mod play;
pub(crate) mod seeds;
pub(crate) mod sleep;
pub(crate) mod suspend;
mod turns;
pub(crate) mod vcpus;
pub(crate) mod world;
