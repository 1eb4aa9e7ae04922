//! The ways in which a guest can end.

use core::hint::black_box;

use hypercall_abi::{
    HypercallNr,
    platform::Hypercall,
    sched::{self, ShutdownReason},
};
use pv_guest::{
    Error, Guest,
    power::{self, Watchdog},
    println,
};

/// Does what `fault` says.
pub(crate) fn run(guest: &Guest, fault: &str) -> Result<(), Error> {
    match fault {
        "panic" => panic!("as the command line wished"),
        "print" => println!("{}", crate::prints::Deadly),
        "null" => {
            let place = core::ptr::null_mut::<u8>();
            // SAFETY: none: the fault is the purpose.
            unsafe { black_box(place).write_volatile(1) };
        }
        "stack" => {
            black_box(recurse(1));
        }
        "loop" => loop {
            core::hint::spin_loop();
        },
        "hang" => {
            // SAFETY: there is no such call.
            let _none = unsafe { guest.platform().call1(HypercallNr(62), 7) };
            loop {
                core::hint::spin_loop();
            }
        }
        // That of `timeout`, if 64 were added to its low bits.
        "reason" => power::shutdown(ShutdownReason(252)),
        // The first that is latched is told.
        "latched" => {
            for reason in [ShutdownReason::CRASH, ShutdownReason::REBOOT] {
                sched::shutdown_code(guest.platform(), reason)
                    .map_err(|_| Error::Failed("no reason is latched"))?;
            }
            power::shutdown(ShutdownReason::POWEROFF)
        }
        "watchdog" => {
            let _never_fed = Watchdog::start(*guest.platform(), 1)?;
            loop {
                core::hint::spin_loop();
            }
        }
        "reboot" => power::reboot(),
        "return" => return Err(Error::Failed("as the command line wished")),
        "write-text" => {
            let place = (run as *const u8).cast_mut();
            // SAFETY: none: the fault is the purpose.
            unsafe { black_box(place).write_volatile(0xc3) };
        }
        "execute-data" => {
            let code = [0xc3_u8; 16];
            // SAFETY: none: the fault is the purpose.
            let code: extern "C" fn() = unsafe { core::mem::transmute(black_box(&raw const code)) };
            code();
        }
        #[cfg(target_os = "none")]
        "jump" | "monitor" | "unmap" | "tables" | "stack-gone" | "storm" => {
            wild::run(guest, fault)?
        }
        _ => return Err(Error::Failed("no such fault")),
    }
    Err(Error::Failed("the fault did not happen"))
}

/// Uses stack without end.
#[expect(unconditional_recursion, reason = "the overflow is the purpose")]
fn recurse(depth: u64) -> u64 {
    let page = black_box([depth; 64]);
    recurse(depth + 1) + black_box(page)[(depth & 63) as usize]
}

/// What only a PV guest can do to itself, and to who runs it.
#[cfg(target_os = "none")]
mod wild {
    use core::{arch::asm, hint::black_box};

    use hypercall_abi::{
        Errno, HypercallNr,
        platform::Hypercall,
        xen::mmu::{self, Flush, MmuUpdate},
    };
    use pv_guest::{Current, Error, Guest, GuestType, println};

    use crate::noise::Noise;

    pub(super) fn run(guest: &Guest, fault: &str) -> Result<(), Error> {
        if guest.guest_type() != GuestType::Pv {
            return Err(Error::Failed("for PV guests only"));
        }
        match fault {
            "jump" => jump(0x1234_5678_9000),
            // Where a process has its own code.
            "monitor" => jump(0x5555_5555_5000),
            "unmap" => unmap(guest)?,
            "tables" => tables(guest)?,
            // SAFETY: none: the fault is the purpose.
            "stack-gone" => unsafe {
                asm!("mov rsp, {}", "ud2", in(reg) 0x7000_0000_0000_u64, options(noreturn));
            },
            _ => storm(guest.platform()),
        }
        Ok(())
    }

    fn jump(address: u64) {
        // SAFETY: none: the fault is the purpose.
        unsafe { asm!("call {}", in(reg) black_box(address)) };
    }

    /// Takes the page of the code that runs away.
    fn unmap(guest: &Guest) -> Result<(), Error> {
        let page = (unmap as *const ()).addr() & !0xfff;
        for place in [page, page + 0x1000] {
            // SAFETY: none: the fault is the purpose.
            unsafe { mmu::update_va_mapping(guest.platform(), place, 0, Flush::PageEverywhere) }
                .map_err(refused)?;
        }
        Ok(())
    }

    /// Takes everything away: the entry of the top table that leads to this kernel.
    fn tables(guest: &Guest) -> Result<(), Error> {
        let top: u64;
        // SAFETY: reads a register; Xen does that for a PV guest.
        unsafe { asm!("mov {}, cr3", out(reg) top) };
        let index = (tables as *const ()).addr() as u64 >> 39 & 511;
        let update = MmuUpdate {
            ptr: (top & !0xfff) | (index * 8),
            val: 0,
        };
        // SAFETY: none: the fault is the purpose.
        unsafe { mmu::mmu_update(guest.platform(), &[update], &mut 0) }.map_err(refused)
    }

    fn refused(errno: Errno) -> Error {
        println!("refused: {errno}");
        Error::Failed("the fault was refused")
    }

    /// Calls with all numbers, and with addresses that are no guest's.
    fn storm(platform: &Current) {
        const CALLS: u64 = 200_000;
        /// These end the guest, or have it called at an address.
        const NOT: [HypercallNr; 5] = [
            HypercallNr::IRET,
            HypercallNr::SCHED_OP,
            HypercallNr::SCHED_OP_COMPAT,
            HypercallNr::SET_CALLBACKS,
            HypercallNr::STACK_SWITCH,
        ];
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut refused = 0;
        for _ in 0..CALLS {
            let nr = HypercallNr((noise.next() % 64) as u32);
            let mut word = |round: usize| match (round, noise.next() % 4) {
                (0, 0..3) => noise.next() as usize % 32,
                (_, 0) => 0x7fff_0000_0000 + noise.next() as usize % 0x1_0000_0000,
                (_, 1) => 0x5555_0000_0000 + noise.next() as usize % 0x1_0000_0000,
                (_, 2) => noise.next() as usize % 0x1000,
                _ => noise.next() as usize | 1 << 63,
            };
            let [a1, a2, a3, a4] = [word(0), word(1), word(1), word(1)];
            if NOT.contains(&nr) || nr == HypercallNr::VCPU_OP && a1 == 2 {
                continue;
            }
            // SAFETY: no address leads to memory of this guest's.
            let answer = unsafe { platform.call4(nr, a1, a2, a3, a4) };
            refused += u64::from(answer < 0);
        }
        println!("storm: {refused} of {CALLS} calls were refused");
        pv_guest::power::power_off()
    }
}
