//! `dormouse doctor`: what this machine can do, and what it would take to do more.

use linux::probe::{Finding, Verdict};
use report::table::{Column, Table};
use serde::Serialize;

use crate::bench::rivals;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse doctor
  dormouse doctor --json | jq '.[] | select(.verdict != \"good\")'

Ends with an error if nothing could be put to sleep here.")]
pub(crate) struct Args {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut findings = linux::probe::look();
    let program = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    findings.extend(linux::probe::cells(&program, &std::env::temp_dir()));
    match args.json {
        true => output::print_json(&rows(&findings, &rivals()))?,
        false => output::print(&table(&findings, &rivals(), output::width()))?,
    }
    match findings.iter().find(|finding| finding.verdict == Verdict::Fatal) {
        None => Ok(()),
        Some(finding) => {
            Err(Failure::new(format!("dormouse cannot work here: {}", finding.what)).hint(finding.advice))
        }
    }
}

/// A finding in JSON. Of a rival it is only said what was found.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    verdict: &'static str,
    found: String,
    advice: &'static str,
}

fn rows(findings: &[Finding], rivals: &[(&'static str, String)]) -> Vec<Row> {
    let finding = |finding: &Finding| Row {
        what: finding.what,
        verdict: word(finding.verdict),
        found: finding.found.clone(),
        advice: finding.advice,
    };
    let rival = |(what, found): &(&'static str, String)| Row {
        what,
        verdict: RIVAL,
        found: found.clone(),
        advice: "",
    };
    findings.iter().map(finding).chain(rivals.iter().map(rival)).collect()
}

/// Where findings have their verdict.
const RIVAL: &str = "bench";

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Lacking => "lacking",
        Verdict::Fatal => "FATAL",
    }
}

/// `rivals`: what `dormouse bench` compares with, and whether it is here.
fn table(findings: &[Finding], rivals: &[(&'static str, String)], width: usize) -> String {
    let mut table = Table::new([Column::left("what"), Column::left(""), Column::left("found").shrinking()]);
    for finding in findings {
        table.row([finding.what.to_owned(), word(finding.verdict).to_owned(), finding.found.clone()]);
    }
    for (what, found) in rivals {
        table.row([(*what).to_owned(), RIVAL.to_owned(), found.clone()]);
    }
    for finding in findings.iter().filter(|finding| !finding.advice.is_empty()) {
        table.note(&format!("{}: {}", finding.what, finding.advice));
    }
    table.render(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_comes_with_advice() {
        let finding = Finding {
            what: "freezer",
            verdict: Verdict::Lacking,
            found: "none".into(),
            advice: "mount cgroup2",
        };
        let expected = "\
what              found
freezer  lacking  none
zram     bench    in use
freezer: mount cgroup2
";
        assert_eq!(table(&[finding], &[("zram", "in use".to_owned())], 80), expected);
    }
}
