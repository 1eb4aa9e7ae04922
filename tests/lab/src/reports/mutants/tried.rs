//! All claims, tried on one build of the mock: what each said, and where a guest
//! ended or hung instead. Verdicts do not come by the console: it may be what is broken.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// What the claims are tried in.
#[derive(Clone, Debug)]
pub(super) enum Guest {
    /// A process that is a guest over the mock.
    Process(PathBuf),
    /// The kernel's own image, on the process platform.
    Image {
        hypervisor: PathBuf,
        kernel: PathBuf,
    },
}

/// A domain's type, and the words on its command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) domain_type: &'static str,
    pub(super) words: &'static str,
}

/// How the claims are tried on each: by one interface of two, and by the other; and
/// in a PVH guest.
pub(super) const WAYS: [Way; 3] = [
    Way {
        domain_type: "pv",
        words: "",
    },
    Way {
        domain_type: "pv",
        words: "ports=2level grants=2",
    },
    Way {
        domain_type: "pvh",
        words: "",
    },
];

/// How they are tried in the image, which is a PV guest's.
pub(super) const IMAGES_WAYS: [Way; 1] = [Way {
    domain_type: "pv",
    words: "",
}];

/// The word that has a guest tell its verdicts on the process's standard error.
const ASIDE: &str = "verdicts=aside";
/// How long a guest may say nothing: longer than a claim waits for what does not come
/// before it says so.
const PATIENCE: Duration = Duration::from_secs(25);
/// How many guests are started for the claims that those before did not try.
const MAX_GUESTS: usize = 6;
/// How many in a row may tell nothing.
const MAX_MUTE: usize = 2;

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What the guest said of it.
    Verdict(String),
    /// The guest ended in it.
    Ended,
    /// The guest said nothing more, and was killed.
    Hung,
}

impl Told {
    pub(super) fn has_failed(&self) -> bool {
        matches!(self, Self::Verdict(verdict) if verdict.starts_with("FAILED"))
    }
}

/// How a guest came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All that it was to try was tried.
    Through,
    Early,
    Silent,
}

/// What was told of the claims that were tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) told: BTreeMap<String, Told>,
    /// The claims in their order, where no guest ended early.
    pub(super) order: Vec<String>,
    /// Whether a guest came to the end.
    pub(super) is_whole: bool,
    /// Whether not one guest came to a verdict.
    pub(super) is_mute: bool,
}

impl Trial {
    fn take_line(&mut self, line: &str) -> Option<End> {
        if let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|line| line.trim_end().split_once(" ... "))
        {
            self.order.push(name.to_owned());
            let verdict = Told::Verdict(verdict.to_owned());
            self.told.insert(name.to_owned(), verdict);
        }
        // The last line.
        line.contains(" passed, ").then_some(End::Through)
    }

    fn has_failure(&self) -> bool {
        self.told.values().any(Told::has_failed)
    }
}

/// Tries all claims in one way. `names` are those that there are, in their order: the
/// first without a verdict is the one that a guest did not come back from, and those
/// behind it are tried in another guest, unless one has failed already.
pub(super) fn try_claims(guest: &Guest, way: Way, names: &[String]) -> Result<Trial> {
    let mut trial = Trial::default();
    let mut words = way.words.to_owned();
    let mut mute = 0;
    for _ in 0..MAX_GUESTS {
        let before = trial.told.len();
        let end = run_guest(guest, way.domain_type, &words, &mut trial)?;
        if end == End::Through {
            trial.is_whole = true;
            return Ok(trial);
        }
        mute = if trial.told.len() == before {
            mute + 1
        } else {
            0
        };
        let untold = names.iter().find(|name| !trial.told.contains_key(*name));
        let Some(untold) = untold else {
            return Ok(trial);
        };
        let told = match end {
            End::Silent => Told::Hung,
            _ => Told::Ended,
        };
        let any = trial
            .told
            .values()
            .any(|told| matches!(told, Told::Verdict(_)));
        trial.is_mute = !any;
        trial.told.insert(untold.clone(), told);
        if mute == MAX_MUTE || trial.has_failure() {
            return Ok(trial);
        }
        words = format!("{} after={untold}", way.words);
    }
    Ok(trial)
}

fn run_guest(guest: &Guest, domain_type: &str, words: &str, trial: &mut Trial) -> Result<End> {
    let (mut command, is_aside) = match guest {
        Guest::Process(program) => {
            let mut command = Command::new(program);
            command
                .env("PV_GUEST_CMDLINE", format!("{ASIDE} {words}"))
                .env("PV_GUEST_TYPE", domain_type)
                .env("PV_GUEST_VCPUS", "2");
            (command, true)
        }
        Guest::Image { hypervisor, kernel } => {
            let mut command = Command::new(hypervisor);
            command
                .arg(kernel)
                .args(["--vcpus", "2", "--cmdline", words]);
            (command, false)
        }
    };
    let (output, error) = match is_aside {
        true => (Stdio::null(), Stdio::piped()),
        false => (Stdio::piped(), Stdio::null()),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(error)
        .spawn()?;
    let end = listen(&mut child, trial);
    // One that is through, or silent, goes on to no purpose.
    let _gone = child.kill();
    child.wait()?;
    end
}

/// Takes the lines of a guest until it has tried all, ends, or says nothing for long.
fn listen(child: &mut Child, trial: &mut Trial) -> Result<End> {
    let aside = child
        .stderr
        .take()
        .map(|output| Box::new(output) as Box<dyn Read + Send>);
    let console = child.stdout.take().map(|output| Box::new(output) as _);
    let output = aside.or(console).context("a guest without an output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    loop {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                if let Some(end) = trial.take_line(&String::from_utf8_lossy(&line)) {
                    return Ok(end);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Ok(End::Silent),
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Early),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const WAY: Way = Way {
        domain_type: "pv",
        words: "",
    };

    /// A guest that is a script.
    fn guest(name: &str, script: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_guest_that_ends_early_has_failed_nothing() {
        let script = "exec >&2\ncase \"$PV_GUEST_CMDLINE\" in\n\
            *after=b*) echo 'test c ... ok'; echo '1 passed, 0 failed, 0 skipped';;\n\
            *) echo 'test a ... ok'; exit 67;;\nesac\n";
        let path = guest("ends", script);
        let trial =
            try_claims(&Guest::Process(path.clone()), WAY, &names(&["a", "b", "c"])).unwrap();
        fs::remove_file(path).unwrap();
        assert_eq!(trial.told["b"], Told::Ended);
        assert_eq!(trial.told["c"], Told::Verdict("ok".into()));
        assert!(!trial.has_failure() && !trial.is_mute && trial.is_whole);
    }

    #[test]
    fn a_failed_verdict_is_one() {
        let script = "echo 'test a ... FAILED: it is 1, not 2' >&2\nexit 67\n";
        let path = guest("fails", script);
        let trial = try_claims(&Guest::Process(path.clone()), WAY, &names(&["a", "b"])).unwrap();
        fs::remove_file(path).unwrap();
        assert!(trial.told["a"].has_failed());
        assert!(!trial.is_whole);
        // Nobody asked for the rest, and it is no verdict.
        assert_eq!(trial.told["b"], Told::Ended);
    }

    #[test]
    fn guests_that_tell_nothing_are_mute() {
        let path = guest("mute", "exit 1\n");
        let trial = try_claims(
            &Guest::Process(path.clone()),
            WAY,
            &names(&["a", "b", "c", "d"]),
        )
        .unwrap();
        fs::remove_file(path).unwrap();
        assert!(trial.is_mute);
        assert_eq!(trial.told.len(), MAX_MUTE);
        assert!(!trial.has_failure());
    }
}
