//! Output while there is no console: wherever there is a way.

use hypercall_abi::xen::console_io;

use super::Native;
use crate::{arch::serial, boot_info::GuestType, cpu::guest_type::guest_type};

/// I/O port 0xE9: bytes that an HVM guest writes there go to Xen's log.
const XEN_LOG_PORT: u16 = 0xe9;

/// Writes where there is a way.
pub(crate) fn write(bytes: &[u8]) {
    match guest_type() {
        Some(GuestType::Pv) => {
            let _refused: Result<(), hypercall_abi::Errno> = console_io::write(&Native, bytes);
        }
        Some(GuestType::Pvh) => {
            for byte in bytes {
                // SAFETY: Xen takes this port's bytes for its log.
                unsafe { x86::io::outb(XEN_LOG_PORT, *byte) };
            }
        }
        Some(GuestType::Bare) => serial::write(bytes),
        None => {}
    }
}
