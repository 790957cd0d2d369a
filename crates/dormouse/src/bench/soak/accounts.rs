//! Whether the account is honest: all wake, all fall asleep, and what the account says that this gave back is what the
//! kernel says.

use protocol::NodeRecord;
use report::soak::AccountCheck;

use super::act::Act;
use super::crew::At;
use super::machine;
use super::stage::{Seat, Stage};
use super::tally::Promise;
use crate::bench::error::BenchError;
use crate::bench::ours::kept_bytes;

/// How often those that were left warm are told to sleep again.
const SLEEPS_MAX: usize = 3;

impl Stage<'_> {
    /// Measures. All sleep afterwards.
    pub(super) fn check_account(
        &self,
        at: At,
        when: &str,
        seats: &mut [Seat],
    ) -> Result<AccountCheck, BenchError> {
        self.each(at, seats.iter_mut().collect(), |_| Act::Invoke(0));
        self.await_all_back(at);
        let warm = self.reading()?;
        for _ in 0..SLEEPS_MAX {
            let awake = seats.iter_mut().filter(|seat| !seat.is_asleep()).collect();
            self.each(at, awake, |_| Act::Sleep);
        }
        let asleep = self.reading()?;
        let growth = |record: &NodeRecord| record.own_resident_bytes.saturating_sub(self.own_before_bytes);
        let check = AccountCheck {
            when: when.to_owned(),
            sandboxes: seats.len() as u64,
            asleep: asleep.record.dedup_sandboxes,
            warm_bytes: kept_bytes(&warm.record, growth(&warm.record)),
            asleep_bytes: kept_bytes(&asleep.record, growth(&asleep.record)),
            asleep_accounts_bytes: asleep.record.account.kept_bytes(),
            machine_bytes: asleep.free_bytes as i64 - warm.free_bytes as i64,
            was_quiet: warm.was_quiet && asleep.was_quiet,
        };
        tracing::info!(?check, warm = ?warm.record, asleep = ?asleep.record, "account");
        if !self.tally.must_end() {
            let said = || format!("it gives {}, the kernel {}", check.account_bytes(), check.machine_bytes);
            self.tally.judge(at, Promise::Account, check.is_honest().then_some(()).ok_or_else(said));
        }
        Ok(check)
    }

    fn reading(&self) -> Result<Reading, BenchError> {
        linux::heap::give_back();
        let (free_bytes, was_quiet) = machine::free_bytes(&self.workshop.stop)?;
        Ok(Reading { record: self.node.record(), free_bytes, was_quiet })
    }
}

struct Reading {
    record: NodeRecord,
    free_bytes: u64,
    was_quiet: bool,
}
