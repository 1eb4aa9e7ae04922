//! That the domain builder of this project and Xen's own agree: a table of kernels'
//! files, of which each has one verdict from both, or a reason why not.

use std::{
    io::{BufRead, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use domain_builder::samples::{Sample, Verdict, table};

use crate::{
    build::guest,
    folders::{self, run_folder},
    job::{Debug, Pace, Start, XenVersion},
    platforms::run::Watchdog,
    say::say,
    xen_machine::machine::{Parts, spawn, write_job},
};

/// What user-hypervisor ends with if it starts no guest.
const NOT_STARTED: i32 = 2;
/// What it says then of a file.
const REFUSED: &str = "the image is refused: ";
const TIMEOUT_HERE: Duration = Duration::from_secs(20);
/// For all files, on Xen.
const TIMEOUT_THERE: Duration = Duration::from_secs(400);
const SCRIPT: &str = include_str!("../../dom0/builders.sh");
const MARK: &str = "@@LAB ";

/// What became of a file, and what was said about it.
struct Told {
    verdict: Verdict,
    said: String,
}

/// Has both builders build all files.
pub(crate) fn compare(xen: XenVersion) -> Result<()> {
    let samples = table();
    let start = Instant::now();
    let there = on_xen(&samples, xen)?;
    ensure!(
        there.len() == samples.len(),
        "Xen gave {} verdicts on {} files",
        there.len(),
        samples.len()
    );
    let seconds = start.elapsed().as_secs_f32();
    let here = on_user(&samples)?;
    let mut wrong = String::new();
    for ((sample, here), there) in samples.iter().zip(here).zip(there) {
        let on_xen = sample.on_xen.map_or(sample.here, |(verdict, _)| verdict);
        for (place, told, expected) in [("user", here, sample.here), ("Xen", there, on_xen)] {
            if told.verdict != expected {
                wrong += &format!(
                    "\na kernel that {} {} on {place}, but it should be that it {expected}: {}",
                    sample.name,
                    told.verdict,
                    told.said.trim()
                );
            }
        }
    }
    if !wrong.is_empty() {
        bail!("{wrong}");
    }
    let other = samples.iter().filter(|sample| sample.on_xen.is_some());
    say!(
        "domain builder: of {} kernels, Xen {} and user have the same verdict but for {}, where the reason is told \
         ({seconds:.0} s on Xen)",
        samples.len(),
        xen.name(),
        other.count()
    );
    Ok(())
}

fn on_user(samples: &[Sample]) -> Result<Vec<Told>> {
    let program = guest::build_user_hypervisor()?;
    let folder = run_folder()?;
    let path = folder.path().join("image");
    let mut all = Vec::new();
    for sample in samples {
        std::fs::write(&path, &sample.file)?;
        let mut command = Command::new(&program);
        command
            .arg(&path)
            .args(["--memory", &sample.memory_mib.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = spawn(&mut command)?;
        let watchdog = Watchdog::start(child.id(), TIMEOUT_HERE);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let expired = watchdog.stop();
        let verdict = match output.status.code() {
            _ if expired => Verdict::Crashes,
            Some(0) => Verdict::Runs,
            Some(NOT_STARTED) if said.contains(REFUSED) => Verdict::Refused,
            _ => Verdict::Crashes,
        };
        all.push(Told { verdict, said });
    }
    Ok(all)
}

/// All of them, one after the other, in one domain 0.
fn on_xen(samples: &[Sample], xen: XenVersion) -> Result<Vec<Told>> {
    let parts = {
        let _lock = folders::lock()?;
        let parts = Parts::ensure(xen)?;
        parts.ensure_saved(Pace::Clock)?;
        parts
    };
    let folder = run_folder()?;
    let names: Vec<[String; 2]> = (0..samples.len())
        .map(|index| [format!("{index}.cfg"), format!("{index}.image")])
        .collect();
    let mut files = vec![("run.sh", SCRIPT.as_bytes().to_vec())];
    for (index, (sample, [configuration, image])) in samples.iter().zip(&names).enumerate() {
        let text = format!(
            "name=\"s{index}\"\ntype=\"pv\"\nkernel=\"/job/{image}\"\nmemory={}\nvcpus=1\n\
             on_poweroff=\"preserve\"\non_crash=\"preserve\"\n",
            sample.memory_mib
        );
        files.push((configuration, text.into_bytes()));
        files.push((image, sample.file.clone()));
    }
    write_job(folder.path(), &files, &[])?;
    let mut machine = parts.start(
        folder.path(),
        Start::Restored,
        Pace::Clock,
        None,
        Debug::Off,
    )?;
    let watchdog = Watchdog::start(machine.pid(), TIMEOUT_THERE);
    let mut input = machine.input()?;
    let output = machine.output()?;
    let bytes: usize = files.iter().map(|(_, content)| content.len() + 1024).sum();
    let blocks = bytes / 65536 + 2;
    writeln!(
        input,
        "echo; dd if=/dev/vda bs=64k count={blocks} iflag=direct 2>/dev/null | tar xf - -C /job; \
         sh /job/run.sh"
    )?;
    input.flush()?;
    let all = read(output).context("domain 0 did not say what became of them")?;
    ensure!(!watchdog.stop(), "Xen did not come to an end with them");
    Ok(all)
}

/// Reads a verdict for each file, with what is said before it.
fn read(output: impl BufRead) -> Result<Vec<Told>> {
    let mut all = Vec::new();
    let mut said = String::new();
    for line in output.lines() {
        let line = line?;
        let Some(mark) = line.trim_end().strip_prefix(MARK) else {
            continue;
        };
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        let verdict = match word {
            "why" => {
                said += rest;
                said.push('\n');
                continue;
            }
            "refused" => Verdict::Refused,
            "runs" => Verdict::Runs,
            "crashes" => Verdict::Crashes,
            "over" => return Ok(all),
            _ => continue,
        };
        let said = std::mem::take(&mut said);
        all.push(Told { verdict, said });
    }
    bail!("its console ended: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_with_their_reasons() {
        let text = "noise\n@@LAB runs\n@@LAB why xl: bad\n(XEN) x\n@@LAB refused\n@@LAB over\n";
        let all = read(text.as_bytes()).unwrap();
        let told: Vec<_> = all
            .iter()
            .map(|told| (told.verdict, told.said.as_str()))
            .collect();
        assert_eq!(told, [(Verdict::Runs, ""), (Verdict::Refused, "xl: bad\n")]);
        assert!(read(b"@@LAB runs\n".as_slice()).is_err());
    }
}
