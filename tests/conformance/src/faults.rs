//! The ways in which a guest can end.

use core::hint::black_box;

use pv_guest::{
    Error, Guest,
    power::{self, Watchdog},
};

/// Does what `fault` says.
pub(crate) fn run(guest: &Guest, fault: &str) -> Result<(), Error> {
    match fault {
        "panic" => panic!("as the command line wished"),
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
