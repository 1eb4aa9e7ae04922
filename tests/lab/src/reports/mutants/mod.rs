//! Whether the claims find bugs: some are planted in the mock and in the process platform,
//! one by one, in a copy of the sources, and the claims are tried on each.
//!
//! A bug is found if a claim *says* that it does not hold. A guest that ends or hangs in
//! the middle of a claim says nothing: that is told in columns of its own.

mod list;
mod tried;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::{build::guest, folders, say::say};

use list::Front;
use tried::{Guest, IMAGES_WAYS, Told, Trial, WAYS, Way};

/// How many of all must be found, in percent.
const MIN_PERCENT: usize = 93;
/// A find by no more claims than these is looked at again: one may have failed because
/// the machine is busy.
const FEW: usize = 2;

/// Plants them all, and says which are found, and by what.
pub(crate) fn run(names: &[String]) -> Result<u8> {
    let wanted = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let _lock = folders::lock_for("mutants.lock")?;
    let copy = copy()?;
    let fronts = [Front::Mock, Front::User].map(|front| {
        let is_wanted = |bug: &list::Mutant| bug.front == front && wanted(bug.name);
        let is_any = list::all().any(is_wanted);
        is_any.then(|| Healthy::new(&copy, front)).transpose()
    });
    let [mock, user] = fronts;
    let (mock, user) = (mock?, user?);
    let mut counts = Counts::default();
    say!("| planted in the mock | failed | ended in | hung in |\n|---|---|---|---|");
    for mutant in list::all().filter(|bug| wanted(bug.name)) {
        let path = copy.join("tests/mock-hypervisor/src").join(mutant.file);
        let text = fs::read_to_string(&path)?;
        if text.matches(mutant.from).count() != 1 {
            bail!("{}: {:?} is not there once", mutant.file, mutant.from);
        }
        fs::write(&path, text.replace(mutant.from, mutant.to))?;
        let built = build(&copy, mutant.front);
        let healthy = match mutant.front {
            Front::Mock => &mock,
            Front::User => &user,
        };
        let told = match (&built, healthy) {
            (Ok(Some(())), Some(healthy)) => look(healthy),
            _ => Ok(Finding::default()),
        };
        fs::write(&path, text)?;
        built?.with_context(|| format!("{:?} does not build", mutant.name))?;
        let finding = told?;
        counts.take(&finding);
        say!("| {} | {} |", mutant.name, finding.columns().join(" | "));
    }
    say!("\n{counts}");
    let (found, tried) = (counts.found, counts.tried);
    Ok(u8::from(found * 100 < tried * MIN_PERCENT))
}

/// What became of a bug.
#[derive(Debug, Default, PartialEq, Eq)]
struct Finding {
    /// The claims that say that they do not hold.
    failed: Vec<String>,
    /// Those that a guest ended in.
    ended: Vec<String>,
    /// Those that a guest hung in.
    hung: Vec<String>,
    /// In how many ways they were tried.
    ways: usize,
    /// In how many no guest came to a verdict at all.
    mute_ways: usize,
}

impl Finding {
    fn take(&mut self, trial: &Trial) {
        self.ways += 1;
        self.mute_ways += usize::from(trial.is_mute);
        for (name, told) in &trial.told {
            let list = match told {
                told if told.has_failed() => &mut self.failed,
                Told::Ended => &mut self.ended,
                Told::Hung => &mut self.hung,
                Told::Verdict(_) => continue,
            };
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
    }

    fn columns(&self) -> [String; 3] {
        let by = |names: &[String]| match names {
            [] => String::new(),
            [one] => format!("`{one}`"),
            [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
        };
        let failed = match self.failed.as_slice() {
            [] => "**none**".to_owned(),
            names => by(names),
        };
        let mut columns = [failed, by(&self.ended), by(&self.hung)];
        if self.mute_ways > 0 {
            let text = format!(" (no verdict in {} of {} ways)", self.mute_ways, self.ways);
            columns[0].push_str(&text);
        }
        columns
    }
}

/// How many bugs became what.
#[derive(Debug, Default)]
struct Counts {
    tried: usize,
    found: usize,
    ended: usize,
    hung: usize,
    mute: usize,
}

impl Counts {
    fn take(&mut self, finding: &Finding) {
        self.tried += 1;
        let count = match finding {
            Finding { failed, .. } if !failed.is_empty() => &mut self.found,
            Finding {
                mute_ways, ways, ..
            } if mute_ways == ways => &mut self.mute,
            Finding { ended, .. } if !ended.is_empty() => &mut self.ended,
            Finding { hung, .. } if !hung.is_empty() => &mut self.hung,
            _ => return,
        };
        *count += 1;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            tried,
            found,
            ended,
            hung,
            mute,
        } = self;
        let unseen = tried - found - ended - hung - mute;
        write!(
            f,
            "{found} of {tried} bugs were found by a claim that failed; {ended} ended a guest \
             and {hung} hung one without a claim that failed, {mute} let no guest come to a \
             verdict, {unseen} were not seen"
        )
    }
}

/// What the claims are tried in, and what they say of it as it is.
struct Healthy {
    guest: Guest,
    ways: &'static [Way],
    trials: Vec<Trial>,
}

impl Healthy {
    fn new(copy: &Path, front: Front) -> Result<Self> {
        build(copy, front)?.context("it does not build as it is")?;
        let program = |name: &str| copy.join("target/debug").join(name);
        let (guest, ways) = match front {
            Front::Mock => (Guest::Process(program("conformance")), &WAYS[..]),
            Front::User => {
                let hypervisor = program("user-hypervisor");
                let kernel = guest::build("conformance", guest::Build::Kernel)?;
                (Guest::Image { hypervisor, kernel }, &IMAGES_WAYS[..])
            }
        };
        let mut trials = try_all(&guest, ways, &[])?;
        if Self::check(&trials).is_err() {
            // The machine may be busy.
            trials = try_all(&guest, ways, &[])?;
        }
        Self::check(&trials)?;
        Ok(Self {
            guest,
            ways,
            trials,
        })
    }

    /// Whether all claims hold that are tried.
    fn check(trials: &[Trial]) -> Result<()> {
        for trial in trials {
            if !trial.is_whole {
                // What is not tried here is not missed where a bug is planted.
                bail!("without a bug, a guest does not come to the end");
            }
            for (name, told) in &trial.told {
                if told.has_failed() || !matches!(told, Told::Verdict(_)) {
                    bail!("without a bug, {name} is {told:?}");
                }
            }
        }
        Ok(())
    }
}

/// Tries the claims on a bug; what only few of them say, they are asked again.
fn look(healthy: &Healthy) -> Result<Finding> {
    let find = || -> Result<Finding> {
        let mut finding = Finding::default();
        for trial in try_all(&healthy.guest, healthy.ways, &healthy.trials)? {
            finding.take(&trial);
        }
        Ok(finding)
    };
    let mut finding = find()?;
    if (1..=FEW).contains(&finding.failed.len()) {
        let again = find()?;
        finding.failed.retain(|name| again.failed.contains(name));
    }
    Ok(finding)
}

/// Tries all claims in every way, all ways at once: claims sleep more than they work.
fn try_all(guest: &Guest, ways: &[Way], healthy: &[Trial]) -> Result<Vec<Trial>> {
    thread::scope(|scope| {
        let trials: Vec<_> = ways
            .iter()
            .enumerate()
            .map(|(index, way)| {
                let names = healthy.get(index).map_or(&[][..], |trial| &trial.order);
                scope.spawn(move || tried::try_claims(guest, *way, names))
            })
            .collect();
        trials
            .into_iter()
            .map(|trial| trial.join().map_err(|_| anyhow::anyhow!("a panic"))?)
            .collect()
    })
}

/// The sources, in a folder of their own: a bug must not meet anybody's work.
fn copy() -> Result<PathBuf> {
    let root = folders::root();
    let files = Command::new("git")
        .current_dir(&root)
        .args(["ls-files", "-z"])
        .output()
        .context("cannot run git")?;
    let copy = folders::cache().join("mutants");
    for name in files.stdout.split(|byte| *byte == 0) {
        let name = String::from_utf8_lossy(name);
        let (source, target) = (root.join(&*name), copy.join(&*name));
        if name.is_empty() || !source.is_file() {
            continue;
        }
        let content = fs::read(&source)?;
        // What is the same keeps its time: it is not built again.
        if fs::read(&target).ok().as_ref() != Some(&content) {
            fs::create_dir_all(target.parent().context("no folder")?)?;
            fs::write(&target, content)?;
        }
    }
    Ok(copy)
}

/// Builds it; `None` if the compiler refuses.
fn build(copy: &Path, front: Front) -> Result<Option<()>> {
    let arguments: &[&str] = match front {
        Front::Mock => &["--package", "conformance"],
        Front::User => &[
            "--package",
            "mock-hypervisor",
            "--features",
            "user",
            "--bin",
            "user-hypervisor",
        ],
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        // Nobody looks into it: it is linked sooner without.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .args(["build", "--quiet"])
        .args(arguments)
        .stderr(Stdio::null())
        .status()
        .context("cannot run cargo")?;
    Ok(status.success().then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(told: &[(&str, Told)], is_mute: bool) -> Trial {
        let told = told
            .iter()
            .map(|(name, told)| ((*name).to_owned(), told.clone()));
        Trial {
            told: told.collect(),
            order: Vec::new(),
            is_whole: false,
            is_mute,
        }
    }

    fn finding(trials: &[Trial]) -> Finding {
        let mut finding = Finding::default();
        for trial in trials {
            finding.take(trial);
        }
        finding
    }

    #[test]
    fn only_a_verdict_is_a_find() {
        let ok = || Told::Verdict("ok".into());
        let failed = || Told::Verdict("FAILED: it is 1, not 2".into());
        let skipped = || Told::Verdict("skipped (no Xen)".into());
        let found = finding(&[trial(&[("a", ok()), ("b", failed())], false)]);
        assert_eq!(found.columns(), ["`b`", "", ""]);
        let hung = finding(&[trial(&[("a", ok()), ("b", Told::Hung)], false)]);
        assert_eq!(hung.columns(), ["**none**", "", "`b`"]);
        let unseen = finding(&[trial(&[("a", skipped())], false)]);
        let mute: Vec<Trial> = WAYS
            .iter()
            .map(|_| trial(&[("a", Told::Ended)], true))
            .collect();
        let mute = finding(&mute);
        assert_eq!(mute.columns()[0], "**none** (no verdict in 3 of 3 ways)");
        let mut counts = Counts::default();
        for finding in [found, hung, unseen, mute] {
            counts.take(&finding);
        }
        let Counts {
            tried,
            found,
            ended,
            hung,
            mute,
        } = counts;
        assert_eq!((tried, found, ended, hung, mute), (4, 1, 0, 1, 1));
    }
}
