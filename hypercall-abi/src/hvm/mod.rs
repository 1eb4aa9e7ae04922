//! What concerns HVM and PVH guests: `xen/include/public/hvm/`.

mod params;
mod start_info;

pub use params::{HVMOP_GET_PARAM, HVMOP_SET_PARAM, HvmParam, XenHvmParam, get_param, set_param};
pub use start_info::{
    HvmMemmapTableEntry, HvmModlistEntry, HvmStartInfo, XEN_HVM_MEMMAP_TYPE_ACPI,
    XEN_HVM_MEMMAP_TYPE_DISABLED, XEN_HVM_MEMMAP_TYPE_NVS, XEN_HVM_MEMMAP_TYPE_PMEM,
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED, XEN_HVM_MEMMAP_TYPE_UNUSABLE,
    XEN_HVM_START_MAGIC_VALUE,
};
