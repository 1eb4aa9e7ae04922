//! A guest's console, as its daemon has it: what comes is read at once.

use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::fd::AsRawFd,
    path::Path,
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The terminal of a guest's console.
pub(crate) struct Terminal {
    file: File,
    said: Vec<u8>,
    /// When the first byte came.
    pub(crate) first: Option<Instant>,
}

impl Terminal {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path);
        let file = file.with_context(|| format!("no {}", path.display()))?;
        let mut modes = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: an open file, and room for its modes.
        if unsafe { libc::tcgetattr(file.as_raw_fd(), modes.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error()).context("it is no terminal");
        }
        // SAFETY: written above.
        let mut modes = unsafe { modes.assume_init() };
        // SAFETY: changes the structure only.
        unsafe { libc::cfmakeraw(&raw mut modes) };
        // What the guest says is not to come back to it.
        // SAFETY: an open file, and its modes.
        if unsafe { libc::tcsetattr(file.as_raw_fd(), libc::TCSANOW, &raw const modes) } != 0 {
            return Err(io::Error::last_os_error()).context("it cannot be made raw");
        }
        Ok(Self {
            file,
            said: Vec::new(),
            first: None,
        })
    }

    /// Waits until the guest has said this, and says when it had.
    pub(crate) fn wait_for(&mut self, mark: &str) -> Result<Instant> {
        let mut bytes = [0; 4096];
        loop {
            let len = self.file.read(&mut bytes).unwrap_or(0);
            let now = Instant::now();
            if len == 0 {
                let said = String::from_utf8_lossy(&self.said);
                bail!("the guest never said {mark:?}, but {said:?}");
            }
            self.first.get_or_insert(now);
            self.said.extend(bytes.get(..len).unwrap_or(&[]));
            if self
                .said
                .windows(mark.len())
                .any(|part| part == mark.as_bytes())
            {
                return Ok(now);
            }
        }
    }
}
