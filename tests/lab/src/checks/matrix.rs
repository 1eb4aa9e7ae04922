//! The claims of `conformance`, tried on each platform: a table of claim by
//! platform. A claim that ends its guest is told, and the rest goes on in a new
//! one.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};

use crate::{
    build::packages::progress,
    job::{Job, Platform, Report, Spoil, With, XenVersion},
    platforms::run::run,
    workers,
};

/// What claims are tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) platform: Platform,
    pub(crate) xen: XenVersion,
}

impl Column {
    /// Its name in the table.
    pub(crate) fn name(self) -> String {
        if self.platform.has_versions() && self.xen != XenVersion::default() {
            format!("{} {}", self.platform.name(), self.xen.name())
        } else {
            self.platform.name().to_owned()
        }
    }
}

/// How a claim turned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// It does not hold: why.
    Failed(String),
    /// It is not made there: why.
    Skipped(String),
    /// It ended the guest: how, and its last words.
    Crashed(String),
}

impl Verdict {
    /// In a word.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "skipped",
            Self::Crashed(_) => "CRASHED",
        }
    }

    /// What there is to say about it.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Passed => "",
            Self::Failed(why) | Self::Skipped(why) | Self::Crashed(why) => why,
        }
    }

    /// Whether it is a defect.
    pub(crate) const fn is_bad(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Crashed(_))
    }
}

/// One claim, on all platforms.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// `group::name`.
    pub(crate) name: String,
    /// Who makes it.
    pub(crate) source: String,
    /// For each column.
    pub(crate) verdicts: Vec<Verdict>,
}

impl Row {
    /// The part of the interface that it is about.
    pub(crate) fn group(&self) -> &str {
        self.name
            .split_once("::")
            .map_or(&*self.name, |(group, _)| group)
    }

    /// Whether the platforms differ, apart from those that the claim is not for.
    pub(crate) fn differs(&self) -> bool {
        let meant = |told: &&Verdict| !NOT_FOR_IT.contains(&told.why());
        let mut words = self.verdicts.iter().filter(meant).map(Verdict::word);
        let first = words.next();
        words.any(|word| Some(word) != first)
    }
}

/// All claims, on all platforms.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Matrix {
    /// How many verdicts are of this kind, in a column.
    pub(crate) fn count(&self, column: usize, wanted: impl Fn(&Verdict) -> bool) -> usize {
        let verdicts = self.rows.iter().filter_map(|row| row.verdicts.get(column));
        verdicts.filter(|verdict| wanted(verdict)).count()
    }

    /// The defects, a line each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            for (verdict, column) in row.verdicts.iter().zip(&self.columns) {
                if verdict.is_bad() {
                    let word = verdict.word();
                    failures.push(format!(
                        "{} on {column}: {word}: {}",
                        row.name,
                        verdict.why()
                    ));
                }
            }
        }
        failures
    }

    /// As text: a line for each claim that differs or does not hold, then how
    /// many there are.
    pub(crate) fn to_text(&self) -> String {
        let width = |name: &str| name.len().max(9) + 1;
        let bad = |row: &&Row| row.differs() || row.verdicts.iter().any(Verdict::is_bad);
        let names = self.rows.iter().filter(bad).map(|row| row.name.len());
        let first = names.max().unwrap_or(0).max(20);
        let mut text = format!("{:first$}", "claim");
        for column in &self.columns {
            text.push_str(&format!("{column:>0$}", width(column)));
        }
        text.push('\n');
        for row in self.rows.iter().filter(bad) {
            text.push_str(&format!("{:first$}", row.name));
            let mut reasons: Vec<String> = Vec::new();
            for (verdict, column) in row.verdicts.iter().zip(&self.columns) {
                text.push_str(&format!("{:>1$}", verdict.word(), width(column)));
                let why = verdict.why().lines().next().unwrap_or("").to_owned();
                if !why.is_empty() && !reasons.contains(&why) {
                    reasons.push(why);
                }
            }
            text.push_str(&format!("  {}\n", reasons.join("; ")));
        }
        let alike = self.rows.iter().filter(|row| !bad(row)).count();
        text.push_str(&format!("({alike} claims are told alike by all)\n"));
        type Kind = (&'static str, fn(&Verdict) -> bool);
        let kinds: [Kind; 4] = [
            ("passed", |verdict| *verdict == Verdict::Passed),
            ("failed", |verdict| matches!(verdict, Verdict::Failed(_))),
            ("crashed", |verdict| matches!(verdict, Verdict::Crashed(_))),
            ("skipped", |verdict| matches!(verdict, Verdict::Skipped(_))),
        ];
        for (kind, wanted) in kinds {
            text.push_str(&format!("{kind:first$}"));
            for (index, column) in self.columns.iter().enumerate() {
                text.push_str(&format!("{:>1$}", self.count(index, wanted), width(column)));
            }
            text.push('\n');
        }
        text
    }
}

/// What claims say on a platform that they are not for.
const NOT_FOR_IT: [&str; 3] = ["no Xen", "for PV guests only", "for PVH guests only"];

/// How often a new guest is started for what the last one did not try.
const MAX_GUESTS: usize = 50;
/// How many in a row may tell nothing.
const MAX_MUTE: usize = 4;
/// How long a guest has for all claims; on an emulated machine, which may be slow, longer.
const TIMEOUT: Duration = Duration::from_secs(90);
const XEN_TIMEOUT: Duration = Duration::from_secs(240);

fn job(column: Column, command_line: String) -> Job {
    Job {
        xen: column.xen,
        vcpus: 2,
        command_line,
        with: With::Toolstack,
        spoil: Some(Spoil::Witness),
        timeout: match column.platform.is_xen() {
            true => XEN_TIMEOUT,
            false => TIMEOUT,
        },
        ..Job::new("conformance", column.platform)
    }
}

/// The claims' names and sources, in their order.
fn list() -> Result<Vec<(String, String)>> {
    let mock = Column {
        platform: Platform::Mock,
        xen: XenVersion::default(),
    };
    let report = run(&job(mock, "list".to_owned()))?;
    let claims = report.console.lines().filter_map(|line| {
        let (name, source) = line.strip_prefix("claim ")?.split_once('\t')?;
        Some((name.to_owned(), source.to_owned()))
    });
    Ok(claims.collect())
}

/// Tries those claims whose name contains `filter`; `extra` goes to the guests,
/// too.
pub(crate) fn try_all(columns: &[Column], filter: &str, extra: &str) -> Result<Matrix> {
    let claims: Vec<_> = list()?
        .into_iter()
        .filter(|(name, _)| name.contains(filter))
        .collect();
    let mut rows: Vec<Row> = claims
        .into_iter()
        .map(|(name, source)| Row {
            name,
            source,
            verdicts: Vec::new(),
        })
        .collect();
    if !rows.is_empty() {
        let where_to: Vec<_> = columns.iter().map(|column| column.name()).collect();
        let bar = progress(&format!("{} claims on {}", rows.len(), where_to.join(", ")));
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        let all = workers::do_all(
            columns,
            |column| *column,
            |column| try_on(*column, &names, filter, extra),
        );
        bar.finish_and_clear();
        for told in all {
            let mut told = told?;
            for row in &mut rows {
                let verdict = told.remove(&row.name);
                let nobody = || Verdict::Crashed("it was not tried".to_owned());
                row.verdicts.push(verdict.unwrap_or_else(nobody));
            }
        }
    }
    Ok(Matrix {
        columns: columns.iter().map(|column| column.name()).collect(),
        rows,
    })
}

fn try_on(
    column: Column,
    names: &[&str],
    filter: &str,
    extra: &str,
) -> Result<BTreeMap<String, Verdict>> {
    let mut told = BTreeMap::new();
    let mut after = String::new();
    let mut mute = 0;
    for _ in 0..MAX_GUESTS {
        let mut words = extra.to_owned();
        for (key, value) in [("only", filter), ("after", &after)] {
            if !value.is_empty() {
                words.push_str(&format!(" {key}={value}"));
            }
        }
        let report = run(&job(column, words.trim().to_owned()))?;
        let before = told.len();
        match read(&report, names, &mut told) {
            None => return Ok(told),
            Some(unfinished) => after = unfinished,
        }
        // More than the one that ended it?
        mute = if told.len() > before + 1 { 0 } else { mute + 1 };
        if mute == MAX_MUTE {
            bail!(
                "{MAX_MUTE} guests in a row said nothing on {}; the last: {}\n{}",
                column.name(),
                report.ended,
                report.console
            );
        }
    }
    bail!("{MAX_GUESTS} guests crashed on {}", column.name())
}

/// Takes the verdicts out of what a guest said. The claim that it did not come
/// back from, if there is one.
fn read(report: &Report, names: &[&str], told: &mut BTreeMap<String, Verdict>) -> Option<String> {
    let mut last_words = Vec::new();
    for line in report.console.lines() {
        let told_now = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "));
        if let Some((name, verdict)) = told_now
            && let Some(verdict) = verdict_of(verdict)
        {
            told.insert(name.to_owned(), verdict);
            last_words.clear();
        } else if line.contains(" passed, ") {
            return None;
        } else {
            last_words.push(line.to_owned());
        }
    }
    // They are tried in their order: it was the first without a verdict.
    let untold = names.iter().find(|name| !told.contains_key(**name))?;
    last_words.truncate(20);
    last_words.insert(0, format!("the guest ended by {}", report.ended));
    last_words.extend(report.diagnosis.clone());
    told.insert(
        (*untold).to_owned(),
        Verdict::Crashed(last_words.join("\n")),
    );
    Some((*untold).to_owned())
}

fn verdict_of(text: &str) -> Option<Verdict> {
    if text == "ok" {
        Some(Verdict::Passed)
    } else if let Some(why) = text.strip_prefix("FAILED: ") {
        Some(Verdict::Failed(why.to_owned()))
    } else {
        let why = text.strip_prefix("skipped (")?.strip_suffix(')')?;
        Some(Verdict::Skipped(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::exit::Ended;

    const NAMES: [&str; 3] = ["a::b", "a::c", "a::d"];

    fn report(console: &str) -> Report {
        Report {
            ended: Ended::Shutdown(3),
            console: console.to_owned(),
            hypervisor_log: Vec::new(),
            diagnosis: None,
            complaint: None,
        }
    }

    #[test]
    fn verdicts_are_read() {
        let mut told = BTreeMap::new();
        let report = report(
            "noise\ntest a::b ... ok\ntest a::c ... skipped (no (real) Xen)\n\
             test a::d ... FAILED: it is 1, not 2\n1 passed, 1 failed\n",
        );
        assert_eq!(read(&report, &NAMES, &mut told), None);
        assert_eq!(told["a::b"], Verdict::Passed);
        assert_eq!(told["a::c"], Verdict::Skipped("no (real) Xen".into()));
        assert_eq!(told["a::d"], Verdict::Failed("it is 1, not 2".into()));
    }

    #[test]
    fn a_claim_without_a_verdict_ended_the_guest() {
        let mut told = BTreeMap::new();
        let report = report("test a::b ... ok\nFATAL: page fault\nrip 7\n");
        assert_eq!(read(&report, &NAMES, &mut told), Some("a::c".into()));
        assert!(told["a::c"].why().contains("page fault\nrip 7"));
        assert!(told["a::c"].why().starts_with("the guest ended by crash"));
    }

    #[test]
    fn only_differences_are_listed() {
        let row = |name: &str, verdicts: &[Verdict]| Row {
            name: name.into(),
            source: "xen.h".into(),
            verdicts: verdicts.to_vec(),
        };
        let no_xen = Verdict::Skipped("no Xen".into());
        let skipped = Verdict::Skipped("no leaves".into());
        let matrix = Matrix {
            columns: vec!["mock".into(), "qemu".into()],
            rows: vec![
                row("a::alike", &[Verdict::Passed, Verdict::Passed]),
                row("a::xen", &[Verdict::Passed, no_xen]),
                row("a::other", &[Verdict::Passed, skipped]),
                row("a::bad", &[Verdict::Failed("x".into()), Verdict::Passed]),
            ],
        };
        let text = matrix.to_text();
        assert!(!text.contains("a::alike") && text.contains("(2 claims are told alike"));
        assert!(text.contains("skipped  no leaves"));
        assert_eq!(matrix.failures(), ["a::bad on mock: FAILED: x"]);
    }
}
