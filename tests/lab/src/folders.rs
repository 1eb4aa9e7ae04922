//! Where things are: the workspace, what the lab keeps, and the folders of runs.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};

use crate::fresh;

/// The root of the workspace: the one that cargo started the lab for, which may be a
/// copy of the one that it was built in.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.ancestors().nth(2).unwrap_or(&here).to_path_buf()
}

/// Where cargo puts things.
pub(crate) fn target_dir() -> PathBuf {
    fresh::target_dir(&root())
}

/// Where the lab keeps what it made.
pub(crate) fn cache() -> PathBuf {
    target_dir().join("lab")
}

/// Holds the lab for this process; a process that dies lets go.
pub(crate) fn lock() -> Result<File> {
    lock_for("lock")
}

/// Holds a part of it.
pub(crate) fn lock_for(name: &str) -> Result<File> {
    fs::create_dir_all(cache())?;
    let file = File::create(cache().join(name)).context("cannot make the lab's lock")?;
    // SAFETY: locks a file that this process has open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } != 0 {
        bail!("cannot lock the lab");
    }
    Ok(file)
}

/// Folders of runs that are not over.
static RUNNING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder for one run, removed with all that is in it when the run is over
/// or the lab is interrupted. Its path is short: it holds a socket.
pub(crate) fn run_folder() -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("lab").tempdir()?;
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.push(folder.path().to_path_buf());
    Ok(folder)
}

/// Removes what an interrupted run would leave behind.
pub(crate) fn clean_up() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for folder in running.iter() {
        let _gone_already = fs::remove_dir_all(folder);
    }
}
