//! The same, under gdb: with the guest's symbols, its breakpoints, and its steps.

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// By this variable, what gdb starts knows that it was started by it.
const UNDER_GDB: &str = "USER_HYPERVISOR_UNDER_GDB";

/// What gdb is told first. The signals are the guest's way into the monitor, and
/// nothing to stop at; the threads' own library would look for threads by a register
/// that the guest has.
const COMMANDS: &str = "\
set confirm off
set pagination off
set breakpoint pending on
handle SIGUSR1 SIGSYS SIGSEGV SIGBUS SIGILL SIGFPE nostop noprint pass
tbreak mock_user_begins
run
";
/// What it says when the guest is there.
const GREETING: &str = "\
echo \\n\
The guest is loaded, and its symbols are there: break pv_guest_main, say, then continue.\\n\
A breakpoint of the guest's own stops, too: signal SIGTRAP hands it on.\\n
";

/// Where the debugger gets the guest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Before its first instruction. Code that the guest changes by itself later takes
    /// no breakpoints yet.
    Start,
    /// At its first call: this project's kernels have changed theirs by then.
    Call,
}

/// Whether gdb watches this process.
pub(super) fn watches() -> bool {
    static WATCHES: OnceLock<bool> = OnceLock::new();
    *WATCHES.get_or_init(|| std::env::var_os(UNDER_GDB).is_some())
}

/// Whether the input is gdb's alone: its commands come from a file.
pub(super) fn has_input() -> bool {
    watches() && !io::stdin().is_terminal()
}

/// Starts gdb in this process's place, which starts this program again with the same
/// options.
pub(super) fn start(kernel: &Path) -> io::Error {
    let prepared = || -> io::Result<Command> {
        let mut file = tempfile()?;
        let kernel = std::fs::canonicalize(kernel)?;
        let kernel = quoted(&kernel.to_string_lossy());
        let commands = format!("{COMMANDS}add-symbol-file {kernel}\n{GREETING}");
        file.0.write_all(commands.as_bytes())?;
        let mut gdb = Command::new("gdb");
        gdb.args(["-q", "-iex", "set auto-load off"])
            .arg("-x")
            .arg(&file.1)
            .arg("--args")
            .arg(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(UNDER_GDB, &file.1);
        Ok(gdb)
    };
    match prepared() {
        Ok(mut gdb) => {
            let error = gdb.exec();
            io::Error::other(format!(
                "cannot start gdb ({error}); install it with: sudo apt-get install -y gdb"
            ))
        }
        Err(error) => error,
    }
}

/// A name as gdb takes it for one word.
fn quoted(name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{name}\"")
}

/// A fresh file, and its path.
fn tempfile() -> io::Result<(std::fs::File, OsString)> {
    let name = format!("user-hypervisor-{}.gdb", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&path)?;
    Ok((file, path.into_os_string()))
}

/// Where gdb stops.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn mock_user_begins() {
    // SAFETY: does nothing; without it, there would be nothing to stop at.
    unsafe { std::arch::asm!("nop") };
}

/// Lets gdb stop, once; whose commands were read by then.
pub(super) fn stop() {
    static HAS_STOPPED: AtomicBool = AtomicBool::new(false);
    if !HAS_STOPPED.swap(true, Ordering::Relaxed)
        && let Some(path) = std::env::var_os(UNDER_GDB)
    {
        let _gone = std::fs::remove_file(path);
        mock_user_begins();
    }
}
