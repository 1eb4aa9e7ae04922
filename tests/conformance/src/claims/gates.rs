//! The gates of a PV guest: who may go through one by an instruction, and how a guest has
//! none.

use crate::claim::{Group, claims, kernel_code, on_pv_processor};

pub(super) const GROUP: Group = Group {
    name: "gates",
    claims: claims! {
        on_pv_processor(a_kernel_enters_those_that_are_for_it): "arch-x86/xen.h: TI_GET_DPL",
        on_pv_processor(user_mode_enters_those_that_are_for_all): "arch-x86/xen.h: TI_GET_DPL",
        on_pv_processor(no_table_is_no_gate): "xen/arch/x86/pv/callback.c: do_set_trap_table",
    },
};

kernel_code! {
    kernel:
    a_kernel_enters_those_that_are_for_it,
    no_table_is_no_gate,
    user_mode_enters_those_that_are_for_all,
}

#[cfg(target_os = "none")]
mod kernel {
    use core::{
        arch::naked_asm,
        sync::atomic::{AtomicU64, Ordering},
    };

    use hypercall_abi::{
        Errno, HypercallNr,
        platform::Hypercall,
        xen::traps::{FLAT_KERNEL_CS, TI_MASK_EVENTS, TrapInfo, set_trap_table},
    };
    use pv_guest::Guest;

    use crate::{
        claim::{Stop, Verdict, ensure, same},
        claims::user_mode::modes::Stacks,
        probe::{self, Then},
    };

    /// One that nobody else has a gate for, and what an error code makes of it.
    const VECTOR: u8 = 0x41;
    const ERROR: u32 = (VECTOR as u32) << 3 | 2;
    const PROTECTION: u32 = 13;
    /// Everything that Xen knows of privileges: nobody, the kernel twice, everybody.
    const NOBODY: u8 = 0;
    const ALL: u8 = 3;

    static ENTERED: AtomicU64 = AtomicU64::new(0);

    /// Behind the gate: it counts, and goes back.
    #[unsafe(naked)]
    unsafe extern "C" fn entered() {
        naked_asm!(
            "lock inc qword ptr [rip + {count}]",
            "pop rcx",
            "pop r11",
            "push 0",
            "push rcx",
            "push r11",
            "push rax",
            "mov eax, {iret}",
            "syscall",
            "ud2",
            count = sym ENTERED,
            iret = const HypercallNr::IRET.0,
        )
    }

    #[unsafe(naked)]
    unsafe extern "C" fn interrupt(_: u64) -> u64 {
        naked_asm!("int {vector}", "xor eax, eax", "ret", vector = const VECTOR)
    }

    /// A gate for these, which leads to code that counts.
    fn set_gate(guest: &Guest, privilege: u8) -> Verdict {
        let gate = TrapInfo {
            vector: VECTOR,
            flags: privilege | TI_MASK_EVENTS,
            cs: FLAT_KERNEL_CS,
            address: (entered as *const ()).addr() as u64,
            ..TrapInfo::default()
        };
        // SAFETY: made for it, and the last entry is zero.
        unsafe { set_trap_table(guest.platform(), &[gate, TrapInfo::default()]) }?;
        Ok(())
    }

    /// Whether code went through the gate; if not, it was refused for that.
    fn goes_through(code: impl FnOnce() -> Result<u64, Stop>) -> Result<bool, Stop> {
        let before = ENTERED.load(Ordering::Relaxed);
        // SAFETY: the probe's stack is as it was wherever it raises an exception.
        let (caught, returned) = unsafe { probe::during(Then::Return, code) };
        let entered = ENTERED.load(Ordering::Relaxed) - before;
        let told = caught.map(|caught| (caught.frame.vector, caught.frame.error_code));
        match told {
            None => same((entered, returned?), (1, 0)).map(|()| true),
            Some(told) => {
                same((entered, returned?, told), (0, 1, (PROTECTION, ERROR))).map(|()| false)
            }
        }
    }

    fn by_privilege(
        guest: &Guest,
        code: impl Fn() -> Result<u64, Stop>,
    ) -> Result<[bool; 4], Stop> {
        let mut all = [false; 4];
        for (privilege, is_through) in (NOBODY..=ALL).zip(&mut all) {
            set_gate(guest, privilege)?;
            *is_through = goes_through(&code)?;
        }
        set_gate(guest, NOBODY)?;
        Ok(all)
    }

    pub(super) fn a_kernel_enters_those_that_are_for_it(guest: &Guest) -> Verdict {
        // SAFETY: it goes on behind the instruction, or returns.
        let all = by_privilege(guest, || Ok(unsafe { interrupt(0) }))?;
        same(all, [false, true, true, true])
    }

    /// User mode: it calls the kernel with what it was answered.
    #[unsafe(naked)]
    unsafe extern "C" fn interrupted() {
        naked_asm!(
            "call {interrupt}",
            "mov edi, eax",
            "syscall",
            "ud2",
            interrupt = sym interrupt,
        )
    }

    pub(super) fn user_mode_enters_those_that_are_for_all(guest: &Guest) -> Verdict {
        let stacks = Stacks::new(guest)?;
        let all = by_privilege(guest, || stacks.answer_of(interrupted))?;
        same(all, [false, false, false, true])
    }

    unsafe extern "C" {
        /// The entries of the library's handlers, for vectors in a row.
        static pv_guest_trap_stubs: u8;
    }

    /// The library's table, as it sets it.
    fn own_table() -> [TrapInfo; 33] {
        const ENTRY_BYTES: u64 = 12;
        let start = (&raw const pv_guest_trap_stubs).addr() as u64;
        let mut table = [TrapInfo::default(); 33];
        for (vector, gate) in (0..32_u8).zip(&mut table) {
            *gate = TrapInfo {
                vector,
                flags: if matches!(vector, 3 | 4) { ALL } else { NOBODY } | TI_MASK_EVENTS,
                cs: FLAT_KERNEL_CS,
                address: start + u64::from(vector) * ENTRY_BYTES,
                ..TrapInfo::default()
            };
        }
        table
    }

    /// Those that are set afterwards are all that there are.
    pub(super) fn no_table_is_no_gate(guest: &Guest) -> Verdict {
        set_gate(guest, ALL)?;
        let table = own_table();
        let platform = guest.platform();
        // SAFETY: nothing here raises an exception until they have handlers again.
        let cleared = Errno::check(unsafe { platform.call1(HypercallNr::SET_TRAP_TABLE, 0) });
        // SAFETY: made for it, and the last entry is zero.
        let set = unsafe { set_trap_table(platform, &table) };
        // SAFETY: as above.
        let is_through = goes_through(|| Ok(unsafe { interrupt(0) }));
        set_gate(guest, NOBODY)?;
        cleared?;
        set?;
        ensure(!is_through?, "a gate of before is there")
    }
}
