//! A guest that is looked at from its first instruction: `scene DOMAIN TERMINAL WHAT...`,
//! where `WHAT` is
//!
//! - `boot NAME MARK`: how long it takes until the guest says `MARK`;
//! - `served NAME MARK`: the same, until its web server has answered once;
//! - `web MARK`: what its web server does;
//! - `idle NAME MARK`: what it does with nothing to do.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    domctl::Xen,
    http::{self, Client, Target},
    terminal::Terminal,
    watch,
};

/// The guest's addresses.
const SERVERS: [(&str, IpAddr); 2] = [
    ("v4", IpAddr::V4(Ipv4Addr::new(10, 0, 3, 2))),
    ("v6", IpAddr::V6(Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 0, 2))),
];
pub(crate) const FOLDER: &str = "/job/files";
const FILES: [&str; 2] = ["1k", "100k"];
const CLIENTS: [usize; 2] = [1, 32];
/// How long each load is measured.
const LENGTH: Duration = Duration::from_millis(500);
/// Until a guest that has begun to wait does nothing else.
const SETTLE: Duration = Duration::from_secs(60);
/// How long an idle guest is looked at.
const WINDOW: Duration = Duration::from_secs(30);

/// A guest that is about to run.
struct Scene {
    xen: Xen,
    domain: u32,
    terminal: Terminal,
}

/// How long the guest and domain 0 had run at a moment.
#[derive(Clone, Copy)]
struct Ran {
    at: Instant,
    guest_ns: u64,
    host_ns: u64,
}

impl Scene {
    fn ran(&self) -> Result<Ran> {
        let ran_ns = |domain| self.xen.ran_ns(domain).context("a domain's time");
        Ok(Ran {
            at: Instant::now(),
            guest_ns: ran_ns(self.domain)?,
            host_ns: ran_ns(0)?,
        })
    }

    /// Tells what happened since `start`, under a name.
    fn tell(&self, name: &str, start: Ran, rest: &str) -> Result<()> {
        let end = self.ran()?;
        println!(
            "bench: measure {name} ns={} guest={} dom0={}{rest}",
            (end.at - start.at).as_nanos(),
            end.guest_ns - start.guest_ns,
            end.host_ns - start.host_ns,
        );
        Ok(())
    }
}

/// Sets the guest going, and looks.
pub(crate) fn run(domain: u32, terminal: &Path, what: &[&str]) -> Result<()> {
    let mut scene = Scene {
        xen: Xen::open().context("cannot reach Xen")?,
        domain,
        terminal: Terminal::open(terminal)?,
    };
    let first = Target::new(SERVERS[0].1, Path::new(FOLDER), FILES[0]);
    let start = scene.ran()?;
    scene.xen.unpause(domain).context("cannot unpause it")?;
    match what {
        ["boot", name, mark] => {
            scene.terminal.wait_for(mark)?;
            let first = scene.terminal.first.unwrap_or(start.at) - start.at;
            scene.tell(name, start, &format!(" first={}", first.as_nanos()))
        }
        ["served", name, mark] => {
            scene.terminal.wait_for(mark)?;
            Client::connect(&first?)?.ask()?;
            scene.tell(name, start, "")
        }
        ["web", mark] => {
            scene.terminal.wait_for(mark)?;
            web(&scene)
        }
        ["idle", name, mark] => {
            scene.terminal.wait_for(mark)?;
            thread::sleep(SETTLE);
            let told = watch::idle(domain, WINDOW)?;
            println!("bench: counted {name} {told}");
            Ok(())
        }
        other => bail!("{other:?} is nothing to look at"),
    }
}

/// All files, clients and addresses.
fn web(scene: &Scene) -> Result<()> {
    for (family, server) in SERVERS {
        for file in FILES {
            let target = Target::new(server, Path::new(FOLDER), file)?;
            for clients in CLIENTS {
                let name = format!("{file}-{clients}-{family}");
                let mut start = None;
                let seen = http::load(&target, clients, LENGTH, || {
                    start = Some(scene.ran()?);
                    Ok(())
                });
                let seen = seen.with_context(|| format!("phase {name}"))?;
                let (Some(start), end) = (start, scene.ran()?) else {
                    bail!("phase {name} did not begin");
                };
                println!(
                    "bench: measure {name} ns={} ops={} bytes={} p50={} p99={} guest={} dom0={}",
                    seen.elapsed.as_nanos(),
                    seen.took_ns.len(),
                    seen.took_ns.len() * target.content.len(),
                    seen.percentile(50),
                    seen.percentile(99),
                    end.guest_ns - start.guest_ns,
                    end.host_ns - start.host_ns,
                );
            }
        }
    }
    Ok(())
}
