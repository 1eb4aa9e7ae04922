//! Where little is allowed: a guest runs as the process of an ordinary user; and where
//! the kernel has not what it takes, it is said what that is.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    build::guest::{self, Build},
    say::say,
};

/// A system call that is refused.
struct Refused {
    number: libc::c_long,
    /// Only with these arguments, by their places.
    with: &'static [(u32, u32)],
    errno: i32,
    /// What is to be said then.
    told: &'static str,
}

const PR_SET_SYSCALL_USER_DISPATCH: u32 = 59;
const REFUSED: [Refused; 4] = [
    Refused {
        number: libc::SYS_prctl,
        with: &[(0, PR_SET_SYSCALL_USER_DISPATCH)],
        errno: libc::EINVAL,
        told: "this kernel has no syscall user dispatch",
    },
    Refused {
        number: libc::SYS_memfd_create,
        with: &[],
        errno: libc::ENOSYS,
        told: "a file without a name (memfd_create): Function not implemented",
    },
    Refused {
        number: libc::SYS_mmap,
        with: &[
            (2, (libc::PROT_READ | libc::PROT_EXEC) as u32),
            (3, (libc::MAP_SHARED | libc::MAP_FIXED) as u32),
        ],
        errno: libc::EPERM,
        told: "this host may forbid code in memory that is shared",
    },
    Refused {
        number: libc::SYS_timer_create,
        with: &[],
        errno: libc::EAGAIN,
        told: "no timer for a vCPU: Resource temporarily unavailable",
    },
];

/// A user without rights, and whose there are no files.
const NOBODY: u32 = 65_534;

/// Runs a guest so, and so.
pub(crate) fn check() -> Result<()> {
    let kernel = guest::build("hello", Build::Kernel)?;
    let program = guest::build_user_hypervisor()?;
    // A copy that anybody may read, wherever this workspace is.
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()?;
    let copy = |path: &Path| -> Result<_> {
        let copy = folder.path().join(path.file_name().context("no name")?);
        std::fs::copy(path, &copy)?;
        Ok(copy)
    };
    let (kernel, program) = (copy(&kernel)?, copy(&program)?);
    let command = || {
        let mut command = Command::new(&program);
        command.arg(&kernel).stdin(Stdio::null());
        // SAFETY: asks who we are.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let output = command().output().context("cannot run it")?;
    ensure!(
        output.status.success() && output.stdout.starts_with(b"hello from PV"),
        "an ordinary user is told: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    for refused in REFUSED {
        let mut command = command();
        let filter = filter(&refused);
        // SAFETY: two system calls, of memory that is there.
        unsafe { command.pre_exec(move || install(&filter)) };
        let output = command.output().context("cannot run it")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            said.contains(refused.told) && !output.status.success(),
            "where {:?} is missing, it is not said:\n{said}",
            refused.told
        );
    }
    say!("an ordinary user may run guests on user, and is told what is missing");
    Ok(())
}

/// The program that refuses a call: it reads the call's number, and perhaps halves of
/// arguments.
fn filter(refused: &Refused) -> Vec<libc::sock_filter> {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    /// Where the arguments begin in what is told of a call.
    const ARGUMENTS: u32 = 16;
    let step = |code, k, otherwise| libc::sock_filter {
        code,
        jt: 0,
        jf: otherwise,
        k,
    };
    // Whatever does not match leads to the last step, which allows it.
    let count = 2 + 2 * refused.with.len();
    let behind = |place: usize| (count - place) as u8;
    let mut steps = vec![step(LOAD, 0, 0)];
    steps.push(step(IS, refused.number as u32, behind(1)));
    for (place, value) in refused.with {
        steps.push(step(LOAD, ARGUMENTS + 8 * place, 0));
        steps.push(step(IS, *value, behind(steps.len())));
    }
    steps.extend([
        step(RETURN, libc::SECCOMP_RET_ERRNO | refused.errno as u32, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ]);
    steps
}

fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: for what is run from here on, which is to get no rights.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the program is there, and is copied.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    match done == 0 && installed == 0 {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}
