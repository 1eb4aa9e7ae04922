//! Input: what there is of it, and the wait for more.
//!
//! Whoever waits sleeps until the daemon's event, or his deadline, and wakes for nothing
//! else. A guest that takes upcalls ([`Guest::ports`](crate::Guest::ports)) has the event by
//! a [`Channel`]; one that does not polls the port in the hypervisor.
//!
//! The serial port of a plain machine has no event: its interrupt would need a driver for
//! the machine's interrupt controllers. It is looked at every [`SERIAL_LOOK_NS`], with the
//! processor halted in between.

use event_channels::Channel;
use hypercall_abi::platform::{Clock, Park};
use spin::Once;

use super::{CONSOLE, Device, send_late};
use crate::{
    error::Error,
    hypervisor::{Current, current, ports},
};

/// How often a serial port is looked at. At 115,200 baud 12 bytes come meanwhile, and it
/// keeps 16.
const SERIAL_LOOK_NS: u64 = 1_000_000;
/// Bytes of a line after which the deadline counts although more are there.
const LINE_BYTES: usize = 4096;

/// The console's port, once somebody has waited for input by upcalls.
static CHANNEL: Once<Channel<'static, Current>> = Once::new();

/// The console's port, in a guest that takes upcalls and has a ring.
fn channel() -> Option<&'static Channel<'static, Current>> {
    let ports = ports::get()?;
    let adopt = || {
        let port = match &*CONSOLE.try_lock().ok_or(Error::NotSupported("now"))? {
            Device::Ring(ring) => ring.port(),
            _ => return Err(Error::NotSupported("console input")),
        };
        Channel::adopt(ports, port).map_err(Error::from)
    };
    let channel = CHANNEL.try_call_once(adopt).ok();
    channel.filter(|channel| !channel.is_stale())
}

/// An event that a wait for room has taken may have been about input.
pub(super) fn put_back() {
    if let Some(channel) = CHANNEL.get() {
        channel.put_back();
    }
}

/// Takes input that is there, and says how many bytes; zero: none now.
///
/// # Errors
/// The console's daemon misbehaved, or there is no console.
pub fn try_read(buffer: &mut [u8]) -> Result<usize, Error> {
    let read = match CONSOLE.try_lock() {
        Some(mut console) => console.read(buffer),
        // Whoever uses it takes what there is.
        None => Ok(0),
    };
    send_late();
    read
}

/// Waits for input, as a task does, and takes what is there: how many bytes, which is zero
/// only if `buffer` has no room.
///
/// One task waits at a time: the last that asks is woken. In a guest that does not take
/// upcalls ([`Guest::ports`](crate::Guest::ports)) and on a plain machine the console is
/// looked at every millisecond.
///
/// # Errors
/// As [`try_read`].
#[cfg(feature = "alloc")]
pub async fn read(buffer: &mut [u8]) -> Result<usize, Error> {
    use core::task::Poll;

    core::future::poll_fn(|cx| {
        loop {
            let read = try_read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Poll::Ready(Ok(read));
            }
            match channel() {
                Some(channel) if channel.poll_wait(cx).is_ready() => {}
                Some(_) => return Poll::Pending,
                None => {
                    let look_ns = super::super::time::now_ns().saturating_add(SERIAL_LOOK_NS);
                    super::super::time::wake_at(look_ns, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// Reads a line, without its end, into `buffer`; what does not fit is dropped, a character
/// as a whole, and a byte that is no text is a question mark. Waits
/// until `deadline_ns` (of [`Clock`]), and nothing else goes on meanwhile but upcalls.
///
/// # Errors
/// [`Error::EndOfInput`]: no line by the deadline; others as [`try_read`].
pub fn read_line(buffer: &mut [u8], deadline_ns: u64) -> Result<&str, Error> {
    let is_late = || Clock::now_ns(&current()) >= deadline_ns;
    let mut len = 0;
    for count in 0_usize.. {
        let mut byte = [0];
        if count % LINE_BYTES == LINE_BYTES - 1 && is_late() {
            // A daemon that gives a line without an end.
            return Err(Error::EndOfInput);
        }
        if try_read(&mut byte)? == 0 {
            if is_late() {
                return Err(Error::EndOfInput);
            }
            wait(deadline_ns);
            continue;
        }
        match byte[0] {
            b'\r' | b'\n' => break,
            // Control-D on an empty line ends the input.
            4 if len == 0 => return Err(Error::EndOfInput),
            8 | 127 => len = before_last(buffer.get(..len).unwrap_or(&[])),
            byte => {
                if let Some(slot) = buffer.get_mut(len) {
                    *slot = byte;
                    len += 1;
                }
            }
        }
    }
    Ok(text(buffer.get_mut(..len).unwrap_or(&mut [])))
}

/// Where the last character begins.
fn before_last(line: &[u8]) -> usize {
    let is_start = |byte: &u8| byte & 0xc0 != 0x80;
    line.iter().rposition(is_start).unwrap_or(0)
}

/// Bytes as text: a character that is cut at the end is left out.
fn text(line: &mut [u8]) -> &str {
    let mut len = line.len();
    while let Err(error) = core::str::from_utf8(line.get(..len).unwrap_or(&[])) {
        let bad = error.valid_up_to();
        match error.error_len() {
            None => len = bad,
            Some(_) => {
                if let Some(byte) = line.get_mut(bad) {
                    *byte = b'?';
                }
            }
        }
    }
    core::str::from_utf8(line.get(..len).unwrap_or(&[])).unwrap_or("")
}

/// Waits for input, with nothing else going on but upcalls, and takes what is there.
#[cfg(feature = "embedded-io")]
pub(super) fn read_blocking(buffer: &mut [u8]) -> Result<usize, Error> {
    loop {
        let read = try_read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        wait(u64::MAX);
    }
}

/// Sleeps until there may be input, or `deadline_ns` has come.
fn wait(deadline_ns: u64) {
    // Xen's time has a sign: later is never.
    let deadline_ns = Some(deadline_ns).filter(|deadline| *deadline <= i64::MAX as u64);
    match channel() {
        Some(channel) => wait_by_upcall(channel, deadline_ns),
        None => match CONSOLE.try_lock().as_deref_mut() {
            Some(Device::Ring(ring)) => ring.wait_for_input(deadline_ns),
            _ => {
                let look_ns = Clock::now_ns(&current()).saturating_add(SERIAL_LOOK_NS);
                let until_ns = deadline_ns.into_iter().chain([look_ns]).min();
                Park::idle(&current(), until_ns, &|| false);
            }
        },
    }
    send_late();
}

/// The console is free meanwhile: what handlers print goes out at once.
fn wait_by_upcall(channel: &Channel<'static, Current>, deadline_ns: Option<u64>) {
    // Before the look: what comes later ends the sleep.
    let _looked_for_below = channel.take();
    // A port that is gone rings no more.
    let _gone: Result<(), event_channels::Error> = channel.unmask();
    let ports = channel.ports();
    // The input may be the answer.
    ports.flush_notifications();
    let held_ns = ports.release_throttled(Clock::now_ns(&current()));
    let until_ns = deadline_ns.into_iter().chain(held_ns).min();
    // Asked with upcalls held back: none takes the event between the look and the sleep.
    Park::idle(&current(), until_ns, &|| {
        channel.is_pending() || has_input()
    });
}

fn has_input() -> bool {
    match CONSOLE.try_lock().as_deref() {
        Some(Device::Ring(ring)) => ring.has_input(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_no_text_costs_no_line() {
        for (line, expected) in [
            (&b"name"[..], "name"),
            (b"", ""),
            ("name\u{e9}".as_bytes(), "name\u{e9}"),
            // Cut within a character.
            (b"nam\xc3", "nam"),
            (b"a\xffb\xe2\x82", "a?b"),
            (b"\x80\x80", "??"),
        ] {
            assert_eq!(text(&mut line.to_vec()), expected);
        }
        assert_eq!(before_last("ab\u{20ac}".as_bytes()), 2);
        assert_eq!(before_last(b"a"), 0);
        assert_eq!(before_last(b""), 0);
    }
}
