//! `dormouse doctor`: what this machine can do, and what it would take to do more.

use linux::probe::{Finding, Verdict};
use report::table::{Column, Table};

use crate::bench::rivals;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse doctor

Ends with an error if nothing could be put to sleep here.")]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<(), Failure> {
    let findings = linux::probe::look();
    output::print(&table(&findings, &rivals(), output::width()))?;
    match findings.iter().find(|finding| finding.verdict == Verdict::Fatal) {
        None => Ok(()),
        Some(finding) => {
            Err(Failure::new(format!("dormouse cannot work here: {}", finding.what)).hint(finding.advice))
        }
    }
}

/// `rivals`: what `dormouse bench` compares with, and whether it is here.
fn table(findings: &[Finding], rivals: &[(&'static str, String)], width: usize) -> String {
    let mut table = Table::new([Column::left("what"), Column::left(""), Column::left("found").shrinking()]);
    for finding in findings {
        let word = match finding.verdict {
            Verdict::Good => "good",
            Verdict::Lacking => "lacking",
            Verdict::Fatal => "FATAL",
        };
        table.row([finding.what.to_owned(), word.to_owned(), finding.found.clone()]);
    }
    for (what, found) in rivals {
        table.row([(*what).to_owned(), "bench".to_owned(), found.clone()]);
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
