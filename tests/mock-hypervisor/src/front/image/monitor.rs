//! What all vCPUs have in common: the domain that they are, and what they see of it.

use std::{path::PathBuf, sync::Arc};

use hypercall_abi::{
    Errno, VcpuId,
    arch_x86::leaves::{XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX},
    peer::PeerPtr,
    xen::VcpuInfo,
};

use super::{
    clock::Clock,
    coverage::Coverage,
    space::Space,
    trace::Trace,
    vcpu::{Cpu, Thread},
};
use crate::{
    core::{
        memory::{GuestMemory, view::View},
        processor::Processor,
        profile::Profile,
    },
    engine::domain::Domain,
};

/// The first of Xen's leaves, and how many there are for a PV guest.
const XENS_LEAVES: u32 = 0x4000_0000;
const LAST_LEAF: u32 = 5;
/// The bits of a machine address.
const MACHINE_ADDRESS_BITS: u32 = 48;
/// Bits of leaf 1: there is a hypervisor; and what a PV guest's kernel has no use for.
const HYPERVISOR: u32 = 1 << 31;
/// x2APIC, a deadline for its timer, virtualization.
const HIDDEN_ECX: u32 = 1 << 21 | 1 << 24 | 1 << 5;
/// Large pages, debugging extensions, machine checks, global pages, range registers.
const HIDDEN_EDX: u32 = 1 << 2 | 1 << 3 | 1 << 12 | 1 << 13 | 1 << 17;

/// All of it: there for as long as the process.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) domain: &'static Domain,
    pub(super) view: Arc<View>,
    pub(super) space: Space,
    pub(super) clock: Clock,
    pub(super) trace: Trace,
    /// The kernel's file, for the names in it.
    pub(super) kernel: PathBuf,
    pub(super) is_debugged: bool,
    /// Time is virtual, and nothing comes by itself.
    pub(super) is_virtual: bool,
    pub(super) coverage: Option<Coverage>,
    pub(super) threads: &'static [Thread],
}

impl Monitor {
    /// Reads memory by the guest's tables.
    pub(super) fn read(&self, address: u64, target: &mut [u8]) -> Result<(), Errno> {
        self.view.copy_in(address as usize, target)
    }

    /// Writes memory by the guest's tables.
    pub(super) fn write(&self, address: u64, source: &[u8]) -> Result<(), Errno> {
        self.view.copy_out(address as usize, source)
    }

    /// What a vCPU is told of its processor.
    pub(super) fn cpuid(&self, vcpu: VcpuId, leaf: u32, part: u32) -> [u32; 4] {
        if (XENS_LEAVES..XENS_LEAVES + 0x100).contains(&leaf) {
            return self.xens_leaf(vcpu, leaf - XENS_LEAVES, part);
        }
        let told = core::arch::x86_64::__cpuid_count(leaf, part);
        let mut told = [told.eax, told.ebx, told.ecx, told.edx];
        if leaf == 1 {
            told[2] = (told[2] | HYPERVISOR) & !HIDDEN_ECX;
            told[3] &= !HIDDEN_EDX;
        }
        told
    }

    fn xens_leaf(&self, vcpu: VcpuId, leaf: u32, part: u32) -> [u32; 4] {
        match (leaf, part) {
            (0, _) => [
                XENS_LEAVES + LAST_LEAF,
                XEN_CPUID_SIGNATURE_EBX,
                XEN_CPUID_SIGNATURE_ECX,
                XEN_CPUID_SIGNATURE_EDX,
            ],
            (1, _) => [Profile::default().version() as u32, 0, 0, 0],
            // One hypercall page, by a register of the model; its updates keep the
            // accessed and dirty bits.
            (2, _) => [1, XENS_LEAVES, 1, 0],
            (3, 0) => {
                // The time stamp counter is the host's.
                const HOST_IS_SAFE: u32 = 1 << 1;
                [HOST_IS_SAFE, 0, self.clock.khz(), 0]
            }
            (3, 1) => {
                let scale = self.clock.scale();
                [0, 0, scale.factor, scale.shift as u32]
            }
            (4, _) => {
                let _hvm_only = vcpu;
                [0; 4]
            }
            (5, 0) => [0, MACHINE_ADDRESS_BITS, 0, 0],
            _ => [0; 4],
        }
    }
}

impl Cpu {
    /// Where Xen keeps this vCPU's words.
    pub(super) fn info(&self) -> Option<PeerPtr<'static, VcpuInfo>> {
        self.monitor.domain.lock().ports.vcpu_info(self.id)
    }

    /// What the guest set of this vCPU.
    pub(super) fn with_processor<T: Default>(&self, visit: impl FnOnce(&mut Processor) -> T) -> T {
        let mut state = self.monitor.domain.lock();
        let vcpu = state.vcpus.get_mut(self.id.0 as usize);
        vcpu.map_or_else(T::default, |vcpu| visit(&mut vcpu.processor))
    }
}
