//! The result of `dormouse bench merge` as an SVG picture, after the figures of UPM's paper: a row of panels for each
//! worker, a line for each way, over the number of sandboxes.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::chart::{Canvas, ChartError, Drawn, GREY, LINE, render, write};
use crate::merge::{MergeBench, MergeCase, MergeWay, MergeWorker};
use crate::quantity;
use crate::scale::Scale;

const WIDTH: u32 = 1240;
const MARGIN: i32 = 30;
const HEAD_HEIGHT: i32 = 100;
/// A row of panels, with its title and what stands below it.
const ROW_HEIGHT: i32 = 330;
/// Within a row: where plots begin and end.
const PLOT: (i32, i32) = (60, 280);
const PANEL_WIDTH: i32 = 395;
/// Within a panel: room for the ticks, and for nothing.
const PLOT_LEFT: i32 = 70;
const PLOT_RIGHT: i32 = 20;

/// One quantity of a case.
struct Panel {
    title: &'static str,
    value: fn(&MergeCase) -> Option<f64>,
    tick: fn(f64) -> String,
    is_logarithmic: bool,
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "PSS of one sandbox (MiB)",
        value: |case| Some(case.after.pss_bytes as f64 / f64::from(1 << 20)),
        tick: |value| format!("{value}"),
        is_logarithmic: false,
    },
    Panel {
        title: "Memory of the system (MiB)",
        value: |case| Some(case.system_bytes.max(0) as f64 / f64::from(1 << 20)),
        tick: |value| format!("{value}"),
        is_logarithmic: false,
    },
    Panel {
        title: "Time to 95 % of what can be shared (logarithmic)",
        value: |case| Some(case.merging?.reached_us? as f64),
        tick: |value| quantity::micros(value as u64).replace(".00", "").replace(".0", ""),
        is_logarithmic: true,
    },
];

/// The whole picture, as the text of an SVG file.
pub fn svg(bench: &MergeBench) -> Result<String, ChartError> {
    let height = HEAD_HEIGHT + ROW_HEIGHT * bench.workers.len() as i32;
    render((WIDTH, height as u32), |canvas| draw(bench, canvas))
}

fn draw<'a>(bench: &MergeBench, canvas: &Canvas<'a>) -> Drawn<'a> {
    canvas.fill(&WHITE)?;
    let title = "Equal pages of running sandboxes, kept once: how much, and how soon";
    write(canvas, title, (MARGIN, 34), 24, HPos::Left, BLACK)?;
    let subtitle = format!(
        "over the number of sandboxes; after a further request of each; {} layout; Linux {}, {} CPUs",
        bench.setting.layout, bench.environment.kernel, bench.environment.cpus
    );
    write(canvas, &subtitle, (MARGIN, 56), 15, HPos::Left, GREY)?;
    legend(canvas, bench)?;
    for (row, worker) in bench.workers.iter().enumerate() {
        let top = HEAD_HEIGHT + row as i32 * ROW_HEIGHT;
        let data = worker.data.as_ref().map_or_else(String::new, |data| format!(": {data}"));
        write(canvas, &format!("{}{data}", worker.worker), (MARGIN, top + 24), 17, HPos::Left, BLACK)?;
        for (place, panel) in PANELS.iter().enumerate() {
            let left = MARGIN + place as i32 * PANEL_WIDTH;
            panel.draw(canvas, worker, &bench.setting.sandboxes, (left, top))?;
        }
    }
    Ok(())
}

fn legend<'a>(canvas: &Canvas<'a>, bench: &MergeBench) -> Drawn<'a> {
    const WIDTH: i32 = 130;
    let is_measured = |way: &MergeWay| bench.workers.iter().any(|worker| !worker.cases(*way).is_empty());
    for (place, way) in MergeWay::ALL.into_iter().filter(is_measured).enumerate() {
        let (x, y) = (MARGIN + place as i32 * WIDTH, 84);
        canvas.draw(&Rectangle::new([(x, y - 11), (x + 12, y + 1)], colour(way).filled()))?;
        write(canvas, &way.to_string(), (x + 18, y), 15, HPos::Left, BLACK)?;
    }
    Ok(())
}

impl Panel {
    fn draw<'a>(
        &self,
        canvas: &Canvas<'a>,
        worker: &MergeWorker,
        counts: &[u64],
        (left, top): (i32, i32),
    ) -> Drawn<'a> {
        let (from, to) = (left + PLOT_LEFT, left + PANEL_WIDTH - PLOT_RIGHT);
        let (above, below) = (top + PLOT.0, top + PLOT.1);
        write(canvas, self.title, (from, above - 8), 14, HPos::Left, GREY)?;
        let values = MergeWay::ALL.iter().flat_map(|&way| worker.cases(way)).filter_map(self.value);
        let scale = if self.is_logarithmic { Scale::logarithmic(values) } else { Scale::linear(values) };
        let y = |value| below - (scale.share(value) * f64::from(below - above)).round() as i32;
        for &tick in &scale.ticks {
            canvas.draw(&PathElement::new([(from, y(tick)), (to, y(tick))], LINE))?;
            write(canvas, &(self.tick)(tick), (from - 6, y(tick) + 6), 13, HPos::Right, GREY)?;
        }
        // The numbers of sandboxes double, so they stand at equal distances.
        let x = |place: usize| from + (to - from) * (2 * place as i32 + 1) / (2 * counts.len().max(1) as i32);
        for (place, count) in counts.iter().enumerate() {
            write(canvas, &count.to_string(), (x(place), below + 20), 14, HPos::Center, BLACK)?;
        }
        canvas.draw(&PathElement::new([(from, below), (to, below)], BLACK))?;
        for way in MergeWay::ALL {
            let point = |(place, &count)| Some((x(place), y((self.value)(worker.case(way, count)?)?)));
            let points: Vec<(i32, i32)> = counts.iter().enumerate().filter_map(point).collect();
            canvas.draw(&PathElement::new(points.clone(), colour(way).stroke_width(2)))?;
            for at in points {
                canvas.draw(&Circle::new(at, 4, colour(way).filled()))?;
            }
        }
        Ok(())
    }
}

/// Told apart by colour-blind eyes too (the palette of Okabe and Ito).
fn colour(way: MergeWay) -> RGBColor {
    match way {
        MergeWay::Off => RGBColor(150, 150, 150),
        MergeWay::Ksm => RGBColor(204, 121, 167),
        MergeWay::KsmAdvisor => RGBColor(0, 158, 115),
        MergeWay::KsmFlat => RGBColor(230, 159, 0),
        MergeWay::Dormouse => RGBColor(0, 114, 178),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::specimen;

    #[test]
    fn every_way_with_figures_has_its_lines() {
        let picture = svg(&specimen::bench()).unwrap();
        for text in ["alexnet: torch", "PSS of one sandbox", "Memory of the system", "ksm-flat", "dormouse"] {
            assert!(picture.contains(text), "{text:?} is not in the picture");
        }
        assert!(!picture.contains(">\nksm\n<"), "a way without figures is in the table alone");
        // Four ways in two panels, three in the one about merging, of which one never got there.
        assert_eq!(picture.matches("<circle").count(), 5 * (4 + 4 + 2));
    }

    #[test]
    fn an_empty_result_is_an_empty_picture() {
        let mut bench = specimen::bench();
        bench.workers.clear();
        assert!(svg(&bench).unwrap().contains("Equal pages"));
    }
}
