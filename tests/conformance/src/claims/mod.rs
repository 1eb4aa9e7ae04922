//! The claims, by the part of the interface that they are about.

mod advisories;
mod boot;
mod clocks;
mod console;
mod debug_registers;
mod discovery;
mod events;
mod gates;
mod grant_maps;
mod grants;
mod iret;
mod memory;
mod pagetables;
mod ports;
mod power;
mod processor;
mod store;
mod store_rights;
mod tasks;
mod traps;
mod upcalls;
mod user_mode;
mod vcpus;

use crate::claim::Group;
pub(crate) use power::suspend;

/// All of them, in the order in which they are tried.
pub(crate) const ALL: &[Group] = &[
    boot::GROUP,
    // Before anything else sets them.
    debug_registers::GROUP,
    discovery::GROUP,
    memory::GROUP,
    pagetables::GROUP,
    traps::GROUP,
    processor::GROUP,
    user_mode::GROUP,
    gates::GROUP,
    iret::GROUP,
    vcpus::GROUP,
    clocks::GROUP,
    ports::GROUP,
    events::GROUP,
    upcalls::GROUP,
    grants::GROUP,
    grant_maps::GROUP,
    store::GROUP,
    store_rights::GROUP,
    console::GROUP,
    tasks::GROUP,
    power::GROUP,
    advisories::GROUP,
];
