//! The result of `dormouse bench sleep` as an SVG picture: two panels of bars, memory kept above, answers below.
//! The picture brings no fonts and needs none: text stays text.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::bench::{Measured, SleepBench, Way};
use crate::quantity;
use crate::scale::Scale;

const SIZE: (u32, u32) = (1120, 820);
const LEFT: i32 = 80;
const RIGHT: i32 = 1100;
/// Top and bottom of the two plots, without titles and names.
const MEMORY_PLOT: (i32, i32) = (140, 400);
const ANSWER_PLOT: (i32, i32) = (480, 770);
/// Between the bars of two workers.
const GROUP_GAP: f64 = 24.0;
/// Half the width of a character of a label, about.
const LABEL_CHAR_HALF: i32 = 3;

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("draw the chart: {why}")]
pub struct ChartError {
    why: String,
}

/// The whole picture, as the text of an SVG file.
pub fn svg(bench: &SleepBench) -> Result<String, ChartError> {
    render(SIZE, |canvas| draw(bench, canvas))
}

/// A picture of `size` pixels that `draw` draws, as the text of an SVG file.
pub(crate) fn render(
    size: (u32, u32),
    draw: impl for<'a> FnOnce(&Canvas<'a>) -> Drawn<'a>,
) -> Result<String, ChartError> {
    let mut text = String::new();
    {
        let canvas = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&canvas).map_err(|error| ChartError { why: error.to_string() })?;
        canvas.present().map_err(|error| ChartError { why: error.to_string() })?;
    }
    Ok(text)
}

pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
pub(crate) type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw<'a>(bench: &SleepBench, canvas: &Canvas<'a>) -> Drawn<'a> {
    canvas.fill(&WHITE)?;
    let ways: Vec<Way> = Way::ALL.into_iter().filter(|&way| is_measured(bench, way)).collect();
    let setting = &bench.setting;
    let subtitle = format!(
        "medians of {} rounds, all ways in turn; {} sandboxes of each worker, {} layout; Linux {}, {} CPUs",
        setting.rounds, setting.sandboxes, setting.layout, bench.environment.kernel, bench.environment.cpus
    );
    write(
        canvas,
        "An idle function: what it costs, and how soon it answers",
        (LEFT, 34),
        24,
        HPos::Left,
        BLACK,
    )?;
    write(canvas, &subtitle, (LEFT, 56), 15, HPos::Left, GREY)?;
    legend(canvas, &ways, 82)?;
    Panel {
        title: "Memory kept by one idle sandbox, everything counted (MiB, linear)",
        plot: MEMORY_PLOT,
        value: |measured| measured.kept_bytes as f64 / f64::from(1 << 20),
        label: |value| match value {
            0.0 => "0".to_owned(),
            value if value < 9.95 => format!("{value:.1}"),
            value => format!("{value:.0}"),
        },
        tick: |value| format!("{value}"),
        scale: Scale::linear(values(bench, |measured| measured.kept_bytes as f64 / f64::from(1 << 20))),
    }
    .draw(canvas, bench, &ways)?;
    Panel {
        title: "From wake to first answer, median (logarithmic)",
        plot: ANSWER_PLOT,
        value: |measured| measured.wake_us.p50 as f64,
        label: |value| quantity::micros(value as u64),
        tick: |value| quantity::micros(value as u64).replace(".00", "").replace(".0", ""),
        scale: Scale::logarithmic(values(bench, |measured| measured.wake_us.p50 as f64)),
    }
    .draw(canvas, bench, &ways)
}

/// One set of bars with its scale.
struct Panel {
    title: &'static str,
    plot: (i32, i32),
    value: fn(&Measured) -> f64,
    label: fn(f64) -> String,
    tick: fn(f64) -> String,
    scale: Scale,
}

impl Panel {
    fn draw<'a>(&self, canvas: &Canvas<'a>, bench: &SleepBench, ways: &[Way]) -> Drawn<'a> {
        let (top, bottom) = self.plot;
        write(canvas, self.title, (LEFT, top - 22), 17, HPos::Left, BLACK)?;
        for &tick in &self.scale.ticks {
            let y = self.y(tick);
            canvas.draw(&PathElement::new([(LEFT, y), (RIGHT, y)], LINE))?;
            write(canvas, &(self.tick)(tick), (LEFT - 8, y + 6), 14, HPos::Right, GREY)?;
        }
        let group_width = f64::from(RIGHT - LEFT) / bench.workers.len().max(1) as f64;
        let bar_width = (group_width - GROUP_GAP) / ways.len().max(1) as f64;
        for (group, worker) in bench.workers.iter().enumerate() {
            let start = f64::from(LEFT) + group as f64 * group_width + GROUP_GAP / 2.0;
            for (place, &way) in ways.iter().enumerate() {
                let left = start + place as f64 * bar_width;
                let value = worker.measured(way).map(self.value);
                self.bar(canvas, way, value, (left as i32 + 2, (left + bar_width) as i32 - 2))?;
            }
            let middle = (start + (group_width - GROUP_GAP) / 2.0) as i32;
            write(canvas, &worker.worker, (middle, bottom + 24), 16, HPos::Center, BLACK)?;
        }
        canvas.draw(&PathElement::new([(LEFT, bottom), (RIGHT, bottom)], BLACK))
    }

    fn bar<'a>(
        &self,
        canvas: &Canvas<'a>,
        way: Way,
        value: Option<f64>,
        (left, right): (i32, i32),
    ) -> Drawn<'a> {
        let bottom = self.plot.1;
        let middle = i32::midpoint(left, right);
        let Some(value) = value else {
            return write(canvas, "n/a", (middle, bottom - 3), 13, HPos::Center, GREY);
        };
        let top = self.y(value);
        canvas.draw(&Rectangle::new([(left, top), (right, bottom)], colour(way).filled()))?;
        let label = (self.label)(value);
        // Lines of the grid end before the label.
        let half = label.len() as i32 * LABEL_CHAR_HALF;
        canvas
            .draw(&Rectangle::new([(middle - half, top - 16), (middle + half, top - 2)], WHITE.filled()))?;
        write(canvas, &label, (middle, top - 3), 12, HPos::Center, BLACK)
    }

    fn y(&self, value: f64) -> i32 {
        let (top, bottom) = self.plot;
        bottom - (self.scale.share(value) * f64::from(bottom - top)).round() as i32
    }
}

fn values(bench: &SleepBench, value: fn(&Measured) -> f64) -> impl Iterator<Item = f64> {
    bench
        .workers
        .iter()
        .flat_map(move |worker| Way::ALL.iter().filter_map(|&way| worker.measured(way)).map(value))
}

fn is_measured(bench: &SleepBench, way: Way) -> bool {
    bench.workers.iter().any(|worker| worker.measured(way).is_some())
}

fn legend<'a>(canvas: &Canvas<'a>, ways: &[Way], y: i32) -> Drawn<'a> {
    const WIDTH: i32 = 200;
    for (place, &way) in ways.iter().enumerate() {
        let x = LEFT + place as i32 * WIDTH;
        canvas.draw(&Rectangle::new([(x, y - 11), (x + 12, y + 1)], colour(way).filled()))?;
        write(canvas, way.label(), (x + 18, y), 15, HPos::Left, BLACK)?;
    }
    Ok(())
}

pub(crate) const GREY: RGBColor = RGBColor(90, 90, 90);
pub(crate) const LINE: RGBColor = RGBColor(225, 225, 225);

/// Told apart by colour-blind eyes too (the palette of Okabe and Ito).
fn colour(way: Way) -> RGBColor {
    match way {
        Way::Frozen => RGBColor(150, 150, 150),
        Way::Dormouse => RGBColor(0, 114, 178),
        Way::Light => RGBColor(86, 180, 233),
        Way::Zram => RGBColor(230, 159, 0),
        Way::Criu => RGBColor(0, 158, 115),
        Way::Cold => RGBColor(204, 121, 167),
    }
}

/// `at` is where the line of text stands.
pub(crate) fn write<'a>(
    canvas: &Canvas<'a>,
    text: &str,
    at: (i32, i32),
    size: u32,
    place: HPos,
    colour: RGBColor,
) -> Drawn<'a> {
    let style =
        TextStyle::from(("sans-serif", size).into_font()).color(&colour).pos(Pos::new(place, VPos::Bottom));
    canvas.draw(&Text::new(text.to_owned(), at, style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::specimen;

    #[track_caller]
    fn check(bench: &SleepBench, expected: &[&str], unexpected: &[&str]) {
        let picture = svg(bench).unwrap();
        for text in expected {
            assert!(picture.contains(text), "{text:?} is not in the picture");
        }
        for text in unexpected {
            assert!(!picture.contains(text), "{text:?} is in the picture");
        }
    }

    #[test]
    fn every_bar_has_its_value_and_a_way_without_figures_has_no_bar() {
        check(&specimen::bench(), &["dormouse", "4.70 ms", "1.80 s", "pandas"], &["CRIU"]);
    }

    #[test]
    fn an_empty_result_is_an_empty_picture() {
        let mut bench = specimen::bench();
        bench.workers.clear();
        check(&bench, &["everything counted"], &["dormouse"]);
    }
}
