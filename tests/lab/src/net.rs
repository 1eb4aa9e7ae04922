//! Networks for guests: a port of this machine that leads to a guest's port 80,
//! and a visitor who tries what is there.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Guests that are of no use without a network.
const WANT_ONE: [&str; 1] = ["web"];
/// The port that they get, if it is free.
const USUAL_PORT: u16 = 8080;
/// The address that QEMU's network gives to the first who asks.
const GUEST: &str = "10.0.2.15:80";
const PAUSE: Duration = Duration::from_millis(200);

/// A guest's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    /// The port that leads to it.
    pub(crate) port: u16,
}

impl Net {
    /// The network of a guest, which was asked for or which it wants anyway.
    pub(crate) fn of(guest: &str, wanted: Option<u16>) -> Result<Option<Self>> {
        let listener = match wanted {
            None if !WANT_ONE.contains(&guest) => return Ok(None),
            None => TcpListener::bind(("127.0.0.1", USUAL_PORT))
                .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?,
            Some(port) => TcpListener::bind(("127.0.0.1", port))
                .with_context(|| format!("port {port} is not to be had; --net 0 takes any"))?,
        };
        let port = listener.local_addr()?.port();
        Ok(Some(Self { port }))
    }

    /// Where a browser finds it.
    pub(crate) fn url(self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Fetches what is on the server, and says what it found.
    pub(crate) fn visit(self, patience: Duration) -> Result<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .build()
            .into();
        let get = |path: &str| -> Result<(u16, Vec<u8>)> {
            let mut response = agent.get(format!("{}{path}", self.url())).call()?;
            let status = response.status().as_u16();
            let body = response.body_mut().with_config().limit(1 << 30);
            Ok((status, body.read_to_vec()?))
        };
        let deadline = Instant::now() + patience;
        let (status, page) = loop {
            match get("") {
                Ok(answer) => break answer,
                Err(error) if Instant::now() > deadline => return Err(error),
                // It has not begun yet.
                Err(_) => thread::sleep(PAUSE),
            }
        };
        ensure!(status == 200 && !page.is_empty(), "the page is not there");
        let (status, figures) = get("status.json")?;
        let figures: serde_json::Value = serde_json::from_slice(&figures)?;
        ensure!(
            status == 200 && figures["net"]["rx_packets"].as_u64() > Some(0),
            "the figures make no sense: {figures}"
        );
        ensure!(
            get("nothing")?.0 == 404,
            "there is something where nothing is"
        );
        let (_, sums) = get("files/SHA256SUMS")?;
        let mut right = 0;
        for line in String::from_utf8(sums)?.lines() {
            let (sum, name) = line.split_once("  ").context("no sum and name")?;
            let (_, content) = get(&format!("files/{name}"))?;
            let found: String = Sha256::digest(&content)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            ensure!(found == sum, "{name} is not what SHA256SUMS says");
            right += 1;
        }
        Ok(format!("visitor: {right} files are what SHA256SUMS says\n"))
    }
}

/// The network of the lab's machine, as QEMU is told of it.
pub(crate) fn user(net: Option<Net>) -> String {
    let forward = net.map(|net| format!(",hostfwd=tcp:127.0.0.1:{}-{GUEST}", net.port));
    format!("user,id=net0{}", forward.unwrap_or_default())
}
