//! QEMU's control socket.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection.
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Qmp {
    /// Waits for QEMU to listen, and connects.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let writer = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
                Err(error) => return Err(error).context("QEMU did not start"),
            }
        };
        let reader = BufReader::new(writer.try_clone()?);
        let mut qmp = Self { reader, writer };
        qmp.answer()?;
        qmp.call("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU ended");
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Gives a command, and returns its answer.
    pub(crate) fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        writeln!(self.writer, "{line}")?;
        loop {
            let answer = self.answer()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refused {command}: {error}");
            }
        }
    }

    /// Asks for states in a file that is mapped, which makes them quick.
    pub(crate) fn use_mapped_ram(&mut self) -> Result<()> {
        let capabilities = json!([{ "capability": "mapped-ram", "state": true }]);
        let arguments = json!({ "capabilities": capabilities });
        self.call("migrate-set-capabilities", arguments).map(|_| ())
    }

    /// Waits until a state is saved or restored.
    pub(crate) fn wait_for_migration(&mut self) -> Result<()> {
        loop {
            let state = self.call("query-migrate", json!({}))?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed") => bail!("QEMU could not save or restore: {state}"),
                _ => thread::sleep(LOOK_AGAIN),
            }
        }
    }
}
