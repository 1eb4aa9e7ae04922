//! That a guest which waits for input sleeps, by the story of what it does.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{
    build::guest::{self, Build},
    say::say,
    xen_machine::machine::spawn,
};

/// How long `tour` waits for a name.
const PATIENCE_US: u64 = 2_000_000;
/// What it says before that, and afterwards, does not count.
const MARGIN_US: u64 = 100_000;

/// Has nobody answer the question of `tour`, and looks at what it did until it gave up.
pub(crate) fn check() -> Result<()> {
    let kernel = guest::build("tour", Build::Kernel)?;
    let mut command = Command::new(guest::build_user_hypervisor()?);
    command
        .arg(kernel)
        .args(["--virtual-time", "--trace", "hypercalls"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(&mut command)?;
    // Open until it has ended: an end of the input would be an answer.
    let input = child.stdin.take();
    let output = child.wait_with_output()?;
    drop(input);
    let console = String::from_utf8_lossy(&output.stdout);
    ensure!(
        console.contains("hello, whoever you are"),
        "it did not wait:\n{console}"
    );
    let story = String::from_utf8_lossy(&output.stderr);
    let call = |line: &str| {
        let (time, call) = line.trim_start().split_once(" us ")?;
        Some((time.parse::<u64>().ok()?, call.to_owned()))
    };
    let calls: Vec<(u64, String)> = story.lines().filter_map(call).collect();
    let (end_us, _) = calls.last().context("nothing is told")?;
    ensure!(*end_us > PATIENCE_US, "it ended after {end_us} us");
    let wait = (end_us - PATIENCE_US + MARGIN_US)..(end_us - MARGIN_US);
    let meanwhile: Vec<_> = calls
        .iter()
        .filter(|(time_us, _)| wait.contains(time_us))
        .collect();
    ensure!(
        calls.len() > meanwhile.len(),
        "the wait is not in the story:\n{story}"
    );
    ensure!(
        meanwhile.is_empty(),
        "tour made {} calls while it waited: {meanwhile:?}",
        meanwhile.len()
    );
    say!(
        "tour makes no call in {} ms of waiting for input",
        (wait.end - wait.start) / 1_000
    );
    Ok(())
}
