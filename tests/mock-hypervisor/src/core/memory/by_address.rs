//! The guest's memory by its own addresses, which are those of this process.

use hypercall_abi::Errno;
#[cfg(miri)]
use hypercall_abi::PAGE_SIZE;

/// How hypercalls reach the guest's memory, by the guest's own addresses.
pub(crate) trait GuestMemory {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno>;
    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno>;
}

/// A guest in this very process. Addresses that are not mapped are `EFAULT`,
/// as on Xen: the kernel does the copy and says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThisProcess;

#[cfg(not(miri))]
impl GuestMemory for ThisProcess {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno> {
        let local = libc::iovec {
            iov_base: target.as_mut_ptr().cast(),
            iov_len: target.len(),
        };
        let remote = libc::iovec {
            iov_base: core::ptr::with_exposed_provenance_mut(address),
            iov_len: target.len(),
        };
        // SAFETY: asks for this process's number.
        let pid = unsafe { libc::getpid() };
        // SAFETY: writes `target` only; a bad source is an error.
        let copied = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
        complete(copied, target.len())
    }

    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno> {
        let local = libc::iovec {
            iov_base: source.as_ptr().cast_mut().cast(),
            iov_len: source.len(),
        };
        let remote = libc::iovec {
            iov_base: core::ptr::with_exposed_provenance_mut(address),
            iov_len: source.len(),
        };
        // SAFETY: asks for this process's number.
        let pid = unsafe { libc::getpid() };
        // SAFETY: writes what the guest named in its hypercall, as Xen does;
        // that it may be written is the promise of whoever made the call.
        let copied = unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) };
        complete(copied, source.len())
    }
}

#[cfg(not(miri))]
fn complete(copied: isize, wanted: usize) -> Result<(), Errno> {
    if copied.cast_unsigned() == wanted {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

#[cfg(miri)]
impl GuestMemory for ThisProcess {
    fn copy_in(&self, address: usize, target: &mut [u8]) -> Result<(), Errno> {
        if address < PAGE_SIZE {
            return Err(Errno::EFAULT);
        }
        let source = core::ptr::with_exposed_provenance::<u8>(address);
        // SAFETY: what the guest named in its hypercall, whose caller promised
        // that it may be read.
        unsafe { source.copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
        Ok(())
    }

    fn copy_out(&self, address: usize, source: &[u8]) -> Result<(), Errno> {
        if address < PAGE_SIZE {
            return Err(Errno::EFAULT);
        }
        let target = core::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: what the guest named in its hypercall, whose caller promised
        // that it may be written.
        unsafe { target.copy_from_nonoverlapping(source.as_ptr(), source.len()) };
        Ok(())
    }
}
