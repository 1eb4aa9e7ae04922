//! That nothing leads out of the lab's machine but what was asked for: neither to this
//! host, nor by it to others.

use std::{io::ErrorKind, net::TcpListener};

use anyhow::{Result, bail, ensure};

use crate::{
    checks::matrix::Column,
    job::{Job, With, exit::Ended},
    platforms::run::run,
};

/// What QEMU's network calls the host that it runs on.
const HOST: &str = "10.0.2.2";

/// Has domain 0 try to reach a port that this process has open.
pub(crate) fn check(column: Column) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let job = Job {
        xen: column.xen,
        with: With::Outward,
        command_line: format!("outward={HOST}:{}", listener.local_addr()?.port()),
        ..Job::new("hello", column.platform)
    };
    let report = run(&job)?;
    ensure!(
        report.ended == Ended::Shutdown(0) && report.console.contains("dom0: outward: tried"),
        "nobody tried: {}\n{}",
        report.ended,
        report.console
    );
    match listener.accept() {
        Ok(_) => bail!("the machine reached this host:\n{}", report.console),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error.into()),
    }
    ensure!(
        report.console.contains("dom0: outward: nobody answers"),
        "somebody answers\n{}",
        report.console
    );
    Ok(())
}
