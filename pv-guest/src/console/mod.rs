//! The guest's console.
//!
//! One console is the kernel's: [`println!`](crate::println) writes to it.
//! Under Xen it is a ring shared with a daemon, on a plain machine the serial
//! port; while there is neither, output goes wherever there is a way.
//!
//! A daemon that takes bytes, at whatever pace, gets all of them. One that takes nothing
//! for half a minute is not waited for any more: see [`output`].

pub mod output;
pub mod ring;

#[cfg(feature = "log")]
mod log_backend;

use core::fmt::{self, Write as _};

use event_channels::Ports;
use spin::Mutex;

use crate::{Current, Error};
use hypercall_abi::platform::Clock;
use output::Written;
use ring::ConsoleRing;

#[cfg(feature = "log")]
pub use log_backend::init as init_log;

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

static CONSOLE: Mutex<Device> = Mutex::new(Device::None);

/// Makes `device` the kernel's console.
pub(crate) fn set(device: Device) {
    *CONSOLE.lock() = device;
}

/// The bits of the console's port are where `ports` says.
pub(crate) fn use_ports(ports: &'static Ports<Current>) {
    if let Device::Ring(ring) = &mut *CONSOLE.lock() {
        ring.set_port(ports.port_ref(ring.port()));
    }
}

/// Bytes on their last way out.
fn emergency(bytes: &[u8]) {
    #[cfg(target_os = "none")]
    crate::native::emergency_write(bytes);
    #[cfg(not(target_os = "none"))]
    if let Some(platform) = crate::hosted::platform() {
        let _refused: Result<(), hypercall_abi::Errno> =
            hypercall_abi::xen::console_io::write(&platform, bytes);
    }
}

impl Device {
    fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::None => emergency(bytes),
            Self::Ring(ring) => {
                if ring.write_all(bytes).is_err() {
                    emergency(bytes);
                }
            }
            #[cfg(target_os = "none")]
            Self::Serial => crate::native::serial::write(bytes),
        }
    }
}

/// Hands text on in pieces, as a terminal wants it.
fn for_terminal(text: &str, mut write: impl FnMut(&[u8]) -> fmt::Result) -> fmt::Result {
    // It wants both characters; a Linux process has one in between.
    if cfg!(not(target_os = "none")) {
        return write(text.as_bytes());
    }
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n') {
            Some(line) => {
                write(line.as_bytes())?;
                write(b"\r\n")?;
            }
            None => write(line.as_bytes())?,
        }
    }
    Ok(())
}

impl fmt::Write for Device {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for_terminal(text, |bytes| {
            self.write(bytes);
            Ok(())
        })
    }
}

/// A ring as a dying kernel writes to it; an error: its daemon has stopped.
struct LastWords<'r>(&'r mut ConsoleRing<Current>);

impl fmt::Write for LastWords<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for_terminal(text, |bytes| match self.0.write_dying(bytes) {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::No) | Err(_) => Err(fmt::Error),
        })
    }
}

/// How often a dying kernel tries to get the console before it takes it.
const TRIES: usize = 1_000_000;

#[doc(hidden)]
pub fn print(args: fmt::Arguments<'_>) {
    let _infallible: fmt::Result = CONSOLE.lock().write_fmt(args);
}

/// Output of a kernel that cannot go on: whoever holds the console will not
/// give it back, and a daemon that takes nothing is waited for a few seconds only. Then
/// all of the message goes the emergency way.
pub(crate) fn print_dying(args: fmt::Arguments<'_>) {
    for _ in 0..TRIES {
        if let Some(mut console) = CONSOLE.try_lock() {
            let written = match &mut *console {
                Device::Ring(ring) => LastWords(ring).write_fmt(args),
                other => {
                    let _infallible: fmt::Result = other.write_fmt(args);
                    Ok(())
                }
            };
            if written.is_err() {
                break;
            }
            return;
        }
        core::hint::spin_loop();
    }
    let _infallible: fmt::Result = Device::None.write_fmt(args);
}

/// Waits until the daemon has taken everything, for a while.
pub(crate) fn drain() {
    let Some(mut console) = CONSOLE.try_lock() else {
        return;
    };
    if let Device::Ring(ring) = &mut *console {
        // Nothing is left to be said by this ring, then.
        let _broken: Result<(), ring::Broken> = ring.drain();
    }
}

/// Takes input that is there, and says how many bytes; zero: none now.
///
/// # Errors
/// The console's daemon misbehaved, or there is no console.
pub fn try_read(buffer: &mut [u8]) -> Result<usize, Error> {
    match &mut *CONSOLE.lock() {
        Device::None => Err(Error::NotSupported("console input")),
        Device::Ring(ring) => Ok(ring.read(buffer)?),
        #[cfg(target_os = "none")]
        Device::Serial => Ok(crate::native::serial::read(buffer)),
    }
}

/// Bytes of a line after which the deadline counts although more are there.
const LINE_BYTES: usize = 4096;

/// Reads a line, without its end, into `buffer`; what does not fit is dropped.
/// Echoes what is typed on hardware, where no terminal driver does. Waits until
/// `deadline_ns` (of [`Clock`]).
///
/// # Errors
/// [`Error::EndOfInput`]: no line by the deadline; others as [`try_read`].
pub fn read_line(buffer: &mut [u8], deadline_ns: u64) -> Result<&str, Error> {
    let mut len = 0;
    for count in 0_usize.. {
        let mut byte = [0];
        if count % LINE_BYTES == LINE_BYTES - 1 && Clock::now_ns(&crate::current()) >= deadline_ns {
            // A daemon that gives a line without an end.
            return Err(Error::EndOfInput);
        }
        if try_read(&mut byte)? == 0 {
            if Clock::now_ns(&crate::current()) >= deadline_ns {
                return Err(Error::EndOfInput);
            }
            wait(deadline_ns);
            continue;
        }
        match byte[0] {
            b'\r' | b'\n' => break,
            // Control-D on an empty line ends the input.
            4 if len == 0 => return Err(Error::EndOfInput),
            8 | 127 => len = usize::saturating_sub(len, 1),
            byte => {
                if let Some(slot) = buffer.get_mut(len) {
                    *slot = byte;
                    len += 1;
                }
            }
        }
    }
    let line = buffer.get(..len).unwrap_or(&[]);
    Ok(core::str::from_utf8(line).unwrap_or(""))
}

fn wait(deadline_ns: u64) {
    match &mut *CONSOLE.lock() {
        Device::Ring(ring) => ring.wait(Some(deadline_ns)),
        _ => core::hint::spin_loop(),
    }
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
        CONSOLE.lock().write_str(text)
    }
}

#[cfg(feature = "embedded-io")]
mod embedded_io_adapter {
    use super::{Console, Error, try_read};
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
            super::CONSOLE.lock().write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<(), Error> {
            super::drain();
            Ok(())
        }
    }

    impl Read for Console {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
            if buffer.is_empty() {
                return Ok(0);
            }
            loop {
                let read = try_read(buffer)?;
                if read > 0 {
                    return Ok(read);
                }
                super::wait(u64::MAX);
            }
        }
    }
}
