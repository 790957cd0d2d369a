//! The result of `dormouse bench soak`: the shape that `--json` writes, and the tables.

use serde::{Deserialize, Serialize};

use crate::bench::Environment;
use crate::quantity::{bytes, percent, signed_bytes};
use crate::table::{Column, Table};

/// The account is honest if it says what the kernel says, but for this share.
const HONEST_SHARE: f64 = 0.05;

/// One soak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoakBench {
    /// Where it ran.
    pub environment: Environment,
    /// What it was told to do.
    pub setting: SoakSetting,
    /// Rounds of acts that it came to.
    pub rounds: u64,
    /// What was done, and what happened.
    pub acts: Vec<ActCount>,
    /// What was looked after.
    pub promises: Vec<PromiseCount>,
    /// Before and after the rounds.
    pub accounts: Vec<AccountCheck>,
    /// Private memory of the process and of its guard before there were sandboxes.
    pub own_before_bytes: u64,
    /// The same when all sandboxes are gone.
    pub own_after_bytes: u64,
    /// A line for each broken promise.
    pub failures: Vec<String>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// The knobs of a soak.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoakSetting {
    /// All choices follow from it.
    pub seed: u64,
    /// How long the rounds went on.
    pub minutes: f64,
    /// Sandboxes at a time.
    pub sandboxes: u64,
    /// What ran in them, in equal parts.
    pub workers: Vec<String>,
    /// `pinned` or `random`.
    pub layout: String,
    /// Threads that drove them.
    pub threads: u64,
}

/// How often something was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActCount {
    /// What.
    pub act: String,
    /// How often.
    pub count: u64,
}

/// How often a promise was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseCount {
    /// Which.
    pub promise: String,
    /// It was kept.
    pub kept: u64,
    /// It was not.
    pub broken: u64,
}

/// What sleep gives back, by the account and by the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountCheck {
    /// `fresh`: before the rounds; `soaked`: after them.
    pub when: String,
    /// How many there were.
    pub sandboxes: u64,
    /// Of them slept; the others were left warm.
    pub asleep: u64,
    /// Cost of all awake.
    pub warm_bytes: u64,
    /// Cost of all asleep, with what the node holds beyond their parts.
    pub asleep_bytes: u64,
    /// Their parts alone.
    pub asleep_accounts_bytes: u64,
    /// How much more memory the machine had when all slept.
    pub machine_bytes: i64,
    /// Whether the machine stood still while it was read.
    pub was_quiet: bool,
}

impl AccountCheck {
    /// What sleep gave back by the account.
    pub fn account_bytes(&self) -> i64 {
        self.warm_bytes as i64 - self.asleep_bytes as i64
    }

    /// How much of what the kernel says the account says too much (or, below zero, too little).
    pub fn off_share(&self) -> f64 {
        (self.account_bytes() - self.machine_bytes) as f64 / (self.machine_bytes.max(1)) as f64
    }

    /// Whether both say the same.
    pub fn is_honest(&self) -> bool {
        self.off_share().abs() <= HONEST_SHARE
    }
}

impl SoakBench {
    /// How often a promise was broken.
    pub fn broken(&self) -> u64 {
        self.promises.iter().map(|promise| promise.broken).sum()
    }

    /// For people.
    pub fn table(&self, width: usize) -> String {
        let tables = [self.acts_table(), self.promises_table(), self.accounts_table()];
        let tables: Vec<String> = tables.iter().map(|table| table.render(width)).collect();
        format!("{}\n\n{}", self.headline(), tables.join("\n"))
    }

    fn headline(&self) -> String {
        let (environment, setting) = (&self.environment, &self.setting);
        format!(
            "{environment}\nseed {}: {} rounds in {} minutes; {} sandboxes of {}, {} layout; {} threads",
            setting.seed,
            self.rounds,
            setting.minutes,
            setting.sandboxes,
            setting.workers.join(", "),
            setting.layout,
            setting.threads,
        )
    }

    fn acts_table(&self) -> Table {
        let mut table = Table::new([Column::left("what happened").shrinking(), Column::right("times")]);
        for act in &self.acts {
            table.row([act.act.clone(), act.count.to_string()]);
        }
        table
    }

    fn promises_table(&self) -> Table {
        let mut table =
            Table::new([Column::left("promise").shrinking(), Column::right("kept"), Column::right("broken")]);
        for promise in &self.promises {
            let broken = if promise.broken == 0 { "0".to_owned() } else { format!("{} !", promise.broken) };
            table.row([promise.promise.clone(), promise.kept.to_string(), broken]);
        }
        self.failures.iter().for_each(|failure| table.note(failure));
        table
    }

    fn accounts_table(&self) -> Table {
        let mut table = Table::new([
            Column::left("account"),
            Column::right("asleep"),
            Column::right("warm"),
            Column::right("kept asleep"),
            Column::right("of it in accounts").optional(0),
            Column::right("given back"),
            Column::right("by the kernel"),
            Column::right("off by"),
        ]);
        for check in &self.accounts {
            table.row([
                check.when.clone(),
                format!("{} of {}", check.asleep, check.sandboxes),
                bytes(check.warm_bytes),
                bytes(check.asleep_bytes),
                bytes(check.asleep_accounts_bytes),
                signed_bytes(check.account_bytes()),
                signed_bytes(check.machine_bytes),
                percent(check.off_share()),
            ]);
        }
        if self.accounts.iter().any(|check| !check.was_quiet) {
            table.note("others used this machine while it was read: the figure of the kernel is rough");
        }
        let (before, after) = (self.own_before_bytes, self.own_after_bytes);
        table.note(&format!("this process: {} before, {} when all are gone", bytes(before), bytes(after)));
        self.notes.iter().for_each(|note| table.note(note));
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> SoakBench {
        let count = |promise: &str, broken| PromiseCount { promise: promise.to_owned(), kept: 40, broken };
        SoakBench {
            environment: crate::bench::specimen::bench().environment,
            setting: SoakSetting {
                seed: 7,
                minutes: 0.5,
                sandboxes: 12,
                workers: vec!["hello".to_owned()],
                layout: "pinned".to_owned(),
                threads: 4,
            },
            rounds: 3,
            acts: vec![ActCount { act: "sleeps".to_owned(), count: 99 }],
            promises: vec![count("answers are right", 0), count("memory is what it was", 1)],
            accounts: vec![AccountCheck {
                when: "fresh".to_owned(),
                sandboxes: 12,
                asleep: 12,
                warm_bytes: 1100 << 20,
                asleep_bytes: 100 << 20,
                asleep_accounts_bytes: 90 << 20,
                machine_bytes: 980 << 20,
                was_quiet: true,
            }],
            own_before_bytes: 4 << 20,
            own_after_bytes: 5 << 20,
            failures: vec!["seed 7, round 3: no".to_owned()],
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_tables_say_what_happened_and_what_was_kept() {
        let expected = "\
Linux 6.18.0, 2 CPUs (a processor), 24.0 GiB; Python 3.11.7; stopped by cgroup freezer
seed 7: 3 rounds in 0.5 minutes; 12 sandboxes of hello, pinned layout; 4 threads

what happened  times
sleeps            99

promise                kept  broken
answers are right        40       0
memory is what it was    40     1 !
seed 7, round 3: no

account    asleep      warm  kept asleep  of it in accounts  given back  by the kernel  off by
fresh    12 of 12  1.07 GiB      100 MiB           90.0 MiB    1000 MiB        980 MiB   2.0 %
this process: 4.00 MiB before, 5.00 MiB when all are gone
";
        assert_eq!(bench().table(120), expected);
    }

    #[track_caller]
    fn check(machine_bytes: i64, is_honest: bool) {
        let account = AccountCheck { warm_bytes: 1000, asleep_bytes: 0, machine_bytes, ..Default::default() };
        assert_eq!(account.is_honest(), is_honest);
    }

    #[test]
    fn an_account_is_honest_within_a_twentieth() {
        check(1000, true);
        check(953, true);
        check(950, false);
        check(1049, true);
        check(1060, false);
        check(-5, false);
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let text = serde_json::to_string(&bench()).unwrap();
        assert_eq!(serde_json::from_str::<SoakBench>(&text).unwrap(), bench());
        assert_eq!(bench().broken(), 1);
    }
}
