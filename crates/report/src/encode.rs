//! The result of `dormouse bench encode`: the shape that `--json` writes, and the table.

use serde::{Deserialize, Serialize};

use crate::bench::Environment;
use crate::quantity::{bytes, micros, percent};
use crate::stats;
use crate::table::{Column, Table};

const PAGE_BYTES: u64 = 4096;

/// One run of the experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodeBench {
    /// Where it ran.
    pub environment: Environment,
    /// What it was told to do.
    pub setting: EncodeSetting,
    /// What came out, for each process and base.
    pub cases: Vec<EncodeCase>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// The knobs of the experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodeSetting {
    /// How often everything was encoded and decoded; the quickest counts.
    pub rounds: u64,
    /// Pairs of processes of each function.
    pub pairs: u64,
    /// Sandboxes that share a base, where its price is counted.
    pub sharers: u64,
}

/// One process against one base process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodeCase {
    /// `pinned` or `random`.
    pub layout: String,
    /// What ran.
    pub worker: String,
    /// What ran in the base process.
    pub base: String,
    /// Pages of the process that are not zero.
    pub content_bytes: u64,
    /// Those that are not identical to a page of the base process.
    pub rest_bytes: u64,
    /// The base process, compressed.
    pub base_bytes: u64,
    /// The relocation, as it is kept.
    pub relocation_bytes: u64,
    /// Runs of the relocation.
    pub relocation_runs: u64,
    /// Time to find base pages and to learn the relocation.
    pub find_us: u64,
    /// Patch groups of dormouse that are larger than zstd page by page.
    pub worse_groups: u64,
    /// By how many bytes they are, all together.
    pub worse_bytes: u64,
    /// What the store makes of all pages, in each of its ways to keep them without a base.
    #[serde(default)]
    pub stored: Vec<StoredResult>,
    /// Each encoder, in the order of the table; the last is dormouse's.
    pub encoders: Vec<EncodeResult>,
    /// What dormouse keeps in each pair of processes, upwards; empty if there was but one.
    pub kept_shares: Vec<f64>,
}

/// What the store made of all distinct pages of one process, put in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredResult {
    /// `cold`, `base` or `hot`.
    pub groups: String,
    /// The pages.
    pub content_bytes: u64,
    /// What the store keeps of them.
    pub kept_bytes: u64,
    /// What zstd makes of them page by page, at the level of the store; no page is larger than itself.
    pub page_by_page_bytes: u64,
    /// Groups.
    pub count: u64,
    /// Those for which the store keeps more than zstd page by page.
    pub worse_groups: u64,
    /// Their pages.
    pub worse_pages: u64,
    /// By how many bytes they are larger, all together.
    pub worse_bytes: u64,
}

impl StoredResult {
    /// Counts one group.
    pub fn add(&mut self, pages: u64, kept_bytes: u64, page_by_page_bytes: u64) {
        self.count += 1;
        self.content_bytes += pages * PAGE_BYTES;
        self.kept_bytes += kept_bytes;
        self.page_by_page_bytes += page_by_page_bytes;
        if kept_bytes > page_by_page_bytes {
            self.worse_groups += 1;
            self.worse_pages += pages;
            self.worse_bytes += kept_bytes - page_by_page_bytes;
        }
    }

    fn text(&self) -> String {
        let share = |bytes| stats::ratio(bytes, self.content_bytes).map_or_else(|| "-".to_owned(), percent);
        format!(
            "{} {} ({}), {} of {} groups larger, by {}",
            self.groups,
            share(self.kept_bytes),
            share(self.page_by_page_bytes),
            self.worse_groups,
            self.count,
            bytes(self.worse_bytes)
        )
    }
}

/// What one encoder made of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EncodeResult {
    /// Its name.
    pub encoder: String,
    /// Everything that it keeps, but for the base.
    pub kept_bytes: u64,
    /// Whether it needs the base.
    pub has_base: bool,
    /// Content encoded a second on one core.
    pub encode_bytes_per_s: f64,
    /// Content decoded a second on one core, the base pages included.
    pub decode_bytes_per_s: f64,
}

impl EncodeCase {
    /// The pair of processes in the middle, by what dormouse keeps, with the figures of all of them.
    pub fn median(mut pairs: Vec<EncodeCase>) -> Option<EncodeCase> {
        let kept =
            |case: &EncodeCase| case.encoders.last().and_then(|last| case.kept_share(last)).unwrap_or(1.0);
        pairs.sort_by(|a, b| kept(a).total_cmp(&kept(b)));
        let kept_shares = pairs.iter().map(kept).collect();
        let middle = pairs.len() / 2;
        (middle < pairs.len()).then(|| EncodeCase { kept_shares, ..pairs.swap_remove(middle) })
    }

    /// Kept bytes as a share of the content, without the base.
    pub fn kept_share(&self, result: &EncodeResult) -> Option<f64> {
        stats::ratio(result.kept_bytes, self.content_bytes)
    }

    /// The same, with the process' share of the base.
    pub fn kept_share_with_base(&self, result: &EncodeResult, sharers: u64) -> Option<f64> {
        let base_bytes = if result.has_base { self.base_bytes / sharers.max(1) } else { 0 };
        stats::ratio(result.kept_bytes + base_bytes, self.content_bytes)
    }

    /// What the case is called: the worker, and its base if that is another.
    pub fn label(&self) -> String {
        match self.worker == self.base {
            true => self.worker.clone(),
            false => format!("{} on {}", self.worker, self.base),
        }
    }
}

impl EncodeBench {
    /// The result for people.
    pub fn table(&self, width: usize) -> String {
        let mut table = Table::new([
            Column::left("layout").optional(2),
            Column::left("worker"),
            Column::left("encoder").shrinking(),
            Column::right("kept"),
            Column::right("with base").optional(3),
            Column::right("encode GB/s").optional(1),
            Column::right("decode GB/s").optional(1),
        ]);
        for case in &self.cases {
            for (place, result) in case.encoders.iter().enumerate() {
                table.row(self.row(case, result, place == 0));
            }
        }
        let stored = self.cases.iter().filter(|case| case.worker == case.base).filter_map(stored);
        let notes = self.cases.iter().map(about).chain(stored).chain(self.notes.iter().cloned());
        notes.for_each(|note| table.note(&note));
        format!("{}\n\n{}", self.headline(), table.render(width))
    }

    fn headline(&self) -> String {
        let environment = &self.environment;
        format!(
            "Linux {}, {} CPUs ({}); Python {}; {} pairs of processes, the quickest of {} rounds, one core",
            environment.kernel,
            environment.cpus,
            environment.cpu,
            environment.python,
            self.setting.pairs,
            self.setting.rounds,
        )
    }

    fn row(&self, case: &EncodeCase, result: &EncodeResult, is_first: bool) -> Vec<String> {
        let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
        let speed = |bytes_per_s: f64| format!("{:.2}", bytes_per_s / 1e9);
        let first = |text: String| if is_first { text } else { String::new() };
        vec![
            first(case.layout.clone()),
            first(case.label()),
            result.encoder.clone(),
            share(case.kept_share(result)),
            share(case.kept_share_with_base(result, self.setting.sharers)),
            speed(result.encode_bytes_per_s),
            speed(result.decode_bytes_per_s),
        ]
    }
}

/// What stands beside the table for each case.
fn about(case: &EncodeCase) -> String {
    format!(
        "{} {}: {} of pages, {} not identical; base {}; relocation {} in {} runs; find {}; {} groups worse than zstd page \
         by page, by {}{}",
        case.layout,
        case.label(),
        bytes(case.content_bytes),
        bytes(case.rest_bytes),
        bytes(case.base_bytes),
        bytes(case.relocation_bytes),
        case.relocation_runs,
        micros(case.find_us),
        case.worse_groups,
        bytes(case.worse_bytes),
        match case.kept_shares.as_slice() {
            [least, .., most] =>
                format!("; dormouse kept {} to {} in all pairs", percent(*least), percent(*most)),
            _ => String::new(),
        },
    )
}

/// What the store keeps, beside the table.
fn stored(case: &EncodeCase) -> Option<String> {
    let texts: Vec<String> = case.stored.iter().map(StoredResult::text).collect();
    (!texts.is_empty())
        .then(|| format!("{} {}, as the store keeps them: {}", case.layout, case.worker, texts.join("; ")))
}

/// Figures for the tests of the table and of the chart.
#[cfg(test)]
pub(crate) mod specimen {
    use super::*;

    fn stored() -> StoredResult {
        let mut stored = StoredResult { groups: "cold".to_owned(), ..StoredResult::default() };
        stored.add(16, 16 << 10, 18 << 10);
        stored.add(16, 20 << 10, 19 << 10);
        stored
    }

    pub(crate) fn bench() -> EncodeBench {
        let result = |encoder: &str, kept_bytes, has_base| EncodeResult {
            encoder: encoder.to_owned(),
            kept_bytes,
            has_base,
            encode_bytes_per_s: 4.2e8,
            decode_bytes_per_s: 1.31e9,
        };
        let case = |layout: &str, worker: &str, base: &str| EncodeCase {
            layout: layout.to_owned(),
            worker: worker.to_owned(),
            base: base.to_owned(),
            content_bytes: 50 << 20,
            rest_bytes: 49 << 20,
            base_bytes: 12 << 20,
            relocation_bytes: 4096,
            relocation_runs: 900,
            find_us: 120_000,
            worse_groups: 3,
            worse_bytes: 40,
            stored: vec![stored()],
            encoders: vec![result("zstd", 13 << 20, false), result("dormouse", 3 << 20, true)],
            kept_shares: vec![0.05, 0.06, 0.08],
        };
        let environment = Environment {
            kernel: "6.18.0".to_owned(),
            cpu: "a processor".to_owned(),
            cpus: 2,
            python: "3.11.7".to_owned(),
            ..Environment::default()
        };
        let cases = vec![case("random", "pandas", "pandas"), case("pinned", "pandas", "numpy")];
        let setting = EncodeSetting { rounds: 3, pairs: 3, sharers: 16 };
        EncodeBench { environment, setting, cases, notes: vec!["a note".to_owned()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_each_encoder_keeps() {
        let mut bench = specimen::bench();
        bench.cases.truncate(1);
        assert_eq!(
            bench.table(100),
            "\
Linux 6.18.0, 2 CPUs (a processor); Python 3.11.7; 3 pairs of processes, the quickest of 3 rounds, one core

layout  worker  encoder    kept  with base  encode GB/s  decode GB/s
random  pandas  zstd       26 %       26 %         0.42         1.31
\x20               dormouse  6.0 %      7.5 %         0.42         1.31
random pandas: 50.0 MiB of pages, 49.0 MiB not identical; base 12.0 MiB; relocation 4.00 KiB in 900 runs; find 120 ms; \
3 groups worse than zstd page by page, by 40 B; dormouse kept 5.0 % to 8.0 % in all pairs
random pandas, as the store keeps them: cold 28 % (29 %), 1 of 2 groups larger, by 1.00 KiB
a note
"
        );
    }

    #[test]
    fn the_pair_in_the_middle_stands_for_all() {
        let pair = |mib: u64| {
            let mut case = specimen::bench().cases.remove(0);
            case.encoders[1].kept_bytes = mib << 20;
            case
        };
        let median = EncodeCase::median(vec![pair(10), pair(5), pair(20)]).unwrap();
        assert_eq!(median.encoders[1].kept_bytes, 10 << 20);
        assert_eq!(median.kept_shares, [0.1, 0.2, 0.4]);
        assert_eq!(EncodeCase::median(Vec::new()), None);
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let bench = specimen::bench();
        let text = serde_json::to_string(&bench).unwrap();
        assert_eq!(serde_json::from_str::<EncodeBench>(&text).unwrap(), bench);
    }
}
