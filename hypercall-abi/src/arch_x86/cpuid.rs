//! Who is below us, by CPUID.
//!
//! Hypervisors answer in leaves from 0x4000_0000, each in a block of 0x100;
//! Xen with Viridian shows itself in the second. A PV guest's plain `cpuid`
//! may reach the processor itself, so Xen has a prefix that makes it trap:
//! [`Reader::Forced`].

use core::arch::asm;

use super::leaves::{HvmFeatures, TscFlags, XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK, XenFeat1};
use crate::{DomId, VcpuId, version::Version};

pub use super::leaves::XEN_CPUID_FIRST_LEAF as FIRST_LEAF;

/// How to execute `cpuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The plain instruction.
    Plain,
    /// With Xen's forced emulation prefix: for PV guests only, an invalid
    /// instruction anywhere else.
    Forced,
}

/// The four registers of a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// `eax`.
    pub eax: u32,
    /// `ebx`.
    pub ebx: u32,
    /// `ecx`.
    pub ecx: u32,
    /// `edx`.
    pub edx: u32,
}

/// Proof that `cpuid` may be executed in a chosen way.
#[derive(Clone, Copy, Debug)]
pub struct Cpuid(Reader);

impl Cpuid {
    /// The plain instruction, which every x86-64 processor has.
    pub const PLAIN: Self = Self(Reader::Plain);

    /// The prefixed instruction.
    ///
    /// # Safety
    /// This code runs as a PV guest of Xen.
    pub const unsafe fn forced() -> Self {
        Self(Reader::Forced)
    }

    /// Reads a leaf.
    pub fn leaf(self, leaf: u32, subleaf: u32) -> Leaf {
        let (eax, ebx, ecx, edx);
        match self.0 {
            // SAFETY: cpuid changes these registers only; rbx is saved because
            // the compiler keeps it.
            Reader::Plain => unsafe {
                asm!(
                    "mov {saved}, rbx", "cpuid", "xchg {saved}, rbx",
                    saved = out(reg) ebx,
                    inlateout("eax") leaf => eax, inlateout("ecx") subleaf => ecx,
                    lateout("edx") edx,
                    options(nomem, nostack, preserves_flags),
                );
            },
            // SAFETY: as above; Xen emulates the prefixed instruction
            // (`Cpuid::forced`).
            Reader::Forced => unsafe {
                asm!(
                    "mov {saved}, rbx", "ud2", ".ascii \"xen\"", "cpuid", "xchg {saved}, rbx",
                    saved = out(reg) ebx,
                    inlateout("eax") leaf => eax, inlateout("ecx") subleaf => ecx,
                    lateout("edx") edx,
                    options(nomem, nostack, preserves_flags),
                );
            },
        }
        let ebx: u64 = ebx;
        Leaf {
            eax,
            ebx: ebx as u32,
            ecx,
            edx,
        }
    }

    /// The hypervisors that show themselves, with the first leaf of each. There
    /// may be several: Xen with Hyper-V's interface shows two.
    ///
    /// Their signatures say so, not the bit for them in leaf 1: a configuration
    /// may hide that (`cpuid="host,hypervisor=0"`). A processor without one answers
    /// with what is no signature.
    pub fn hypervisors(self) -> impl Iterator<Item = (Hypervisor, u32)> {
        hypervisors(move |leaf| self.leaf(leaf, 0))
    }

    /// What Xen says about itself and this guest, if Xen is there.
    pub fn xen(self) -> Option<XenLeaves> {
        let base = self.xen_base()?;
        Some(XenLeaves::read(base, |leaf, subleaf| {
            self.leaf(leaf, subleaf)
        }))
    }

    /// The first leaf of Xen's block, if Xen is there.
    pub fn xen_base(self) -> Option<u32> {
        self.hypervisors()
            .find(|(hypervisor, _)| *hypervisor == Hypervisor::Xen)
            .map(|(_, base)| base)
    }

    /// Who made the processor.
    pub fn vendor(self) -> [u8; 12] {
        let leaf = self.leaf(0, 0);
        signature(leaf.ebx, leaf.edx, leaf.ecx)
    }
}

/// Blocks to look at.
const BLOCKS: u32 = 0x100;

fn hypervisors(leaf: impl Fn(u32) -> Leaf) -> impl Iterator<Item = (Hypervisor, u32)> {
    (0..BLOCKS).filter_map(move |block| {
        let base = FIRST_LEAF + block * 0x100;
        Hypervisor::from_signature(leaf(base)).map(|hypervisor| (hypervisor, base))
    })
}

/// What Xen's leaves say: `xen/include/public/arch-x86/cpuid.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XenLeaves {
    /// Xen's version.
    pub version: Version,
    /// The first word of features.
    pub features: XenFeat1,
    /// How the time stamp counter is shown.
    pub tsc: TscFlags,
    /// What was asked for: `XEN_CPUID_TSC_MODE_*`.
    pub tsc_mode: u32,
    /// The guest's counter, in kHz.
    pub tsc_khz: u32,
    /// What is added to the host's counter.
    pub tsc_offset: u64,
    /// Features of HVM and PVH guests.
    pub hvm: HvmFeatures,
    /// The vCPU that asked, where it is told.
    pub vcpu: Option<VcpuId>,
    /// This domain, where it is told.
    pub domid: Option<DomId>,
    /// Bits of a machine address (PV guests); zero: not told.
    pub machine_address_bits: u32,
}

impl XenLeaves {
    /// Reads them from the block that starts at `base`.
    fn read(base: u32, leaf: impl Fn(u32, u32) -> Leaf) -> Self {
        let last = leaf(base, 0).eax;
        // A leaf behind the last is another's.
        let leaf = |number: u32, subleaf| {
            if base + number <= last {
                leaf(base + number, subleaf)
            } else {
                Leaf::default()
            }
        };
        let version = leaf(1, 0).eax;
        let tsc = leaf(3, 0);
        let offset = leaf(3, 1);
        let hvm = leaf(4, 0);
        let features = HvmFeatures::from_bits_retain(hvm.eax);
        Self {
            version: Version {
                major: (version >> 16) as u16,
                minor: version as u16,
            },
            features: XenFeat1::from_bits_retain(leaf(2, 0).ecx),
            tsc: TscFlags::from_bits_retain(tsc.eax),
            tsc_mode: tsc.ebx,
            tsc_khz: tsc.ecx,
            tsc_offset: (u64::from(offset.ebx) << 32) | u64::from(offset.eax),
            hvm: features,
            vcpu: features
                .contains(HvmFeatures::VCPU_ID_PRESENT)
                .then_some(VcpuId(hvm.ebx)),
            domid: features
                .contains(HvmFeatures::DOMID_PRESENT)
                .then_some(DomId(hvm.ecx as u16)),
            machine_address_bits: leaf(5, 0).ebx & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK,
        }
    }
}

fn signature(a: u32, b: u32, c: u32) -> [u8; 12] {
    let mut text = [0; 12];
    for (chunk, word) in text.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c]) {
        *chunk = word.to_le_bytes();
    }
    text
}

/// A hypervisor, by its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hypervisor {
    /// Xen.
    Xen,
    /// Linux KVM.
    Kvm,
    /// Microsoft Hyper-V, or one that speaks like it.
    HyperV,
    /// VMware.
    Vmware,
    /// bhyve.
    Bhyve,
    /// QEMU's own emulation.
    Tcg,
}

/// What the first leaf of a hypervisor's block says.
const SIGNATURES: [(&[u8; 12], Hypervisor); 6] = [
    (b"XenVMMXenVMM", Hypervisor::Xen),
    (b"KVMKVMKVM\0\0\0", Hypervisor::Kvm),
    (b"Microsoft Hv", Hypervisor::HyperV),
    (b"VMwareVMware", Hypervisor::Vmware),
    (b"bhyve bhyve ", Hypervisor::Bhyve),
    (b"TCGTCGTCGTCG", Hypervisor::Tcg),
];

impl Hypervisor {
    fn from_signature(leaf: Leaf) -> Option<Self> {
        let text = signature(leaf.ebx, leaf.ecx, leaf.edx);
        SIGNATURES
            .iter()
            .find(|(signature, _)| **signature == text)
            .map(|(_, hypervisor)| *hypervisor)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xen => "Xen",
            Self::Kvm => "KVM",
            Self::HyperV => "Hyper-V",
            Self::Vmware => "VMware",
            Self::Bhyve => "bhyve",
            Self::Tcg => "QEMU TCG",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_known() {
        let leaf = |text: &[u8; 12]| {
            let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap());
            Leaf {
                eax: 0x4000_0010,
                ebx: word(0),
                ecx: word(4),
                edx: word(8),
            }
        };
        assert_eq!(
            Hypervisor::from_signature(leaf(b"XenVMMXenVMM")),
            Some(Hypervisor::Xen)
        );
        assert_eq!(
            Hypervisor::from_signature(leaf(b"KVMKVMKVM\0\0\0")),
            Some(Hypervisor::Kvm)
        );
        assert_eq!(Hypervisor::from_signature(Leaf::default()), None);
    }

    /// The words of a signature.
    fn says(text: &[u8; 12], last: u32) -> Leaf {
        let word = |at: usize| u32::from_le_bytes(text[at..at + 4].try_into().unwrap());
        Leaf {
            eax: last,
            ebx: word(0),
            ecx: word(4),
            edx: word(8),
        }
    }

    #[test]
    fn several_hypervisors_are_found_at_once() {
        extern crate std;
        let leaf = |leaf| match leaf {
            0x4000_0000 => says(b"Microsoft Hv", 0x4000_000c),
            0x4000_0100 => says(b"XenVMMXenVMM", 0x4000_0105),
            0x4000_ff00 => says(b"KVMKVMKVM\0\0\0", 0),
            // The bit for hypervisors is in leaf 1, and may be hidden.
            other if other >= 0x4000_0000 => Leaf::default(),
            _ => panic!("leaf {leaf:#x} is not theirs"),
        };
        let found: std::vec::Vec<_> = hypervisors(leaf).collect();
        assert_eq!(
            found,
            [
                (Hypervisor::HyperV, 0x4000_0000),
                (Hypervisor::Xen, 0x4000_0100),
                (Hypervisor::Kvm, 0x4000_ff00)
            ]
        );
        assert_eq!(hypervisors(|_| Leaf::default()).count(), 0);
        // Intel's processors answer with their last leaf.
        let other = Leaf {
            eax: 7,
            ebx: u32::MAX,
            ecx: 100,
            edx: 0,
        };
        assert_eq!(hypervisors(|_| other).count(), 0);
    }

    #[test]
    fn xens_leaves_are_read_as_far_as_they_go() {
        let leaf = |last: u32| {
            move |leaf: u32, subleaf: u32| match (leaf, subleaf) {
                (0x4000_0100, _) => says(b"XenVMMXenVMM", last),
                (0x4000_0101, _) => Leaf {
                    eax: 4 << 16 | 20,
                    ..Leaf::default()
                },
                (0x4000_0103, 0) => Leaf {
                    eax: 2,
                    ebx: 2,
                    ecx: 2_000_000,
                    edx: 1,
                },
                (0x4000_0103, 1) => Leaf {
                    eax: 1,
                    ebx: 2,
                    ..Leaf::default()
                },
                (0x4000_0104, _) => Leaf {
                    eax: 0x18,
                    ebx: 3,
                    ecx: 7,
                    edx: 0,
                },
                (0x4000_0105, _) => Leaf {
                    ebx: 0xff30,
                    ..Leaf::default()
                },
                _ => panic!("no such leaf"),
            }
        };
        // Version 4.20 has leaf 2 as well.
        let with_2 = |last| {
            let leaf = leaf(last);
            XenLeaves::read(0x4000_0100, move |number, subleaf| {
                if number == 0x4000_0102 {
                    Leaf::default()
                } else {
                    leaf(number, subleaf)
                }
            })
        };
        let all = with_2(0x4000_0105);
        assert_eq!(
            all.version,
            Version {
                major: 4,
                minor: 20
            }
        );
        assert_eq!((all.vcpu, all.domid), (Some(VcpuId(3)), Some(DomId(7))));
        assert_eq!((all.tsc_khz, all.tsc_offset), (2_000_000, (2 << 32) | 1));
        assert_eq!(all.machine_address_bits, 0x30);
        let few = with_2(0x4000_0103);
        assert_eq!((few.vcpu, few.domid), (None, None));
        assert_eq!(few.machine_address_bits, 0);
    }
}
