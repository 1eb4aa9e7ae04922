//! The machine in QEMU that Xen runs on, its initial domain, and what is in it.

pub(crate) mod cpio;
pub(crate) mod dom0;
pub(crate) mod job_disk;
pub(crate) mod linux;
pub(crate) mod machine;
pub(crate) mod nginx;
pub(crate) mod qmp;
pub(crate) mod relay;
pub(crate) mod scene;
