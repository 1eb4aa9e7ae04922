//! The guest's console.
//!
//! One console is the kernel's: [`println!`](crate::println) writes to it.
//! Under Xen it is a ring shared with a daemon, on a plain machine the serial
//! port; while there is neither, output goes wherever there is a way.
//!
//! A daemon that takes bytes, at whatever pace, gets all of them. One that takes nothing
//! for half a minute is not waited for any more: see [`output`].
//!
//! Nobody waits for somebody else's use of the console: what a handler of events or faults
//! writes while it is in use goes out right behind what it interrupted. So does what a
//! value writes while it is being written. There is room for 2 KiB of that.
//!
//! Who waits for input sleeps until the daemon's event, or his deadline: [`read_line`]
//! and, for tasks, `read`.

pub mod output;
pub mod ring;

mod input;
mod last;
mod late;
#[cfg(feature = "log")]
mod log_backend;

use core::fmt::{self, Write as _};

use event_channels::{PortRef, Ports};
use spin::Mutex;

use crate::{
    cpu::sync::UpcallMutex,
    error::Error,
    hypervisor::{self, Current},
};
use hypercall_abi::{io::console::XenconsInterface, peer::PeerPtr};
use late::{Late, Part};
use output::Written;
use ring::ConsoleRing;

#[cfg(feature = "alloc")]
pub use input::read;
pub use input::{read_line, try_read};
#[cfg(feature = "log")]
pub use log_backend::init as init_log;

pub(crate) use last::{drain, print_dying};

/// What takes the kernel's output.
#[derive(Default)]
pub(crate) enum Device {
    /// Nothing was found yet.
    #[default]
    None,
    /// Xen's ring.
    Ring(ConsoleRing<Current>),
    /// A serial port.
    #[cfg(target_os = "none")]
    Serial,
}

/// The console. Whoever finds it in use does not wait: what uses it may be what was
/// interrupted.
static CONSOLE: Mutex<Device> = Mutex::new(Device::None);

/// What was written while it was in use. Who ends a use of it calls [`send_late`].
static LATE: UpcallMutex<Late> = UpcallMutex::new(Late::new());

/// Makes `device` the kernel's console.
pub(crate) fn set(device: Device) {
    *CONSOLE.lock() = device;
}

/// Makes the ring in `page` the kernel's console.
#[inline(never)]
pub(crate) fn set_ring(platform: Current, page: PeerPtr<'static, XenconsInterface>, port: PortRef) {
    let ring = ConsoleRing::new(platform, page, port);
    last::set(&ring);
    set(Device::Ring(ring));
}

/// The bits of the console's port are where `ports` says.
pub(crate) fn use_ports(ports: &'static Ports<Current>) {
    if let Device::Ring(ring) = &mut *CONSOLE.lock() {
        ring.set_port(ports.port_ref(ring.port()));
        last::set(ring);
    }
    send_late();
}

impl Device {
    /// Writes what was kept, and what `write` does: one message, for which a slow daemon is
    /// waited for only so long.
    fn message<T>(&mut self, write: impl FnOnce(&mut Self) -> T) -> T {
        if let Self::Ring(ring) = self {
            ring.begin_message();
        }
        write_late(self);
        let value = write(self);
        if let Self::Ring(ring) = self {
            ring.end_message();
            if ring.take_event() {
                input::put_back();
            }
        }
        value
    }

    fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::None => hypervisor::early_write(bytes),
            Self::Ring(ring) => {
                if ring.write_all(bytes).is_err() {
                    hypervisor::early_write(bytes);
                }
            }
            #[cfg(target_os = "none")]
            Self::Serial => crate::arch::serial::write(bytes),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        match self {
            Self::None => Err(Error::NotSupported("console input")),
            Self::Ring(ring) => Ok(ring.read(buffer)?),
            #[cfg(target_os = "none")]
            Self::Serial => Ok(crate::arch::serial::read(buffer)),
        }
    }
}

/// Writes what was kept.
fn write_late(console: &mut Device) {
    let mut place = [0; late::PART_BYTES];
    loop {
        // Others may be kept in the meantime.
        let part = LATE.lock().take(&mut place);
        match part {
            Some(Part::Bytes(len)) => console.write(place.get(..len).unwrap_or(&[])),
            Some(Part::Lost(lost_bytes)) => {
                output::notice(lost_bytes, &mut |part| console.write(part));
            }
            None => return,
        }
    }
}

/// Writes what was kept, unless the console is in use: its user does so, then.
fn send_late() {
    while !LATE.lock().is_empty() {
        let Some(mut console) = CONSOLE.try_lock() else {
            return;
        };
        console.message(|_| ());
    }
}

/// Writes as `write` does: now, or when the console is free.
fn write_with(write: impl FnOnce(&mut Terminal<'_>) -> fmt::Result) {
    let _infallible: fmt::Result = match CONSOLE.try_lock() {
        Some(mut console) => console.message(|console| write(&mut Terminal::Device(console))),
        None => write(&mut Terminal::Kept),
    };
    send_late();
}

/// Where text goes: one type for all, since what writes formatted text to a type is code
/// of its own for each.
enum Terminal<'d> {
    /// A device that takes all.
    Device(&'d mut Device),
    /// The ring of a kernel that dies. An error: its daemon has stopped.
    LastWords(&'d mut ConsoleRing<Current>),
    /// What is kept until the console is free.
    Kept,
}

impl Terminal<'_> {
    fn put(&mut self, bytes: &[u8]) -> fmt::Result {
        match self {
            Self::Device(device) => device.write(bytes),
            Self::LastWords(ring) => match ring.write_dying(bytes) {
                Ok(Written::Yes) => {}
                Ok(Written::No) | Err(_) => return Err(fmt::Error),
            },
            Self::Kept => LATE.lock().push(bytes),
        }
        Ok(())
    }
}

impl fmt::Write for Terminal<'_> {
    /// A line's end is two characters for a terminal; a Linux process has one in between
    /// that knows.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        if cfg!(not(target_os = "none")) {
            return self.put(rest);
        }
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, behind) = rest
                .split_at_checked(end.unwrap_or(rest.len()))
                .unwrap_or((rest, &[]));
            self.put(line)?;
            rest = behind.get(1..).unwrap_or(&[]);
            if end.is_some() {
                self.put(b"\r\n")?;
            }
        }
        Ok(())
    }
}

#[doc(hidden)]
pub fn print(args: fmt::Arguments<'_>) {
    write_with(|console| console.write_fmt(args));
}

/// Writes bytes as they are.
#[cfg(feature = "embedded-io")]
fn write_bytes(bytes: &[u8]) {
    match CONSOLE.try_lock() {
        Some(mut console) => console.message(|console| console.write(bytes)),
        None => LATE.lock().push(bytes),
    }
    send_late();
}

/// Writes to the kernel's console.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(::core::format_args!($($arg)*)) };
}

/// Writes a line to the kernel's console.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => {
        $crate::console::print(::core::format_args!(
            "{}\n", ::core::format_args!($($arg)*)
        ))
    };
}

/// The kernel's console as a value, for code that wants one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_with(|console| console.write_str(text));
        Ok(())
    }
}

#[cfg(feature = "embedded-io")]
mod embedded_io_adapter {
    use super::{Console, Error};
    use embedded_io::{ErrorKind, ErrorType, Read, Write};

    impl embedded_io::Error for Error {
        fn kind(&self) -> ErrorKind {
            match self {
                Self::NotSupported(_) => ErrorKind::Unsupported,
                Self::OutOfMemory(_) => ErrorKind::OutOfMemory,
                Self::Console(_) => ErrorKind::BrokenPipe,
                _ => ErrorKind::Other,
            }
        }
    }

    impl ErrorType for Console {
        type Error = Error;
    }

    impl Write for Console {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
            super::write_bytes(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<(), Error> {
            super::drain();
            Ok(())
        }
    }

    impl Read for Console {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
            super::input::read_blocking(buffer)
        }
    }
}
