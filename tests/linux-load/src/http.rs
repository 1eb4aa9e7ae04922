//! Clients of a web server that keep their connections.

use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream},
    path::Path,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// A server that says nothing for so long is one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before what counts: connections are made, and caches filled.
const WARM_UP: Duration = Duration::from_millis(100);
/// What an answer's head has at the most.
const HEAD_BYTES: usize = 4096;

/// Where the server is, and what it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) server: IpAddr,
    pub(crate) port: u16,
    /// The file's name on the server, below its root.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) content: Arc<Vec<u8>>,
}

impl Target {
    /// The file of this name in a folder of this domain's, which the server has, too.
    pub(crate) fn new(server: IpAddr, folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let content = std::fs::read(&path).with_context(|| format!("no {}", path.display()))?;
        Ok(Self {
            server,
            port: 80,
            path: format!("/files/{name}"),
            content: Arc::new(content),
        })
    }
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    request: String,
    target: Target,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect((target.server, target.port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let request = format!("GET {} HTTP/1.1\r\nHost: guest\r\n\r\n", target.path);
        Ok(Self {
            stream,
            request,
            target: target.clone(),
            answer: vec![0; HEAD_BYTES + target.content.len()],
        })
    }

    /// Asks once, and compares the answer.
    pub(crate) fn ask(&mut self) -> Result<()> {
        self.stream.write_all(self.request.as_bytes())?;
        let (mut len, mut whole) = (0, None);
        while whole.is_none_or(|(_, whole)| len < whole) {
            let room = self.answer.get_mut(len..).unwrap_or(&mut []);
            let read = self.stream.read(room).context("no answer")?;
            ensure!(read > 0, "the server has closed the connection");
            len += read;
            if whole.is_none() {
                whole = head(self.answer.get(..len).unwrap_or(&[]))?;
            }
        }
        let body = whole.and_then(|(head, whole)| self.answer.get(head..whole));
        ensure!(
            body == Some(self.target.content.as_slice())
                && whole.is_some_and(|(_, all)| all == len),
            "the answer is not the file"
        );
        Ok(())
    }
}

/// Bytes of an answer's head, and of all of it, once the head is there.
fn head(answer: &[u8]) -> Result<Option<(usize, usize)>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = answer.windows(END.len()).position(|part| part == END) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or(&[])).to_lowercase();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or("");
    ensure!(status.contains(" 200 "), "the server answers {status:?}");
    let length = lines.find_map(|line| line.strip_prefix("content-length:"));
    let Some(length) = length.and_then(|length| length.trim().parse::<usize>().ok()) else {
        bail!("the answer has no length: {head:?}");
    };
    Ok(Some((end + END.len(), end + END.len() + length)))
}

/// What clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long each answer took, in nanoseconds.
    pub(crate) took_ns: Vec<u64>,
    pub(crate) elapsed: Duration,
}

impl Seen {
    /// The time in which so many of a hundred answers came.
    pub(crate) fn percentile(&self, percent: usize) -> u64 {
        let mut sorted = self.took_ns.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or(0)
    }
}

/// So many clients at once, each of whom asks again when it was answered, for so long.
/// `begin` is called when all are at work.
pub(crate) fn load(
    target: &Target,
    clients: usize,
    length: Duration,
    begin: impl FnOnce() -> Result<()>,
) -> Result<Seen> {
    let start = Arc::new(Barrier::new(clients + 1));
    let works: Vec<_> = (0..clients)
        .map(|_| {
            let (target, start) = (target.clone(), Arc::clone(&start));
            thread::spawn(move || {
                let client = Client::connect(&target);
                start.wait();
                work(client?, Instant::now() + WARM_UP, length)
            })
        })
        .collect();
    start.wait();
    thread::sleep(WARM_UP);
    begin()?;
    let mut seen = Seen {
        elapsed: length,
        ..Seen::default()
    };
    for work in works {
        let one = work
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        seen.took_ns.extend(one);
    }
    Ok(seen)
}

/// The answers that came in time.
fn work(mut client: Client, begin: Instant, length: Duration) -> Result<Vec<u64>> {
    let end = begin + length;
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok(took);
        }
        client.ask()?;
        let answered = Instant::now();
        if answered > begin && answered <= end {
            took.push((answered - asked).as_nanos() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-").unwrap(), None);
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n1234567";
        assert_eq!(head(whole).unwrap(), Some((whole.len() - 7, whole.len())));
        assert!(head(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\n").is_err());
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn percentiles_are_of_sorted_times() {
        let seen = Seen {
            took_ns: (1..=200).rev().collect(),
            ..Seen::default()
        };
        assert_eq!((seen.percentile(50), seen.percentile(99)), (101, 199));
        assert_eq!(Seen::default().percentile(50), 0);
    }
}
