//! Somebody on this machine who fetches what a guest serves, and looks at it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{build::disk, job::net::Net};

/// How long an answer may be in beginning. A network in software may take its time.
const BEGIN: Duration = Duration::from_secs(60);
/// How long it may be in coming.
const BODY: Duration = Duration::from_secs(900);
/// How long a try takes while the server has not begun.
const TRY: Duration = Duration::from_secs(20);
pub(crate) const PAUSE: Duration = Duration::from_millis(200);
/// The most bytes of a file.
const MAX_BYTES: u64 = 1 << 30;

/// A file of the server's.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// How long it was in coming.
    took: Duration,
}

/// A visitor of a guest's server.
pub(crate) struct Visitor<'a> {
    net: Net,
    agent: ureq::Agent,
    /// The guest has ended: nobody will answer.
    over: &'a AtomicBool,
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(net: Net, over: &'a AtomicBool) -> Self {
        Self {
            net,
            agent: agent(),
            over,
        }
    }

    /// A connection is kept for what is asked for next.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, Vec<u8>)> {
        get(&self.agent, self.net, path)
    }

    /// The next question makes a new connection.
    pub(crate) fn hang_up(&mut self) {
        self.agent = agent();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Takes all files, which are what SHA256SUMS says.
    pub(crate) fn files(&self) -> Result<Vec<File>> {
        let (status, sums) = self.get("files/SHA256SUMS")?;
        ensure!(status == 200, "there is no SHA256SUMS");
        let mut files = Vec::new();
        for line in String::from_utf8(sums)?.lines() {
            let (sum, name) = line.split_once("  ").context("no sum and name")?;
            let path = format!("files/{name}");
            let asked = Instant::now();
            let (_, content) = self.get(&path)?;
            let took = asked.elapsed();
            let found = disk::sum(&content);
            ensure!(found == sum, "{name} is not what SHA256SUMS says");
            files.push(File {
                path,
                content,
                took,
            });
        }
        ensure!(!files.is_empty(), "there are no files");
        Ok(files)
    }

    /// Waits until the server has begun, and has a look at its page.
    pub(crate) fn arrive(&self) -> Result<()> {
        let hasty: ureq::Agent = settings().timeout_global(Some(TRY)).build().into();
        let (status, page) = loop {
            match get(&hasty, self.net, "") {
                Ok(answer) => break answer,
                Err(error) if self.is_over() => return Err(error),
                // It has not begun yet.
                Err(_) => thread::sleep(PAUSE),
            }
        };
        ensure!(status == 200 && !page.is_empty(), "the page is not there");
        Ok(())
    }

    /// Fetches what is on the server, and says what it found.
    pub(crate) fn visit(&self) -> Result<String> {
        self.arrive()?;
        let files = self.files()?;
        let (status, figures) = self.get("status.json")?;
        let figures: serde_json::Value = serde_json::from_slice(&figures)?;
        ensure!(
            status == 200 && figures["net"]["rx_packets"].as_u64() > Some(0),
            "the figures make no sense: {figures}"
        );
        if self.get("nothing")?.0 != 404 {
            bail!("there is something where nothing is");
        }
        let bytes: usize = files.iter().map(|file| file.content.len()).sum();
        let seconds = files
            .iter()
            .map(|file| file.took.as_secs_f64())
            .sum::<f64>();
        Ok(format!(
            "visitor: {} files are what SHA256SUMS says\n\
             visitor: {bytes} bytes of files in {seconds:.1} s, {:.1} MB a second\n",
            files.len(),
            bytes as f64 / 1e6 / seconds
        ))
    }
}

fn settings() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    ureq::Agent::config_builder()
        .timeout_connect(Some(BEGIN))
        .timeout_recv_response(Some(BEGIN))
        .timeout_recv_body(Some(BODY))
        .http_status_as_error(false)
}

fn agent() -> ureq::Agent {
    settings().build().into()
}

fn get(agent: &ureq::Agent, net: Net, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut response = agent.get(format!("{}{path}", net.url())).call()?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MAX_BYTES);
    Ok((status, body.read_to_vec()?))
}
