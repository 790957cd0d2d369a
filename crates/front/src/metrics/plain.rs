//! The same metrics in Prometheus' older text format, 0.0.4: counters carry their whole name in the lines that describe
//! them, and units and the end are not said.

use std::fmt::Write as _;

/// Rewrites OpenMetrics as `prometheus-client` writes it.
pub(super) fn from_open(open: &str) -> String {
    let mut plain = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.take().map_or("", |(_, text)| text);
            // A string takes everything.
            let _ = writeln!(plain, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else {
            let _ = writeln!(plain, "{line}");
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_their_whole_name() {
        let open = "# HELP a Calls, of all.\n# TYPE a counter\na_total{x=\"y\"} 1\n\
                    # HELP b_seconds B.\n# TYPE b_seconds histogram\n# UNIT b_seconds seconds\nb_seconds_sum 0.5\n# EOF\n";
        let plain = "# HELP a_total Calls, of all.\n# TYPE a_total counter\na_total{x=\"y\"} 1\n\
                     # HELP b_seconds B.\n# TYPE b_seconds histogram\nb_seconds_sum 0.5\n";
        assert_eq!(from_open(open), plain);
    }
}
