//! The processor and the machine, whatever hypervisor there is.

#[cfg(target_os = "none")]
pub(crate) mod apic;
#[cfg(target_os = "none")]
pub(crate) mod image;
#[cfg(target_os = "none")]
pub(crate) mod interrupts;
#[cfg(target_os = "none")]
pub(crate) mod machine;
#[cfg(any(test, target_os = "none"))]
pub(crate) mod page_tables;
#[cfg(target_os = "none")]
pub(crate) mod serial;
#[cfg(target_os = "none")]
pub(crate) mod traps;
#[cfg(target_os = "none")]
pub(crate) mod tsc;
