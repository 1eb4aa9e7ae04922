//! `xen_version`.

use hypercall_abi::{Errno, features::XenFeatures, version::*};
use zerocopy::IntoBytes;

use super::{Call, read};
use crate::core::memory::GuestMemory;

/// What the mock says behind its version, as no Xen does: to a guest that sees its memory in a
/// row, and to an image with tables of its own.
const EXTRAVERSION: &str = "-mock";
const EXTRAVERSION_OF_IMAGES: &str = "-user";
const CAPABILITIES: &str = "xen-3.0-x86_64 ";
/// What an ordinary domain is told where it may not know.
const DENIED: &str = "<denied>";

/// What a guest may do with its own tables, or finds done.
const FEATURES_OF_PV: XenFeatures =
    XenFeatures::MMU_PT_UPDATE_PRESERVE_AD.union(XenFeatures::PAE_PGDIR_ABOVE_4GB);
const FEATURES_OF_PVH: XenFeatures = XenFeatures::PAE_PGDIR_ABOVE_4GB
    .union(XenFeatures::WRITABLE_PAGE_TABLES)
    .union(XenFeatures::AUTO_TRANSLATED_PHYSMAP)
    .union(XenFeatures::HVM_CALLBACK_VECTOR)
    .union(XenFeatures::HVM_SAFE_PVCLOCK);

/// A text in a field of `N` bytes.
fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    for (slot, byte) in field.iter_mut().zip(text.bytes()) {
        *slot = byte;
    }
    field
}

/// A text of any length, where the guest says how much room it has.
fn long(memory: &impl GuestMemory, arg: usize, text: &str) -> Result<usize, Errno> {
    if arg == 0 {
        return Ok(text.len());
    }
    let room: u32 = read(memory, arg)?;
    if text.len() > room as usize {
        return Err(Errno::ENOBUFS);
    }
    memory.copy_out(arg + size_of::<Varbuf>(), text.as_bytes())?;
    Ok(text.len())
}

impl Call<'_> {
    fn extraversion(&mut self) -> &'static str {
        match self.state().memory.tables {
            Some(_) => EXTRAVERSION_OF_IMAGES,
            None => EXTRAVERSION,
        }
    }

    pub(super) fn xen_version(
        &mut self,
        memory: &impl GuestMemory,
        op: usize,
        arg: usize,
    ) -> Result<usize, Errno> {
        let out = |bytes: &[u8]| memory.copy_out(arg, bytes).map(|()| 0);
        match op {
            XENVER_VERSION => Ok(self.state().profile.version()),
            XENVER_EXTRAVERSION => out(&field::<XEN_EXTRAVERSION_LEN>(self.extraversion())),
            XENVER_COMPILE_INFO => out(CompileInfo {
                compiler: field("a mock"),
                compile_by: field("nobody"),
                compile_domain: field("nowhere"),
                compile_date: field("never"),
            }
            .as_bytes()),
            XENVER_CAPABILITIES => out(&field::<XEN_CAPABILITIES_INFO_LEN>(CAPABILITIES)),
            XENVER_CHANGESET => out(&field::<XEN_CHANGESET_INFO_LEN>("none")),
            XENVER_PLATFORM_PARAMETERS => out(PlatformParameters {
                virt_start: hypercall_abi::xen::traps::HYPERVISOR_VIRT_START,
            }
            .as_bytes()),
            XENVER_GET_FEATURES => {
                let mut info: FeatureInfo = read(memory, arg)?;
                if info.submap_idx != 0 {
                    return Err(Errno::EINVAL);
                }
                info.submap = match self.state().is_pvh() {
                    true => FEATURES_OF_PVH.bits(),
                    false => FEATURES_OF_PV.bits(),
                };
                out(info.as_bytes())
            }
            XENVER_PAGESIZE => Ok(hypercall_abi::PAGE_SIZE),
            XENVER_GUEST_HANDLE => out(&[1; 16]),
            XENVER_COMMANDLINE => out(&field::<9>(DENIED)),
            XENVER_EXTRAVERSION2 | XENVER_CAPABILITIES2 | XENVER_CHANGESET2
            | XENVER_COMMANDLINE2
                if !self.state().profile.has_long_texts() =>
            {
                Err(Errno::ENOSYS)
            }
            // Only for privileged domains.
            XENVER_BUILD_ID | XENVER_COMMANDLINE2 => Err(Errno::EPERM),
            XENVER_EXTRAVERSION2 => long(memory, arg, self.extraversion()),
            XENVER_CAPABILITIES2 => long(memory, arg, CAPABILITIES),
            XENVER_CHANGESET2 => long(memory, arg, "none"),
            _ => Err(Errno::ENOSYS),
        }
    }
}
