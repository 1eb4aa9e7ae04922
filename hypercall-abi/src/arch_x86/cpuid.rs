//! Who is below us, by CPUID.
//!
//! Hypervisors answer in leaves from 0x4000_0000, each in a block of 0x100;
//! Xen with Viridian shows itself in the second. A PV guest's plain `cpuid`
//! may reach the processor itself, so Xen has a prefix that makes it trap:
//! [`Reader::Forced`].

use core::arch::asm;

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

    /// The hypervisors that show themselves, with the first leaf of each.
    pub fn hypervisors(self) -> impl Iterator<Item = (Hypervisor, u32)> {
        let present = self.leaf(1, 0).ecx & (1 << 31) != 0 || self.0 == Reader::Forced;
        (0..if present { BLOCKS } else { 0 }).filter_map(move |block| {
            let base = FIRST_LEAF + block * 0x100;
            let leaf = self.leaf(base, 0);
            Hypervisor::from_signature(leaf).map(|hypervisor| (hypervisor, base))
        })
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
}
