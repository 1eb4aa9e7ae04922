//! The first serial port of a plain machine (16550).

const PORT: u16 = 0x3f8;
const LINE_STATUS: u16 = PORT + 5;
const DATA_READY: u8 = 1;
const ROOM: u8 = 1 << 5;
/// A port that is not there reads as all ones.
const ABSENT: u8 = 0xff;
/// Looks before a port that takes nothing is given up.
const TRIES: usize = 100_000;

fn status() -> u8 {
    // SAFETY: reading the status of a serial port (or of nothing) is harmless.
    unsafe { x86::io::inb(LINE_STATUS) }
}

/// Whether there is a port: its scratch register keeps what is written to it.
pub(crate) fn is_there() -> bool {
    const SCRATCH: u16 = PORT + 7;
    const PATTERN: u8 = 0x5a;
    // SAFETY: the register has no effect; a port that is not there ignores the write.
    unsafe { x86::io::outb(SCRATCH, PATTERN) };
    // SAFETY: as above.
    (unsafe { x86::io::inb(SCRATCH) }) == PATTERN
}

/// Writes bytes, if there is a port.
pub(crate) fn write(bytes: &[u8]) {
    for byte in bytes {
        for _ in 0..TRIES {
            match status() {
                ABSENT => return,
                status if status & ROOM != 0 => break,
                _ => core::hint::spin_loop(),
            }
        }
        // SAFETY: this port belongs to this kernel.
        unsafe { x86::io::outb(PORT, *byte) };
    }
}

/// Takes the bytes that are there.
pub(crate) fn read(buffer: &mut [u8]) -> usize {
    let mut len = 0;
    for slot in buffer {
        let status = status();
        if status == ABSENT || status & DATA_READY == 0 {
            break;
        }
        // SAFETY: this port belongs to this kernel.
        *slot = unsafe { x86::io::inb(PORT) };
        len += 1;
    }
    len
}
