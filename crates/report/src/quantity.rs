//! Quantities as people read them: three significant digits, the unit last, a space between.

const KIB: f64 = 1024.0;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// `812 B`, `1.25 MiB`, `54.3 MiB`, `1023 MiB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    scaled(bytes as f64, KIB, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// As [`bytes`], with a minus sign where it is owed.
pub fn signed_bytes(amount: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    format!("{sign}{}", bytes(amount.unsigned_abs()))
}

/// `850 us`, `12.4 ms`, `1.25 s`.
pub fn micros(us: u64) -> String {
    if us < 1000 {
        return format!("{us} us");
    }
    scaled(us as f64, 1000.0, &["us", "ms", "s"])
}

/// `4.2x`, `31x`; under one `0.42x`.
pub fn ratio(ratio: f64) -> String {
    format!("{}x", significant(ratio, 2))
}

/// A share of one as `0.06 %`, `2.7 %`, `63 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", significant(share * 100.0, 2))
}

/// How long something has been so: `12 s`, `5 min`, `3 h`, `2 d`.
pub fn age(ms: u64) -> String {
    match ms {
        0..MINUTE_MS => format!("{} s", ms / SECOND_MS),
        MINUTE_MS..HOUR_MS => format!("{} min", ms / MINUTE_MS),
        HOUR_MS..DAY_MS => format!("{} h", ms / HOUR_MS),
        _ => format!("{} d", ms / DAY_MS),
    }
}

/// The largest unit that leaves a number of at least one, and three digits of it.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // Half a unit below the next step the number would be printed as the step itself.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    format!("{} {}", significant(value, 3), units.get(unit).unwrap_or(&""))
}

/// `value` with that many digits that matter; digits before the point are never rounded away.
fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (digits - 1 - magnitude).clamp(0, 6);
    // Rounding may carry into a digit more (9.996 -> 10.00): then one decimal fewer is owed.
    let scale = 10f64.powi(decimals);
    let carried = ((value.abs() * scale).round() / scale).log10().floor() as i32 > magnitude;
    let decimals = if carried { (decimals - 1).max(0) } else { decimals };
    format!("{value:.*}", decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shown: String, expected: &str) {
        assert_eq!(shown, expected);
    }

    #[test]
    fn bytes_have_three_digits_and_a_binary_unit() {
        check(bytes(0), "0 B");
        check(bytes(1023), "1023 B");
        check(bytes(1024), "1.00 KiB");
        check(bytes(1_310_720), "1.25 MiB");
        check(bytes(54 << 20), "54.0 MiB");
        check(bytes((1 << 20) - 1), "1.00 MiB");
        check(bytes(1000 << 20), "1000 MiB");
        check(signed_bytes(-4096), "-4.00 KiB");
    }

    #[test]
    fn times_change_their_unit_where_the_number_would_grow() {
        check(micros(850), "850 us");
        check(micros(12_440), "12.4 ms");
        check(micros(9_999), "10.0 ms");
        check(micros(999_900), "1.00 s");
        check(micros(330_000_000), "330 s");
    }

    #[test]
    fn ratios_and_shares_have_two_digits() {
        check(ratio(4.21), "4.2x");
        check(ratio(134.0), "134x");
        check(ratio(0.5), "0.50x");
        check(percent(0.0006), "0.060 %");
        check(percent(0.027), "2.7 %");
        check(percent(0.63), "63 %");
        check(percent(1.0), "100 %");
    }

    #[test]
    fn an_age_is_a_whole_number() {
        check(age(12_900), "12 s");
        check(age(3_599_000), "59 min");
        check(age(3 * DAY_MS), "3 d");
    }
}
