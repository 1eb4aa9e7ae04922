//! Instructions that any program may run, and that the kernel can keep from a thread:
//! they are signals then, for the guest to be told what Xen tells. The monitor's own, in
//! whatever library, are done for it.

use std::io;

const RDTSC: [u8; 2] = [0x0f, 0x31];
const RDTSCP: [u8; 3] = [0x0f, 0x01, 0xf9];
const CPUID: [u8; 2] = [0x0f, 0xa2];
const ARCH_SET_CPUID: libc::c_int = 0x1012;

fn answer(done: bool, what: &str) -> io::Result<()> {
    if done {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// Has code of this thread read the time stamp counter, or keeps that from it.
pub(super) fn let_read_counter(may: bool) -> io::Result<()> {
    let how = if may {
        libc::PR_TSC_ENABLE
    } else {
        libc::PR_TSC_SIGSEGV
    };
    // SAFETY: changes what an instruction does.
    let done = unsafe { libc::prctl(libc::PR_SET_TSC, how) };
    answer(
        done == 0,
        "the time stamp counter cannot be kept from the guest",
    )
}

/// Has code of this thread ask what its processor is, or keeps that from it, where the
/// processor can.
pub(super) fn let_identify(may: bool) -> io::Result<()> {
    // SAFETY: changes what an instruction does.
    let done =
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, libc::c_int::from(may)) };
    answer(done == 0, "cpuid cannot be kept from the guest")
}

/// Whether the monitor's own code was stopped at one of these: then it is done.
pub(super) fn is_own(context: &mut libc::ucontext_t) -> bool {
    let registers = &mut context.uc_mcontext.gregs;
    let rip = registers[libc::REG_RIP as usize];
    let place = std::ptr::with_exposed_provenance::<[u8; 3]>(rip as usize);
    // SAFETY: code that was about to run; behind an instruction of two bytes follows
    // another.
    let code = unsafe { place.read() };
    let [a, b, _] = code;
    let mut put = |register: libc::c_int, value: u64| {
        registers[register as usize] = value.cast_signed();
    };
    let (len, done) = if code == RDTSCP || [a, b] == RDTSC {
        let may = let_read_counter(true);
        // SAFETY: every processor that runs this has it.
        let now = unsafe { core::arch::x86_64::_rdtsc() };
        put(libc::REG_RAX, now & 0xffff_ffff);
        put(libc::REG_RDX, now >> 32);
        if code == RDTSCP {
            put(libc::REG_RCX, 0);
        }
        let len = if code == RDTSCP {
            RDTSCP.len()
        } else {
            RDTSC.len()
        };
        (len, may.and_then(|()| let_read_counter(false)))
    } else if [a, b] == CPUID {
        let may = let_identify(true);
        let leaf = registers[libc::REG_RAX as usize] as u32;
        let part = registers[libc::REG_RCX as usize] as u32;
        let told = core::arch::x86_64::__cpuid_count(leaf, part);
        let mut put = |register: libc::c_int, value: u32| {
            registers[register as usize] = value.into();
        };
        put(libc::REG_RAX, told.eax);
        put(libc::REG_RBX, told.ebx);
        put(libc::REG_RCX, told.ecx);
        put(libc::REG_RDX, told.edx);
        (CPUID.len(), may.and_then(|()| let_identify(false)))
    } else {
        return false;
    };
    registers[libc::REG_RIP as usize] = rip + len as i64;
    done.is_ok()
}
