//! Somebody on this machine who sends a guest's echo server something, and compares what
//! comes back.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{job::net::Net, peers::visitor::PAUSE};

/// Clients, all at once.
pub(crate) const CLIENTS: usize = 3;
/// More than the buffers on the way have room for.
const BYTES: usize = 300_000;
/// How long an answer may be in coming.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has all clients send and compare. Whoever finds nobody there tries again, until the guest
/// is over.
pub(crate) fn visit(net: Net, over: &AtomicBool) -> Result<String> {
    let client = |number: usize| loop {
        match exchange(net, number) {
            Err(_) if !over.load(Ordering::Relaxed) => thread::sleep(PAUSE),
            result => break result.with_context(|| format!("client {number}")),
        }
    };
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(number)))
            .collect();
        clients.into_iter().try_for_each(|one| {
            let result = one.join();
            result.unwrap_or_else(|_| Err(anyhow::anyhow!("a client has panicked")))
        })
    })?;
    Ok(format!("clients: all {CLIENTS} have what they sent\n"))
}

fn exchange(net: Net, number: usize) -> Result<()> {
    let sent: Vec<u8> = (0..BYTES)
        .map(|at| (at * 31 + number + (at >> 8)) as u8)
        .collect();
    let mut reader = TcpStream::connect(net.address())?;
    reader.set_read_timeout(Some(PATIENCE))?;
    let mut writer = reader.try_clone()?;
    let mut came = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let write = scope.spawn(|| -> Result<()> {
            writer.write_all(&sent)?;
            // Nothing more is sent: what comes ends, too.
            writer.shutdown(Shutdown::Write)?;
            Ok(())
        });
        reader.read_to_end(&mut came)?;
        write.join().unwrap_or(Ok(()))
    })?;
    ensure!(
        came == sent,
        "{} bytes came back of {BYTES}, or others",
        came.len()
    );
    Ok(())
}
