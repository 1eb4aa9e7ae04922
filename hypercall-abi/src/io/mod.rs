//! The rings and pages of paravirtual devices: `xen/include/public/io/`.

pub mod console;
