#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(
    not(feature = "all-devices"),
    expect(
        rustdoc::broken_intra_doc_links,
        reason = "the documentation is that of all features"
    )
)]

#[cfg(target_arch = "x86_64")]
pub mod arch_x86;
pub mod argo;
mod call;
pub mod callback;
pub mod elfnote;
mod errno;
pub mod event_channel;
#[doc(hidden)]
pub mod facts;
pub mod features;
pub mod grant_table;
pub mod hvm;
mod ids;
#[doc = include_str!("../INDEX.md")]
pub mod index {}
pub mod io;
pub mod memory;
pub mod nmi;
mod number;
pub mod peer;
pub mod physdev;
pub mod platform;
pub mod pmu;
pub mod probe;
pub mod sched;
#[cfg(target_arch = "x86_64")]
pub mod trap;
pub mod vcpu;
pub mod version;
pub mod xen;

pub use errno::Errno;
pub use ids::{DomId, Gfn, GrantRef, Mfn, PAGE_SHIFT, PAGE_SIZE, Pfn, Port, VcpuId};
pub use number::HypercallNr;
