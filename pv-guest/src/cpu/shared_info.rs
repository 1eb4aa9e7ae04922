//! The page that Xen shares with this guest, and a vCPU's words in it.

use hypercall_abi::{
    VcpuId,
    peer::PeerPtr,
    peer_field,
    xen::{ArchVcpuInfo, SharedInfo, VcpuInfo},
};

use super::set_once::SetOnce;

/// The shared page, once it is mapped.
static SHARED_INFO: SetOnce<PeerPtr<'static, SharedInfo>> = SetOnce::new();

/// Tells where the shared page is.
pub(crate) fn set(page: PeerPtr<'static, SharedInfo>) {
    SHARED_INFO.set(page);
}

/// The shared page, once it is mapped.
pub(crate) fn get() -> Option<PeerPtr<'static, SharedInfo>> {
    SHARED_INFO.get()
}

/// Where Xen keeps a vCPU's words, once they are there.
pub(crate) fn vcpu_info(vcpu: VcpuId) -> Option<PeerPtr<'static, VcpuInfo>> {
    peer_field!(get()?, SharedInfo, vcpu_info).get(vcpu.0 as usize)
}

/// The address of the last page fault of a PV guest.
pub(crate) fn pv_cr2() -> u64 {
    vcpu_info(VcpuId(0)).map_or(0, |vcpu| {
        let arch = peer_field!(vcpu, VcpuInfo, arch);
        peer_field!(arch, ArchVcpuInfo, cr2).load().trust()
    })
}
