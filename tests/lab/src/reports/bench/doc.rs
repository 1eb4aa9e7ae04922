//! The figures' place in the documentation.

use std::fs;

use anyhow::{Context, Result};

use super::Device;
use crate::folders::root;

/// What is written there.
pub(crate) fn read(device: Device) -> Result<String> {
    let text = fs::read_to_string(root().join("docs/BENCH.md"))?;
    let [_, tables, _] = split(&text, device)?;
    Ok(tables.to_owned())
}

/// What stands before a device's figures, they, and what stands behind.
fn split(text: &str, device: Device) -> Result<[&str; 3]> {
    let name = device.name();
    let (begin, end) = (
        format!("<!-- {name} -->"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text
        .split_once(&begin)
        .with_context(|| format!("docs/BENCH.md has no {begin}"))?;
    let (tables, after) = rest
        .split_once(&end)
        .with_context(|| format!("docs/BENCH.md has no {end}"))?;
    Ok([before, tables, after])
}

/// Replaces what was written there before.
pub(crate) fn write(device: Device, tables: &str, chart: Option<&str>) -> Result<()> {
    let name = device.name();
    let mut picture = String::new();
    if let Some(chart) = chart {
        let image = format!("bench-{name}.svg");
        fs::write(root().join("docs/images").join(&image), chart)?;
        picture = format!("\n![How many times better than Linux](images/{image})\n");
    }
    let path = root().join("docs/BENCH.md");
    let text = fs::read_to_string(&path).context("there is no docs/BENCH.md")?;
    let [before, _, after] = split(&text, device)?;
    let text = format!("{before}<!-- {name} -->\n{picture}{tables}\n<!-- end of {name} -->{after}");
    fs::write(&path, text)?;
    Ok(())
}
