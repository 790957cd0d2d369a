//! From values to heights in a chart.

/// Headroom above the largest value, for its label.
const HEADROOM: f64 = 1.15;

/// A scale with its ticks.
pub(crate) struct Scale {
    least: f64,
    most: f64,
    is_logarithmic: bool,
    /// Where lines of the grid go.
    pub(crate) ticks: Vec<f64>,
}

impl Scale {
    /// From zero, with about five round ticks.
    pub(crate) fn linear(values: impl Iterator<Item = f64>) -> Scale {
        let largest = values.fold(1.0, f64::max);
        let power = 10f64.powf((largest / 5.0).log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].iter().map(|factor| factor * power).find(|step| largest / step <= 5.0);
        let step = step.unwrap_or(largest);
        let most = largest * HEADROOM;
        let ticks = (0..=(most / step) as u32).map(|count| f64::from(count) * step).collect();
        Scale { least: 0.0, most, is_logarithmic: false, ticks }
    }

    /// From a power of ten that leaves the smallest value some height, with a tick at each power.
    pub(crate) fn logarithmic(values: impl Iterator<Item = f64>) -> Scale {
        let values: Vec<f64> = values.collect();
        let smallest = values.iter().copied().filter(|value| *value >= 1.0).fold(f64::INFINITY, f64::min);
        let smallest = if smallest.is_finite() { smallest } else { 1.0 };
        let largest = values.into_iter().fold(smallest, f64::max);
        let least = 10f64.powf((smallest / 1.5).log10().floor());
        // A tenth of the height above the largest, for its label.
        let most = least * (largest / least).max(10.0).powf(1.1);
        let mut ticks = Vec::new();
        let mut tick = least;
        while tick <= most {
            ticks.push(tick);
            tick *= 10.0;
        }
        Scale { least, most, is_logarithmic: true, ticks }
    }

    /// How high `value` stands, as a share of the plot.
    pub(crate) fn share(&self, value: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (value / self.least).ln() / (self.most / self.least).ln(),
            false => (value - self.least) / (self.most - self.least),
        };
        share.clamp(0.0, 1.0)
    }
}
