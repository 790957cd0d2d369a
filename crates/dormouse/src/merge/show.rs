//! What a merge has brought, as a table and as JSON.

use linux::ksm::End;
use report::quantity::{bytes, micros, signed_bytes};
use report::table::{Column, Table};
use serde::Serialize;

/// One call of `dormouse merge`.
#[derive(Debug, Serialize)]
pub(super) struct Merge {
    pub(super) backend: &'static str,
    /// Why this one.
    pub(super) reason: &'static str,
    pub(super) processes: Vec<Process>,
    /// Memory that is saved now and was not before.
    pub(super) saved_bytes: i64,
    /// Memory that KSM saves now, of all processes.
    pub(super) saved_in_all_bytes: u64,
    /// Why it ended.
    pub(super) end: End,
    pub(super) full_scans: u64,
    /// From the first look to the last.
    pub(super) took_us: u64,
    /// Of it, what KSM took.
    pub(super) burst_us: u64,
    /// Processor time of ours.
    pub(super) cpu_us: u64,
    /// Processor time of KSM; null where it cannot be seen.
    pub(super) ksmd_cpu_us: Option<u64>,
}

/// One of its processes.
#[derive(Debug, Serialize)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) name: String,
    pub(super) rss_bytes: u64,
    pub(super) pss_before_bytes: u64,
    pub(super) pss_bytes: u64,
    /// Memory of its own that could be looked at.
    pub(super) private_bytes: u64,
    pub(super) marked_bytes: u64,
    pub(super) marked_ranges: u64,
    /// Memory that is one page with that of another process, or with another page of its own.
    pub(super) merged_bytes: u64,
    /// As the kernel counts it: what is merged less what KSM keeps of the process.
    pub(super) profit_bytes: i64,
    /// The longest time for which it was stopped.
    pub(super) longest_stop_us: u64,
    /// What kept it from being merged.
    pub(super) problem: Option<String>,
}

/// For people.
pub(super) fn table(merge: &Merge, width: usize) -> String {
    let mut table = Table::new([
        Column::right("pid"),
        Column::left("program").shrinking(),
        Column::right("rss"),
        Column::right("pss before").optional(3),
        Column::right("pss"),
        Column::right("marked").optional(1),
        Column::right("merged"),
        Column::right("profit").optional(2),
        Column::right("stopped").optional(0),
    ]);
    for process in &merge.processes {
        table.row([
            process.pid.to_string(),
            process.name.clone(),
            bytes(process.rss_bytes),
            bytes(process.pss_before_bytes),
            bytes(process.pss_bytes),
            bytes(process.marked_bytes),
            bytes(process.merged_bytes),
            signed_bytes(process.profit_bytes),
            micros(process.longest_stop_us),
        ]);
    }
    for process in &merge.processes {
        if let Some(problem) = &process.problem {
            table.note(&format!("process {} was not merged: {problem}", process.pid));
        }
    }
    table.note(&sum(merge));
    table.note(&format!("backend {}: {}", merge.backend, merge.reason));
    table.render(width)
}

fn sum(merge: &Merge) -> String {
    let ksmd = merge.ksmd_cpu_us.map_or("not seen here".to_owned(), micros);
    let end = match merge.end {
        End::Settled => "nothing more merges",
        End::Broken => "broken off: run it again for the rest",
        End::Late => "its time was over: run it again for the rest, or with a higher --limit",
    };
    format!(
        "saved {} in {} ({} in all); processor time {} of ours, {} of the kernel's; {end}",
        signed_bytes(merge.saved_bytes),
        micros(merge.took_us),
        bytes(merge.saved_in_all_bytes),
        micros(merge.cpu_us),
        ksmd
    )
}

/// One call of `dormouse merge --unmerge`.
#[derive(Debug, Serialize)]
pub(super) struct Unmerge {
    pub(super) processes: Vec<UnmergedProcess>,
    pub(super) took_us: u64,
}

/// One of its processes.
#[derive(Debug, Serialize)]
pub(super) struct UnmergedProcess {
    pub(super) pid: i32,
    pub(super) name: String,
    /// Memory that was merged.
    pub(super) unmerged_bytes: u64,
    /// Memory that was marked.
    pub(super) unmarked_bytes: u64,
    pub(super) longest_stop_us: u64,
    /// What kept it from being taken back.
    pub(super) problem: Option<String>,
}

impl Unmerge {
    /// For people.
    pub(super) fn lines(&self) -> String {
        let line = |process: &UnmergedProcess| {
            let UnmergedProcess { name, unmerged_bytes, unmarked_bytes, .. } = process;
            let (unmerged, unmarked) = (bytes(*unmerged_bytes), bytes(*unmarked_bytes));
            format!("{name}: {unmerged} that was merged is its own again, of {unmarked} that was marked\n")
        };
        let done = self.processes.iter().filter(|process| process.problem.is_none());
        done.map(line).collect::<String>() + &format!("in {}\n", micros(self.took_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_and_what_was_not_is_said() {
        let process = |pid, problem: Option<&str>| Process {
            pid,
            name: "python3 serve.py".to_owned(),
            rss_bytes: 300 << 20,
            pss_before_bytes: 290 << 20,
            pss_bytes: 200 << 20,
            private_bytes: 280 << 20,
            marked_bytes: 120 << 20,
            marked_ranges: 3,
            merged_bytes: 100 << 20,
            profit_bytes: 99 << 20,
            longest_stop_us: 2300,
            problem: problem.map(str::to_owned),
        };
        let merge = Merge {
            backend: "ksm",
            reason: "no hazards",
            processes: vec![process(7, None), process(8, Some("it is busy"))],
            saved_bytes: 100 << 20,
            saved_in_all_bytes: 120 << 20,
            end: End::Settled,
            full_scans: 4,
            took_us: 1_300_000,
            burst_us: 900_000,
            cpu_us: 120_000,
            ksmd_cpu_us: Some(800_000),
        };
        let shown = table(&merge, 120);
        let row: Vec<&str> =
            shown.lines().nth(1).unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        let expected = [
            "7",
            "python3 serve.py",
            "300 MiB",
            "290 MiB",
            "200 MiB",
            "120 MiB",
            "100 MiB",
            "99.0 MiB",
            "2.30 ms",
        ];
        assert_eq!(row.iter().map(|cell| cell.trim()).collect::<Vec<_>>(), expected);
        let notes: Vec<&str> = shown.lines().skip(3).collect();
        let expected = [
            "process 8 was not merged: it is busy",
            "saved 100 MiB in 1.30 s (120 MiB in all); processor time 120 ms of ours, 800 ms of the kernel's; nothing more merges",
            "backend ksm: no hazards",
        ];
        assert_eq!(notes, expected);
    }
}
