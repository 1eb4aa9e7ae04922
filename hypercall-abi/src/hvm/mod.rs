//! What concerns HVM and PVH guests: `xen/include/public/hvm/`.
//!
//! [`HvmStartInfo`] is what a PVH guest finds when it starts; [`HvmParam`]s say
//! where its rings are and how upcalls reach it; the other calls of
//! `hvm_op` are functions here. Another vCPU starts from a
//! [`VcpuHvmContext`].

mod calls;
pub(crate) mod info;
pub(crate) mod op;
pub(crate) mod params;
pub(crate) mod start_info;
pub(crate) mod vcpu;
pub mod xs_strings;

pub use calls::*;
pub use info::*;
pub use op::*;
pub use params::*;
pub use start_info::*;
pub use vcpu::*;
