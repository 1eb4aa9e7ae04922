//! The page: what differs on top, then all claims by group.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::checks::matrix::{Matrix, Row, Verdict};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

const fn class(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "ok",
        Verdict::Failed(_) => "failed",
        Verdict::Skipped(_) => "skipped",
        Verdict::Crashed(_) => "crashed",
    }
}

fn cell(verdict: &Verdict) -> Markup {
    html! {
        td class=(class(verdict)) title=(verdict.why()) { (verdict.word()) }
    }
}

/// What is said about a claim, by whom.
fn reasons(row: &Row, columns: &[String]) -> Vec<(String, String)> {
    let mut reasons: Vec<(String, String)> = Vec::new();
    for (verdict, column) in row.verdicts.iter().zip(columns) {
        if verdict.why().is_empty() {
            continue;
        }
        match reasons.iter_mut().find(|(why, _)| why == verdict.why()) {
            Some((_, names)) => names.push_str(&format!(", {column}")),
            None => reasons.push((verdict.why().to_owned(), column.clone())),
        }
    }
    reasons
}

fn line(row: &Row, columns: &[String]) -> Markup {
    let name = row
        .name
        .split_once("::")
        .map_or(&*row.name, |(_, name)| name);
    html! {
        tr data-name=(row.name) data-words=(row.verdicts.iter().map(class).collect::<Vec<_>>().join(" ")) {
            td.claim { code { (name) } span.source { (row.source) } }
            @for verdict in &row.verdicts { (cell(verdict)) }
            td.why {
                @for (why, who) in reasons(row, columns) {
                    div { b { (who) } ": " (why) }
                }
            }
        }
    }
}

fn table<'a>(title: &str, rows: impl Iterator<Item = &'a Row>, columns: &[String]) -> Markup {
    let rows: Vec<&Row> = rows.collect();
    html! {
        section {
            h2 { (title) " " span.count { (rows.len()) } }
            table {
                thead { tr {
                    th { "claim" }
                    @for column in columns { th { (column) } }
                    th { "why" }
                } }
                tbody { @for row in rows { (line(row, columns)) } }
            }
        }
    }
}

/// The whole page: one file that needs nothing else.
pub(crate) fn page(matrix: &Matrix) -> String {
    let columns = &matrix.columns;
    let mut groups: Vec<&str> = Vec::new();
    for row in &matrix.rows {
        if !groups.contains(&row.group()) {
            groups.push(row.group());
        }
    }
    let differ: Vec<&Row> = matrix.rows.iter().filter(|row| row.differs()).collect();
    let kinds = ["ok", "failed", "crashed", "skipped"];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Claims about the guest interface" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Claims about the guest interface" }
                p.lead {
                    (matrix.rows.len()) " claims, " (columns.len()) " platforms, "
                    (differ.len()) " told differently. "
                    "Each claim is a small test, named after it, with the document that makes it."
                }
                div.cards {
                    @for (index, column) in columns.iter().enumerate() {
                        div.card {
                            h3 { (column) }
                            div.bar {
                                @for kind in kinds {
                                    @let count = matrix.count(index, |verdict| class(verdict) == kind);
                                    @if count > 0 {
                                        span class=(kind) style=(format!("flex:{count}")) title=(kind) { (count) }
                                    }
                                }
                            }
                        }
                    }
                }
                div.filters {
                    input id="text" type="search" placeholder="filter by name" aria-label="filter by name";
                    @for kind in kinds {
                        label { input type="checkbox" value=(kind) checked; " " (kind) }
                    }
                    span id="shown" {}
                }
                @if !differ.is_empty() {
                    (table("What the platforms tell differently", differ.into_iter(), columns))
                }
                @for group in groups {
                    (table(group, matrix.rows.iter().filter(|row| row.group() == group), columns))
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_all_and_escapes_what_guests_say() {
        let page = page(&crate::reports::claims::tests::example());
        assert!(page.contains("it is &lt;1&gt;, not 2"));
        assert!(!page.contains("<1>"));
        let differences = page.find("told differently").unwrap_or(usize::MAX);
        assert!(page.find(">one<").is_some_and(|at| at > differences));
        for group in ["a", "b"] {
            assert!(page.contains(&format!("<h2>{group} ")), "{page}");
        }
    }
}
