//! What is x86's own: `xen/include/public/arch-x86/`.

pub mod cpuid;
pub mod leaves;
