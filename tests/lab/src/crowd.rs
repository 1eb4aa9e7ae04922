//! Many visitors at once, none of whom may be refused or get something else than he
//! asked for.

use std::{
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::{
    net::Net,
    visitor::{File, PAUSE, Visitor},
};

/// Files up to this size are what a crowd asks for: a larger one keeps all others
/// from being answered.
const MOST_BYTES: usize = 1_000_000;
/// How many files a client asks for by one connection, before he makes another.
const BY_ONE_CONNECTION: usize = 8;
/// How long clients have to come together.
const GATHER: Duration = Duration::from_millis(500);
/// Bytes of a client's stack.
const STACK_BYTES: usize = 1 << 20;

/// How many come, and how long they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) clients: usize,
    pub(crate) stay: Duration,
}

impl Default for Crowd {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Crowd {
    /// As many as are promised an answer.
    pub(crate) const DEFAULT: Self = Self {
        clients: 200,
        stay: Duration::from_secs(30),
    };

    /// Waits until the server has begun, then has all clients ask for files, one
    /// after the other, until their time is over.
    pub(crate) fn visit(self, net: Net, over: &AtomicBool) -> Result<String> {
        let mut first = Visitor::new(net, over);
        let mut files = first.files()?;
        first.hang_up();
        files.retain(|file| file.content.len() <= MOST_BYTES);
        ensure!(!files.is_empty(), "all files are too large for a crowd");
        // All begin when all are there.
        let begin = Instant::now() + GATHER;
        let clients: Result<Vec<Experience>> = thread::scope(|scope| {
            let mut clients = Vec::new();
            for number in 0..self.clients {
                let visitor = Visitor::new(net, over);
                let files = &files;
                let client = move || self.client(number, visitor, files, begin);
                let builder = thread::Builder::new().stack_size(STACK_BYTES);
                clients.push(builder.spawn_scoped(scope, client)?);
            }
            let ends = clients.into_iter().map(|client| client.join());
            ends.map(|end| end.map_err(|_| anyhow!("a client panicked")))
                .collect()
        });
        self.sum_up(&clients?)
    }

    fn client(
        self,
        number: usize,
        mut visitor: Visitor<'_>,
        files: &[File],
        begin: Instant,
    ) -> Experience {
        let mut experience = Experience::default();
        thread::sleep(begin.saturating_duration_since(Instant::now()));
        for turn in 0.. {
            if begin.elapsed() >= self.stay || visitor.is_over() {
                break;
            }
            let Some(file) = files.get((number + turn) % files.len()) else {
                break;
            };
            let asked = Instant::now();
            match ask(&visitor, file) {
                Ok(()) => {
                    experience.answers += 1;
                    experience.bytes += file.content.len();
                    experience.slowest = experience.slowest.max(asked.elapsed());
                }
                Err(error) => {
                    experience.failures.push(format!("{error:#}"));
                    visitor.hang_up();
                    thread::sleep(PAUSE);
                }
            }
            if turn % BY_ONE_CONNECTION == BY_ONE_CONNECTION - 1 {
                visitor.hang_up();
            }
        }
        experience
    }

    fn sum_up(self, clients: &[Experience]) -> Result<String> {
        let failures: Vec<&String> = clients.iter().flat_map(|one| &one.failures).collect();
        let answers: usize = clients.iter().map(|one| one.answers).sum();
        if let Some(first) = failures.first() {
            bail!(
                "{} of {} questions failed, the first so: {first}",
                failures.len(),
                failures.len() + answers
            );
        }
        let without = clients.iter().filter(|one| one.answers == 0).count();
        ensure!(without == 0, "{without} clients got no answer at all");
        let least = clients.iter().map(|one| one.answers).min().unwrap_or(0);
        let slowest = clients.iter().map(|one| one.slowest).max();
        let bytes: usize = clients.iter().map(|one| one.bytes).sum();
        Ok(format!(
            "crowd: {} clients at once for {} s got {answers} answers, all right\n\
             crowd: {:.1} MB; {least} answers or more for each; the slowest took {:.1} s\n",
            clients.len(),
            self.stay.as_secs(),
            bytes as f64 / 1e6,
            slowest.unwrap_or_default().as_secs_f64()
        ))
    }
}

/// Asks for a file, and compares what comes with the one whose SHA-256 was right.
fn ask(visitor: &Visitor<'_>, file: &File) -> Result<()> {
    let (status, content) = visitor.get(&file.path).with_context(|| file.path.clone())?;
    ensure!(status == 200, "{}: status {status}", file.path);
    if content != file.content {
        let (there, wanted) = (content.len(), file.content.len());
        bail!("{}: {there} bytes of {wanted}, which are others", file.path);
    }
    Ok(())
}

/// How a client fared.
#[derive(Debug, Default)]
struct Experience {
    answers: usize,
    bytes: usize,
    slowest: Duration,
    failures: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happy() -> Experience {
        Experience {
            answers: 3,
            bytes: 2_000_000,
            slowest: Duration::from_millis(1500),
            failures: Vec::new(),
        }
    }

    #[test]
    fn one_failure_is_one_too_many() {
        let said = Crowd::DEFAULT.sum_up(&[happy(), happy()]).unwrap();
        assert!(said.starts_with("crowd: 2 clients at once for 30 s got 6 answers, all right\n"));
        assert!(said.contains("4.0 MB; 3 answers or more for each; the slowest took 1.5 s"));
        let unhappy = Experience {
            failures: vec!["refused".into()],
            ..happy()
        };
        let error = Crowd::DEFAULT.sum_up(&[happy(), unhappy]).unwrap_err();
        let text = error.to_string();
        assert_eq!(text, "1 of 7 questions failed, the first so: refused");
        let ignored = Experience::default();
        assert!(Crowd::DEFAULT.sum_up(&[happy(), ignored]).is_err());
    }
}
