//! The way back from a trap: what it takes from its frame, and that a list of calls may
//! end with it.

use crate::claim::{Group, claims, kernel_code, on_pv_processor};

pub(super) const GROUP: Group = Group {
    name: "iret",
    claims: claims! {
        on_pv_processor(the_level_of_ports_is_the_frames_if_asked_for): "xen.h: VMASST_TYPE_architectural_iopl",
        on_pv_processor(the_level_of_ports_is_not_in_the_flags): "arch-x86/xen.h: HYPERVISOR_iret",
        on_pv_processor(behind_a_system_call_two_registers_are_not_the_frames): "arch-x86/xen-x86_64.h: HYPERVISOR_iret, VGCF_in_syscall",
        on_pv_processor(a_list_of_calls_ends_with_it): "arch-x86/xen.h: HYPERVISOR_iret; xen.h: HYPERVISOR_multicall",
    },
};

kernel_code! {
    kernel:
    a_list_of_calls_ends_with_it,
    behind_a_system_call_two_registers_are_not_the_frames,
    the_level_of_ports_is_not_in_the_flags,
    the_level_of_ports_is_the_frames_if_asked_for,
}

#[cfg(target_os = "none")]
mod kernel {
    use core::arch::naked_asm;

    use hypercall_abi::{
        Errno, HypercallNr, peer_field, physdev,
        xen::{
            SharedInfo, VcpuInfo, VmAssist, multicall::MulticallEntry, traps::VGCF_IN_SYSCALL,
            vm_assist,
        },
    };
    use pv_guest::Guest;

    use crate::{
        claim::{Stop, Verdict, same},
        probe::{self, Then},
    };

    /// The kernel's code and stack segments, as a frame has them.
    const CS: u64 = 0xe030;
    const SS: u64 = 0xe02b;
    /// Flags: the one that is always set, the one that lets events through, and the
    /// level of ports.
    const ALWAYS: u64 = 2;
    const INTERRUPTS: u64 = 1 << 9;
    const LEVEL_SHIFT: u32 = 12;
    /// What a list returns in which nothing does.
    const NOTHING: u32 = 0xbad;

    /// Returns by a frame with these flags.
    #[unsafe(naked)]
    unsafe extern "C" fn return_with(flags: u64) {
        naked_asm!(
            "mov rax, rsp",
            "push {ss}",
            "push rax",
            "push rdi",
            "push {cs}",
            "lea rax, [rip + 2f]",
            "push rax",
            "push 0",
            "push rcx",
            "push r11",
            "push rax",
            "mov eax, {iret}",
            "syscall",
            "ud2",
            "2: ret",
            ss = const SS,
            cs = const CS,
            iret = const HypercallNr::IRET.0,
        )
    }

    /// Makes a list of calls, with a frame on the stack for the `iret` in it, which
    /// returns `answer`.
    #[unsafe(naked)]
    unsafe extern "C" fn list_with(
        list: *mut MulticallEntry,
        count: usize,
        answer: u64,
        flags: u64,
    ) -> u64 {
        naked_asm!(
            "mov rax, rsp",
            "push {ss}",
            "push rax",
            "push rcx",
            "push {cs}",
            "lea rax, [rip + 2f]",
            "push rax",
            "push 0",
            "push rcx",
            "push r11",
            "push rdx",
            "mov eax, {multicall}",
            "syscall",
            // It came back, and nothing returned by the frame.
            "add rsp, 72",
            "mov eax, {nothing}",
            "2: ret",
            ss = const SS,
            cs = const CS,
            multicall = const HypercallNr::MULTICALL.0,
            nothing = const NOTHING,
        )
    }

    /// Flags that leave events as they are: held back or not.
    fn flags(guest: &Guest) -> Result<u64, Stop> {
        // SAFETY: the mask is read, no more.
        let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
        let words = peer_field!(shared, SharedInfo, vcpu_info).get(0);
        let words = words.ok_or("no words")?;
        let mask = peer_field!(words, VcpuInfo, evtchn_upcall_mask);
        Ok(match mask.load().trust() {
            0 => ALWAYS | INTERRUPTS,
            _ => ALWAYS,
        })
    }

    #[unsafe(naked)]
    unsafe extern "C" fn breakpoint(_: u64) -> u64 {
        naked_asm!("int3", "xor eax, eax", "ret")
    }

    /// The level that a trap's frame has, behind a return with `level`.
    fn level_behind(guest: &Guest, level: u64) -> Result<u64, Stop> {
        // SAFETY: it returns here; a level of ports lets the kernel do no more than its
        // own instructions.
        unsafe { return_with(flags(guest)? | level << LEVEL_SHIFT) };
        // SAFETY: it goes on behind the breakpoint.
        let (caught, _) = unsafe { probe::run(breakpoint, 0, Then::GoOn) };
        let caught = caught.ok_or("no exception came")?;
        Ok(caught.frame.rflags >> LEVEL_SHIFT & 3)
    }

    pub(super) fn the_level_of_ports_is_the_frames_if_asked_for(guest: &Guest) -> Verdict {
        let platform = guest.platform();
        vm_assist::enable(platform, VmAssist::ARCHITECTURAL_IOPL)?;
        let levels = [2, 3, 0].map(|level| level_behind(guest, level));
        // SAFETY: the kernel has no use for it.
        unsafe { vm_assist::disable(platform, VmAssist::ARCHITECTURAL_IOPL) }?;
        let [two, three, none] = levels;
        same((two?, three?, none?), (2, 3, 0))
    }

    /// However it was set.
    pub(super) fn the_level_of_ports_is_not_in_the_flags(guest: &Guest) -> Verdict {
        same((level_behind(guest, 3)?, level_behind(guest, 0)?), (0, 0))?;
        // SAFETY: no user mode runs, and this kernel uses no ports.
        let set_level = |level| unsafe { physdev::set_iopl(guest.platform(), level) };
        set_level(3)?;
        let level = level_behind(guest, 0);
        set_level(0)?;
        same(level?, 0)
    }

    /// `rcx` and `r11` of a frame.
    const RCX: u64 = 0x1111;
    const R11: u64 = 0x2222;

    /// Returns by a frame with this word, and these flags, and tells what the two registers
    /// are behind that.
    #[unsafe(naked)]
    unsafe extern "C" fn return_as(word: u64, found: *mut [u64; 2], flags: u64) {
        naked_asm!(
            "mov rax, rsp",
            "push {ss}",
            "push rax",
            "push rdx",
            "push {cs}",
            "lea rax, [rip + 2f]",
            "push rax",
            "push rdi",
            "push {rcx}",
            "push {r11}",
            "push rax",
            "mov eax, {iret}",
            "syscall",
            "ud2",
            "2: mov [rsi], rcx",
            "mov [rsi + 8], r11",
            "ret",
            ss = const SS,
            cs = const CS,
            rcx = const RCX,
            r11 = const R11,
            iret = const HypercallNr::IRET.0,
        )
    }

    /// A processor's instruction overwrites them on that way.
    pub(super) fn behind_a_system_call_two_registers_are_not_the_frames(guest: &Guest) -> Verdict {
        let behind = |word| -> Result<[u64; 2], Stop> {
            let mut found = [0; 2];
            // SAFETY: it returns here, by a frame with the flags as they are.
            unsafe { return_as(word, &raw mut found, flags(guest)?) };
            Ok(found)
        };
        same(behind(0)?, [RCX, R11])?;
        let [rcx, r11] = behind(VGCF_IN_SYSCALL)?;
        same((rcx == RCX, r11 == R11), (false, false))
    }

    /// What comes behind it is not made.
    pub(super) fn a_list_of_calls_ends_with_it(guest: &Guest) -> Verdict {
        const ANSWER: u64 = 0x1234_5678;
        let version = || MulticallEntry::new(HypercallNr::XEN_VERSION, &[0]);
        let back = MulticallEntry::new(HypercallNr::IRET, &[]);
        for (before, behind) in [(0, 1), (1, 1), (2, 0)] {
            let mut list: alloc::vec::Vec<_> = core::iter::repeat_with(version)
                .take(before)
                .chain([back])
                .chain(core::iter::repeat_with(version).take(behind))
                .collect();
            let flags = flags(guest)?;
            // SAFETY: the calls name no memory, and the frame leads back here.
            let answer = unsafe { list_with(list.as_mut_ptr(), list.len(), ANSWER, flags) };
            same(answer, ANSWER)?;
            let results: alloc::vec::Vec<_> = list.iter().map(MulticallEntry::check).collect();
            for (index, result) in results.into_iter().enumerate() {
                match index {
                    _ if index < before => same(result.is_ok(), true)?,
                    _ if index == before => same(result, Ok(ANSWER as usize))?,
                    _ => same(result, Err(Errno::ENOSYS))?,
                }
            }
        }
        Ok(())
    }
}
