//! Output for people, which may stop listening.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
    os::fd::{AsFd, AsRawFd},
};

/// What a shell says of a command whose output nobody reads.
const BROKEN_PIPE: i32 = 141;

/// A file that is waited for where it cannot take anything just now: a terminal that another
/// program has told not to block, say. All that is written to it arrives.
pub(crate) struct Patient<F>(pub(crate) F);

impl<F: Write + AsFd> Patient<F> {
    fn until_done<T>(&mut self, mut step: impl FnMut(&mut F) -> io::Result<T>) -> io::Result<T> {
        loop {
            match step(&mut self.0) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let mut wanted = libc::pollfd {
                fd: self.0.as_fd().as_raw_fd(),
                events: libc::POLLOUT,
                revents: 0,
            };
            // SAFETY: one structure, which is there. An error is told by the next step.
            let _ready = unsafe { libc::poll(&raw mut wanted, 1, -1) };
        }
    }
}

impl<F: Write + AsFd> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_done(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.until_done(F::flush)
    }
}

/// Writes a line; ends the lab in peace if nobody reads it.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let mut out = Patient(io::stdout().lock());
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        crate::folders::clean_up();
        std::process::exit(BROKEN_PIPE);
    }
}

/// As `println!`, but without a panic when nobody reads.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use say;
