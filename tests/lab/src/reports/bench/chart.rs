//! The figures as a picture: how many times better than Linux.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{
    Device,
    figures::{Figures, Kind, Unit, Who},
};
use crate::job::{Pace, Platform};

const WIDTH: u32 = 760;
const ROW: u32 = 46;
const MARGIN: u32 = 70;
const COLORS: [RGBColor; 2] = [RGBColor(0x2f, 0x6d, 0xb5), RGBColor(0xe0, 0x8a, 0x2e)];

/// Draws what was measured in the machine that counts, or by the clock where
/// there is nothing else.
pub(crate) fn draw(device: Device, all: &Figures) -> Result<String> {
    let columns = all.columns();
    let counted = columns.iter().any(|(pace, _)| *pace == Pace::Counted);
    let pace = if counted { Pace::Counted } else { Pace::Clock };
    let columns: Vec<(Pace, Platform)> = columns
        .into_iter()
        .filter(|column| column.0 == pace)
        .collect();
    let phases = all.phases();
    let better = |column, phase: &str| {
        let unit = Unit::of(phase);
        let value = |who| {
            all.median(column, who, Kind::Measured, phase, |numbers| {
                unit.value(numbers)
            })
        };
        Some(unit.better(value(Who::Ours)?, value(Who::Linux)?))
    };
    let most = columns
        .iter()
        .flat_map(|column| phases.iter().filter_map(|phase| better(*column, phase)))
        .fold(1.5, f64::max);
    let mut svg = String::new();
    {
        let height = MARGIN * 2 + ROW * phases.len() as u32;
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&root, device, &columns, &phases, most, better)
            .map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn core::error::Error>>;

fn paint(
    root: &Area<'_>,
    device: Device,
    columns: &[(Pace, Platform)],
    phases: &[&str],
    most: f64,
    better: impl Fn((Pace, Platform), &str) -> Option<f64>,
) -> Drawn {
    root.fill(&WHITE)?;
    let rows = phases.len() as f64;
    let mut chart = ChartBuilder::on(root)
        .caption(
            format!("{}: times better than Linux's driver", device.name()),
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(130)
        .build_cartesian_2d(0.0..most * 1.12, rows..0.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_label_formatter(&|value| format!("{value:.1}"))
        .draw()?;
    let thickness = 0.7 / columns.len().max(1) as f64;
    for ((at, column), color) in columns.iter().enumerate().zip(COLORS.iter().cycle()) {
        let bars = phases.iter().enumerate().filter_map(|(row, phase)| {
            let top = row as f64 + 0.15 + at as f64 * thickness;
            let value = better(*column, phase)?;
            Some((value, top))
        });
        let bars: Vec<(f64, f64)> = bars.collect();
        chart
            .draw_series(bars.iter().map(|(value, top)| {
                Rectangle::new([(0.0, *top), (*value, top + thickness)], color.filled())
            }))?
            .label(column.1.name())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        chart.draw_series(bars.iter().map(|(value, top)| {
            let place = (*value + most * 0.01, top + thickness * 0.1);
            Text::new(format!("{value:.2}"), place, ("sans-serif", 13))
        }))?;
    }
    // Linux itself.
    chart.draw_series([PathElement::new(
        [(1.0, 0.0), (1.0, rows)],
        BLACK.stroke_width(2),
    )])?;
    chart.draw_series(phases.iter().enumerate().map(|(row, phase)| {
        let place = (0.0, row as f64 + 0.4);
        EmptyElement::at(place) + Text::new((*phase).to_owned(), (-126, 0), ("sans-serif", 14))
    }))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
