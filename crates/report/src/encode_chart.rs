//! The result of `dormouse bench encode` as an SVG picture: a panel for each layout, a group of bars for each worker
//! against a process of the same function, a bar for what each encoder keeps.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::chart::{Canvas, ChartError, Drawn, GREY, LINE, render, write};
use crate::encode::{EncodeBench, EncodeCase};
use crate::quantity::percent;

const WIDTH: u32 = 1120;
/// Where bars begin, and how long the longest may be.
const BARS_LEFT: i32 = 330;
const BARS_LENGTH: f64 = 700.0;
const HEAD_HEIGHT: i32 = 80;
const ROW_HEIGHT: i32 = 17;
const GROUP_HEIGHT: i32 = 34;
const MARGIN: i32 = 30;

const OURS: RGBColor = RGBColor(0, 114, 178);
const RIVAL: RGBColor = RGBColor(150, 150, 150);

/// The whole picture, as the text of an SVG file.
pub fn svg(bench: &EncodeBench) -> Result<String, ChartError> {
    let cases: Vec<&EncodeCase> = bench.cases.iter().filter(|case| case.worker == case.base).collect();
    let rows: i32 = cases.iter().map(|case| case.encoders.len() as i32 * ROW_HEIGHT + GROUP_HEIGHT).sum();
    render((WIDTH, (HEAD_HEIGHT + rows + MARGIN) as u32), |canvas| draw(bench, &cases, canvas))
}

fn draw<'a>(bench: &EncodeBench, cases: &[&EncodeCase], canvas: &Canvas<'a>) -> Drawn<'a> {
    canvas.fill(&WHITE)?;
    let title = "What pages cost, against another process of the same function";
    write(canvas, title, (MARGIN, 34), 24, HPos::Left, BLACK)?;
    let subtitle = format!(
        "share of the pages that are not zero, with 1/{} of the base; Linux {}, Python {}",
        bench.setting.sharers, bench.environment.kernel, bench.environment.python
    );
    write(canvas, &subtitle, (MARGIN, 56), 15, HPos::Left, GREY)?;
    let share = |case: &EncodeCase, nth: usize| {
        let result = case.encoders.get(nth)?;
        case.kept_share_with_base(result, bench.setting.sharers)
    };
    let mut y = HEAD_HEIGHT;
    for case in cases {
        y += GROUP_HEIGHT;
        let label = format!("{}, {} layout", case.label(), case.layout);
        write(canvas, &label, (MARGIN, y - 6), 16, HPos::Left, BLACK)?;
        canvas.draw(&PathElement::new([(MARGIN, y - 3), (WIDTH as i32 - MARGIN, y - 3)], LINE))?;
        for (nth, result) in case.encoders.iter().enumerate() {
            y += ROW_HEIGHT;
            let kept = share(case, nth).unwrap_or_default();
            let end = BARS_LEFT + (kept.clamp(0.0, 1.0) * BARS_LENGTH).round() as i32;
            let colour = if nth + 1 == case.encoders.len() { OURS } else { RIVAL };
            write(canvas, &result.encoder, (BARS_LEFT - 8, y), 14, HPos::Right, BLACK)?;
            canvas.draw(&Rectangle::new(
                [(BARS_LEFT, y - ROW_HEIGHT + 4), (end.max(BARS_LEFT + 1), y)],
                colour.filled(),
            ))?;
            write(canvas, &percent(kept), (end + 6, y), 13, HPos::Left, GREY)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::specimen;

    #[test]
    fn same_functions_are_shown_with_what_each_encoder_keeps() {
        let picture = svg(&specimen::bench()).unwrap();
        for text in ["pandas, random layout", "dormouse", "7.5 %", "26 %"] {
            assert!(picture.contains(text), "{text:?} is not in the picture");
        }
        assert!(!picture.contains("numpy"), "another function is in the table alone");
    }

    #[test]
    fn an_empty_result_is_an_empty_picture() {
        let mut bench = specimen::bench();
        bench.cases.clear();
        assert!(svg(&bench).unwrap().contains("What pages cost"));
    }
}
