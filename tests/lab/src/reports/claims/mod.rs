//! The table of claims, to be read elsewhere: by people, by programs, by CI.

mod html;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use crate::{
    checks::matrix::{Matrix, Verdict},
    folders,
};

/// A form of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A page to read
    Html,
    /// For programs
    Json,
    /// For CI
    Junit,
}

/// Writes it into the lab's folder, and says where.
pub(crate) fn write(matrix: &Matrix, form: Form) -> Result<PathBuf> {
    let (name, text) = match form {
        Form::Html => ("claims.html", html::page(matrix)),
        Form::Json => ("claims.json", serde_json::to_string_pretty(&json(matrix))?),
        Form::Junit => ("claims.xml", junit(matrix).to_string()?),
    };
    let path = folders::cache().join(name);
    fs::create_dir_all(folders::cache())?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn json(matrix: &Matrix) -> Value {
    let claims = matrix.rows.iter().map(|row| {
        let verdicts = row.verdicts.iter().zip(&matrix.columns);
        let verdicts = verdicts.map(|(verdict, column)| {
            let told = json!({"verdict": verdict.word().to_lowercase(), "why": verdict.why()});
            (column.clone(), told)
        });
        json!({
            "claim": row.name,
            "source": row.source,
            "platforms": Value::Object(verdicts.collect()),
        })
    });
    json!({"platforms": matrix.columns, "claims": claims.collect::<Vec<_>>()})
}

fn junit(matrix: &Matrix) -> Report {
    let mut report = Report::new("claims");
    for (index, column) in matrix.columns.iter().enumerate() {
        let mut suite = TestSuite::new(column.as_str());
        for row in &matrix.rows {
            let Some(verdict) = row.verdicts.get(index) else {
                continue;
            };
            let mut status = match verdict {
                Verdict::Passed => TestCaseStatus::success(),
                Verdict::Skipped(_) => TestCaseStatus::skipped(),
                Verdict::Failed(_) => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Verdict::Crashed(_) => TestCaseStatus::non_success(NonSuccessKind::Error),
            };
            if *verdict != Verdict::Passed {
                status.set_message(verdict.why());
            }
            let mut case = TestCase::new(row.name.as_str(), status);
            case.set_classname(format!("{column}.{}", row.group()));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::checks::matrix::Row;

    pub(crate) fn example() -> Matrix {
        let row = |name: &str, second: Verdict| Row {
            name: name.into(),
            source: "xen.h: <things>".into(),
            verdicts: vec![Verdict::Passed, second],
        };
        Matrix {
            columns: vec!["mock".into(), "xen-pv".into()],
            rows: vec![
                row("a::one", Verdict::Passed),
                row("a::two", Verdict::Failed("it is <1>, not 2".into())),
                row("b::three", Verdict::Skipped("no Xen".into())),
                row("b::four", Verdict::Crashed("page fault".into())),
            ],
        }
    }

    #[test]
    fn programs_read_what_was_told() {
        let value = json(&example());
        assert_eq!(
            value["claims"][1]["platforms"]["xen-pv"]["verdict"],
            "failed"
        );
        assert_eq!(value["claims"][2]["platforms"]["xen-pv"]["why"], "no Xen");
        assert_eq!(value["platforms"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn ci_counts_failures_and_errors() {
        let text = junit(&example()).to_string().unwrap();
        assert!(
            text.contains(r#"tests="8" failures="1" errors="1""#),
            "{text}"
        );
        assert!(text.contains("it is &lt;1&gt;, not 2"), "{text}");
    }
}
