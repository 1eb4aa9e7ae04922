//! The process's standard streams as a guest's terminal. What it writes comes out whole and
//! in order whatever kind of file that is, also one that is not to block: another program's
//! that has the same terminal, say. What it is to read stays where it is until there is room.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd},
    sync::OnceLock,
    thread,
    time::Duration,
};

use crate::engine::domain::Domain;

/// Why output of the guest's was lost, if some was.
static LOST: OnceLock<()> = OnceLock::new();

/// The most bytes that wait for a guest to read them.
const MAX_WAITING: usize = 64 << 10;
/// How often it is looked whether it has read some.
const PAUSE: Duration = Duration::from_millis(10);

/// A file that is waited for where it cannot take or give anything just now.
pub(crate) struct Terminal<F>(pub(crate) F);

impl<F: AsFd> Terminal<F> {
    /// Waits until the file is ready for these events, or has failed.
    fn wait(&self, events: libc::c_short) {
        let mut wanted = libc::pollfd {
            fd: self.0.as_fd().as_raw_fd(),
            events,
            revents: 0,
        };
        // SAFETY: one structure, which is there. What it says is told by the next use of the
        // file, as is an error.
        let _ready = unsafe { libc::poll(&raw mut wanted, 1, -1) };
    }
}

impl<F: Write + AsFd> Write for Terminal<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(libc::POLLOUT),
                done => return done.inspect_err(note),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        loop {
            match self.0.flush() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(libc::POLLOUT),
                done => return done.inspect_err(note),
            }
        }
    }
}

impl<F: Read + AsFd> Read for Terminal<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(libc::POLLIN),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// Says once that output is lost. That nobody reads it is no loss.
fn note(error: &io::Error) {
    if [ErrorKind::BrokenPipe, ErrorKind::Interrupted].contains(&error.kind()) {
        return;
    }
    if LOST.set(()).is_ok() {
        let text = format!("xen: the guest's output is lost: it cannot be written: {error}\n");
        let _nobody = io::stderr().write_all(text.as_bytes());
    }
}

/// Has a process whose guest ended well say by its status that output was lost.
pub(crate) fn tell_loss(domain: &Domain) {
    let status_of = |status| match status {
        0 => i32::from(LOST.get().is_some()),
        status => status,
    };
    domain.at_end().push_back(Box::new(status_of));
}

/// Hands standard input to a guest's console, no faster than it is read there.
pub(crate) fn feed(domain: &Domain) {
    let mut input = Terminal(io::stdin());
    let mut buffer = [0; 512];
    while let Ok(len @ 1..) = input.read(&mut buffer) {
        domain.console_input(&buffer[..len]);
        while domain.console_waiting() > MAX_WAITING {
            thread::sleep(PAUSE);
        }
    }
    // The end of the input, as a terminal would say it.
    domain.console_input(&[4]);
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_cannot_be_written_or_read_at_once_waits() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        // Many times what lies in between.
        let sent: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
        let all = sent.clone();
        let reader = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            let mut got = vec![0; all.len()];
            theirs.read_exact(&mut got).unwrap();
            assert!(got == all, "it came otherwise");
            thread::sleep(Duration::from_millis(50));
            theirs.write_all(b"an answer").unwrap();
        });
        let mut terminal = Terminal(ours);
        terminal.write_all(&sent).unwrap();
        let mut answer = [0; 9];
        terminal.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"an answer");
        reader.join().unwrap();
    }
}
