//! Many visitors at once, none of whom may be refused or get something else than he
//! asked for.

use std::{
    fmt,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};

use crate::{
    job::{Crowd, net::Net},
    peers::visitor::{File, PAUSE, Visitor},
};

/// Files up to this size are what a crowd asks for: a larger one keeps all others
/// from being answered.
const MAX_BYTES: usize = 1_000_000;
/// How many files a client asks for by one connection, before he makes another.
const BY_ONE_CONNECTION: usize = 8;
/// How long clients have to come together.
const GATHER: Duration = Duration::from_millis(500);
/// Bytes of a client's stack.
const STACK_BYTES: usize = 1 << 20;

/// Waits until the server has begun, then has all clients ask for files, one
/// after the other, until their time is over.
pub(crate) fn visit(crowd: Crowd, net: Net, over: &AtomicBool) -> Result<String> {
    let mut first = Visitor::new(net, over);
    first.arrive()?;
    let mut files = first.files()?;
    first.hang_up();
    files.retain(|file| file.content.len() <= MAX_BYTES);
    ensure!(!files.is_empty(), "all files are too large for a crowd");
    // All begin when all are there.
    let begin = Instant::now() + GATHER;
    let clients: Result<Vec<Experience>> = thread::scope(|scope| {
        let mut clients = Vec::new();
        for number in 0..crowd.clients {
            let visitor = Visitor::new(net, over);
            let files = &files;
            let client = move || client(crowd, number, visitor, files, begin);
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            clients.push(builder.spawn_scoped(scope, client)?);
        }
        let ends = clients.into_iter().map(|client| client.join());
        ends.map(|end| end.map_err(|_| anyhow!("a client panicked")))
            .collect()
    });
    sum_up(crowd, &clients?, begin.elapsed())
}

fn client(
    crowd: Crowd,
    number: usize,
    mut visitor: Visitor<'_>,
    files: &[File],
    begin: Instant,
) -> Experience {
    let mut experience = Experience::default();
    thread::sleep(begin.saturating_duration_since(Instant::now()));
    for turn in 0.. {
        if begin.elapsed() >= crowd.stay || visitor.is_over() {
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
            Err(failure) => {
                experience.failures.push(failure);
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

fn sum_up(crowd: Crowd, clients: &[Experience], took: Duration) -> Result<String> {
    let answers: usize = clients.iter().map(|one| one.answers).sum();
    let failures: Vec<&Failure> = clients.iter().flat_map(|one| &one.failures).collect();
    let refused = failures.iter().filter(|one| one.is_refusal()).count();
    let corrupted = failures.len() - refused;
    let sum = format!(
        "crowd: {} clients at once for {} s: {answers} answers, {refused} refused, {corrupted} corrupted",
        clients.len(),
        crowd.stay.as_secs()
    );
    if let Some(first) = failures.first() {
        bail!("{sum}; the first so: {first}");
    }
    let least = clients.iter().map(|one| one.answers).min().unwrap_or(0);
    ensure!(least > 0, "{sum}, but one client or more got none at all");
    let slowest = clients.iter().map(|one| one.slowest).max();
    let bytes: usize = clients.iter().map(|one| one.bytes).sum();
    let seconds = took.as_secs_f64();
    Ok(format!(
        "{sum}\n\
         crowd: {:.0} answers and {:.1} MB a second; {least} answers or more for each; the slowest took {:.1} s\n",
        answers as f64 / seconds,
        bytes as f64 / 1e6 / seconds,
        slowest.unwrap_or_default().as_secs_f64()
    ))
}

/// Asks for a file, and compares what comes with the one whose SHA-256 was right.
fn ask(visitor: &Visitor<'_>, file: &File) -> Result<(), Failure> {
    let path = &file.path;
    match visitor.get(path) {
        Err(error) => Err(Failure::Refused(format!("{path}: {error:#}"))),
        Ok((200, content)) if content == file.content => Ok(()),
        Ok((status, content)) => Err(Failure::Corrupted(format!(
            "{path}: status {status}, {} bytes, which are not the {} of the file",
            content.len(),
            file.content.len()
        ))),
    }
}

/// Why a client is not content.
#[derive(Debug)]
enum Failure {
    /// He was not let in, or got no answer, or not to its end.
    Refused(String),
    /// He got another answer than the file.
    Corrupted(String),
}

impl Failure {
    const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(what) | Self::Corrupted(what)) = self;
        f.write_str(what)
    }
}

/// How a client fared.
#[derive(Debug, Default)]
struct Experience {
    answers: usize,
    bytes: usize,
    slowest: Duration,
    failures: Vec<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_secs(40);

    fn happy() -> Experience {
        Experience {
            answers: 30,
            bytes: 20_000_000,
            slowest: Duration::from_millis(1500),
            failures: Vec::new(),
        }
    }

    #[test]
    fn what_a_crowd_got_is_told() {
        let said = sum_up(Crowd::DEFAULT, &[happy(), happy()], TOOK).unwrap();
        assert_eq!(
            said,
            "crowd: 2 clients at once for 30 s: 60 answers, 0 refused, 0 corrupted\n\
             crowd: 2 answers and 1.0 MB a second; 30 answers or more for each; the slowest took 1.5 s\n"
        );
    }

    #[test]
    fn one_failure_is_one_too_many() {
        for (failure, counts) in [
            (Failure::Refused("why".into()), "1 refused, 0 corrupted"),
            (Failure::Corrupted("why".into()), "0 refused, 1 corrupted"),
        ] {
            let unhappy = Experience {
                failures: vec![failure],
                ..happy()
            };
            let error = sum_up(Crowd::DEFAULT, &[happy(), unhappy], TOOK);
            let text = error.unwrap_err().to_string();
            assert!(text.contains(counts), "{text}");
            assert!(text.ends_with("; the first so: why"), "{text}");
        }
    }

    #[test]
    fn nobody_is_forgotten() {
        let forgotten = Experience::default();
        let all = [happy(), forgotten];
        assert!(sum_up(Crowd::DEFAULT, &all, TOOK).is_err());
    }
}
