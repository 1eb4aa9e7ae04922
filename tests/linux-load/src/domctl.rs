//! What a toolstack asks Xen, without one: a guest is let go, and how long domains ran.
//!
//! Source: `domctl.h`; `xen/privcmd.h` of Linux.

use std::{
    fs::File,
    io::{Error, ErrorKind, Result},
    os::fd::AsRawFd,
};

const HYPERVISOR_DOMCTL: u64 = 36;
/// That of Xen 4.19 and 4.20.
const INTERFACE_VERSION: u32 = 0x17;
const UNPAUSE_DOMAIN: u32 = 4;
const GET_DOMAIN_INFO: u32 = 5;
/// Where the time is in the answer to [`GET_DOMAIN_INFO`], in words of the whole: the
/// header has two, and before it are the domain and its flags, and six numbers of pages.
const CPU_TIME: usize = 2 + 1 + 6;
/// Words of `struct xen_domctl`: its header, and a union of 128 bytes.
const WORDS: usize = 2 + 16;

/// `struct privcmd_hypercall`.
#[repr(C)]
struct Call {
    op: u64,
    arguments: [u64; 5],
}

/// `IOCTL_PRIVCMD_HYPERCALL`: `_IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))`.
const IOCTL_HYPERCALL: libc::c_ulong =
    (size_of::<Call>() as libc::c_ulong) << 16 | (b'P' as libc::c_ulong) << 8;

/// The way to Xen.
pub(crate) struct Xen {
    privcmd: File,
}

impl Xen {
    pub(crate) fn open() -> Result<Self> {
        let privcmd = File::options()
            .read(true)
            .write(true)
            .open("/dev/xen/privcmd")?;
        Ok(Self { privcmd })
    }

    /// Makes one call, and returns what Xen has written.
    fn call(&self, command: u32, domain: u32) -> Result<[u64; WORDS]> {
        // Xen reads and writes it by this process's mapping, which is there: it was written.
        let mut words = [0; WORDS];
        words[0] = u64::from(command) | u64::from(INTERFACE_VERSION) << 32;
        words[1] = u64::from(domain);
        let call = Call {
            op: HYPERVISOR_DOMCTL,
            arguments: [(&raw mut words).expose_provenance() as u64, 0, 0, 0, 0],
        };
        // SAFETY: the kernel reads `call`, and Xen reads and writes a `struct xen_domctl`,
        // for which `words` has the room; both outlive the call.
        let answer =
            unsafe { libc::ioctl(self.privcmd.as_raw_fd(), IOCTL_HYPERCALL, &raw const call) };
        match answer {
            0.. => Ok(words),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Lets a domain run that the toolstack has paused.
    pub(crate) fn unpause(&self, domain: u32) -> Result<()> {
        self.call(UNPAUSE_DOMAIN, domain).map(|_| ())
    }

    /// How long a domain's vCPUs have run, in nanoseconds.
    pub(crate) fn ran_ns(&self, domain: u32) -> Result<u64> {
        let words = self.call(GET_DOMAIN_INFO, domain)?;
        // Older ones tell of the next domain, if there is none of this number.
        if words[2] as u16 != domain as u16 {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(words[CPU_TIME])
    }
}
