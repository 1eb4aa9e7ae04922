//! A web server of ours beside nginx: keep-alive clients in domain 0.

use std::fmt::Write;

use anyhow::Result;

use super::{
    Options,
    figures::{Figures, Kind, Numbers, Who, ratio},
    scenes::{Scene, look_at},
    table::cell,
};
use crate::job::{Pace, Platform};

fn scenes(_platform: Platform) -> Result<Vec<Scene>> {
    Ok(vec![Scene::web("web")?, Scene::nginx("web")])
}

/// Measures, and makes the table.
pub(crate) fn run(options: &Options) -> Result<String> {
    Ok(markdown(&look_at(options, "web", scenes)?))
}

/// `1k-32-v4` in words.
fn title(phase: &str) -> String {
    let mut words = phase.split('-');
    let [size, clients, family] = [(); 3].map(|()| words.next().unwrap_or(""));
    let clients = match clients {
        "1" => "1 client".to_owned(),
        many => format!("{many} clients"),
    };
    let (size, family) = (size.replace('k', " KiB"), family.replace('v', "IPv"));
    format!("{size}, {clients}, {family}")
}

fn markdown(all: &Figures) -> String {
    let mut text = String::new();
    for column in all.columns() {
        let (_, platform): (Pace, Platform) = column;
        let _infallible = write!(
            text,
            "\n#### {}, counted\n\n| answers a second | ours | nginx | times better | \
             p50, p99 ours (us) | nginx | instructions of an answer, guest: ours / nginx | \
             domain 0 |\n|---|---|---|---|---|---|---|---|\n",
            platform.name()
        );
        for phase in all.phases() {
            let of = |who, figure: fn(&Numbers) -> Option<f64>| {
                all.median(column, who, Kind::Measured, phase, figure)
            };
            let rate = |who| of(who, |n| Some(ratio(n, "ops", "ns")? * 1e9));
            let better = rate(Who::Ours).zip(rate(Who::Linux));
            let times = |who| {
                let p50 = cell(of(who, |n| Some(n.get("p50")? / 1e3)));
                let p99 = cell(of(who, |n| Some(n.get("p99")? / 1e3)));
                format!("{p50}, {p99}")
            };
            let costs = |figure| {
                let [ours, theirs] = [Who::Ours, Who::Linux].map(|who| cell(of(who, figure)));
                format!("{ours} / {theirs}")
            };
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                title(phase),
                cell(rate(Who::Ours)),
                cell(rate(Who::Linux)),
                cell(better.map(|(ours, theirs)| ours / theirs)),
                times(Who::Ours),
                times(Who::Linux),
                costs(|n| ratio(n, "guest", "ops")),
                costs(|n| ratio(n, "dom0", "ops")),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::title;

    #[test]
    fn phases_have_names() {
        assert_eq!(title("1k-1-v4"), "1 KiB, 1 client, IPv4");
        assert_eq!(title("100k-32-v6"), "100 KiB, 32 clients, IPv6");
    }
}
