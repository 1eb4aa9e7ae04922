//! How events reach a guest.

/// How a PVH guest is to be told of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// By the callback vector, which every Xen since 4.0 has: the processor wants no
    /// end of such an interrupt, and each would be a way to the hypervisor.
    #[default]
    Best,
    /// By the local APIC, vCPU by vCPU, where that can be had; otherwise as above.
    LocalApic,
}
