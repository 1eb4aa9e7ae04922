//! Counts what a guest and domain 0 do, when the guest's console says that it is
//! time.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use load_plan::{Device, Phase, Purpose};

use crate::trace::{Sum, Trace};

const LOOK: Duration = Duration::from_millis(5);
/// Until the load is even.
const LEAD: Duration = Duration::from_millis(40);
/// Until the tracer is at work.
const START: Duration = Duration::from_millis(60);
/// How long is counted.
const WINDOW: Duration = Duration::from_millis(150);
const FILE: &str = "/tmp/trace";
/// What is recorded: the scheduler, guests with hardware support, and those without.
const EVENTS: &str = "0x2af000";

const EVENT_CHANNEL_OP: u32 = 32;
const SCHED_OP: u32 = 29;

/// Follows the console until its end, which is that of this process.
pub(crate) fn run(domain: u32, log: &Path) -> Result<()> {
    let mut place = 0;
    let mut line = String::new();
    loop {
        thread::sleep(LOOK);
        let Ok(mut file) = File::open(log) else {
            continue;
        };
        file.seek(SeekFrom::Start(place))?;
        let mut bytes = Vec::new();
        place += file.read_to_end(&mut bytes)? as u64;
        for character in String::from_utf8_lossy(&bytes).chars() {
            if character != '\n' {
                line.push(character);
                continue;
            }
            let start = format!("bench: begin {} ", Purpose::Count.word());
            if let Some(name) = line.trim_end().strip_prefix(&start)
                && let Ok(phase) = name.parse()
            {
                match count(domain, &phase) {
                    Ok(told) => println!("{told}"),
                    Err(error) => println!("bench: not counted {phase}: {error:#}"),
                }
            }
            line.clear();
        }
    }
}

fn ticks() -> u64 {
    // SAFETY: reads the processor's counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// What is done while `window` passes, with what `look` says at its ends.
fn record<T>(window: Duration, look: impl Fn() -> Result<T>) -> Result<(Trace, u64, T, T)> {
    let mut tracer = Command::new("xentrace")
        .args(["-D", "-S", "1024", "-e", EVENTS, FILE])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot run xentrace")?;
    thread::sleep(START);
    let (first, start) = (look()?, ticks());
    thread::sleep(window);
    let (last, end) = (look()?, ticks());
    // SAFETY: a signal to a child that was not waited for yet.
    unsafe { libc::kill(tracer.id().cast_signed(), libc::SIGINT) };
    tracer.wait()?;
    let trace = Trace::read(&fs::read(FILE)?, start, end);
    fs::remove_file(FILE)?;
    Ok((trace, end - start, first, last))
}

/// What an idle guest does in so long.
pub(crate) fn idle(domain: u32, window: Duration) -> Result<String> {
    let (trace, ticks, ..) = record(window, || Ok(()))?;
    let none = Sum::default();
    let guest = trace.domains.get(&domain).unwrap_or(&none);
    Ok(format!(
        "ms={} ticks={ticks} lost={} wakeups={} calls={} exits={} ran={}",
        window.as_millis(),
        trace.lost,
        guest.entries,
        guest.calls(),
        guest.all_exits(),
        guest.ran,
    ))
}

fn count(domain: u32, phase: &Phase) -> Result<String> {
    thread::sleep(LEAD);
    let (trace, ticks, first, last) = record(WINDOW, || requests(domain, phase))?;
    let none = Sum::default();
    let sum = |domain: u32| trace.domains.get(&domain).unwrap_or(&none);
    let (guest, host) = (sum(domain), sum(0));
    let of = |sum: &Sum, number: u32| sum.hypercalls.get(&number).copied().unwrap_or(0);
    Ok(format!(
        "bench: counted {phase} requests={} ticks={} lost={} guest-calls={} guest-events={} \
         guest-sched={} guest-grants={} guest-exits={} guest-ran={} dom0-calls={} \
         dom0-events={} dom0-grants={} dom0-ran={}",
        last - first,
        ticks,
        trace.lost,
        guest.calls(),
        of(guest, EVENT_CHANNEL_OP),
        of(guest, SCHED_OP),
        guest.grant_ops,
        guest.all_exits(),
        guest.ran,
        host.calls(),
        of(host, EVENT_CHANNEL_OP),
        host.grant_ops,
        host.ran,
    ))
}

/// What the backend has done so far: requests, or packets both ways.
fn requests(domain: u32, phase: &Phase) -> Result<u64> {
    let files: Vec<PathBuf> = match phase.device() {
        Device::Disk => {
            let folder = format!("/sys/bus/xen-backend/devices/vbd-{domain}-51712/statistics");
            ["rd_req", "wr_req", "f_req"]
                .map(|name| Path::new(&folder).join(name))
                .to_vec()
        }
        Device::Network => {
            let folder = format!("/sys/class/net/vif{domain}.0/statistics");
            ["rx_packets", "tx_packets"]
                .map(|name| Path::new(&folder).join(name))
                .to_vec()
        }
    };
    files.iter().try_fold(0, |sum, path| {
        let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
        Ok(sum + text.trim().parse::<u64>().context("no number")?)
    })
}
