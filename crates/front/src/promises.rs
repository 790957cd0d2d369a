//! What of the allowance is promised to whom. The brain keeps to it; here is what may be promised at all.

use std::collections::BTreeMap;

use protocol::FunctionName;

use crate::catalogue::Version;

/// What Lambda keeps for functions for which nothing is reserved.
const UNRESERVED_MIN: usize = 100;

/// A smaller allowance than Lambda's keeps this part of it, as 100 are of Lambda's 1,000.
const UNRESERVED_PART: usize = 10;

/// A promise that cannot be kept. Lambda answers each with `InvalidParameterValueException`, but for a version that is
/// not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too little would be left for the other functions.
    #[error(
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution \
         below its minimum value of [{min}]."
    )]
    Unreserved {
        /// What has to be left.
        min: usize,
    },
    /// More is provisioned for the function than is to be reserved.
    #[error(
        "Specified ReservedConcurrentExecutions for function is less than its provisioned concurrency of \
         [{provisioned}]."
    )]
    BelowProvisioned {
        /// Sum over its versions.
        provisioned: usize,
    },
    /// Less is reserved for the function than is to be provisioned.
    #[error(
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    )]
    AboveReserved,
    /// The allowance has less to give than is to be provisioned.
    #[error(
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}]."
    )]
    AboveUnreserved {
        /// What it has to give.
        left: usize,
    },
    /// There is no such version of the function.
    #[error("there is no such version")]
    NoVersion,
}

/// What all functions together may have in flight: in Lambda's words, the concurrency of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Invocations that may be under way at once.
    pub concurrency: usize,
    /// Of them: not reserved for single functions.
    pub unreserved: usize,
}

/// All promises.
#[derive(Clone, Debug)]
pub(crate) struct Promises {
    whole: usize,
    reserved: BTreeMap<FunctionName, usize>,
    provisioned: BTreeMap<(FunctionName, Version), usize>,
}

impl Promises {
    pub(crate) fn new(whole: usize) -> Self {
        Self { whole, reserved: BTreeMap::new(), provisioned: BTreeMap::new() }
    }

    pub(crate) fn allowance(&self) -> Allowance {
        let reserved: usize = self.reserved.values().sum();
        Allowance { concurrency: self.whole, unreserved: self.whole.saturating_sub(reserved) }
    }

    /// What is reserved for one function.
    pub(crate) fn reserved(&self, name: &FunctionName) -> Option<usize> {
        self.reserved.get(name).copied()
    }

    /// What is provisioned of one version.
    pub(crate) fn provisioned(&self, name: &FunctionName, version: Version) -> usize {
        self.provisioned.get(&(name.clone(), version)).copied().unwrap_or(0)
    }

    pub(crate) fn reserve(&mut self, name: &FunctionName, wanted: Option<usize>) -> Result<(), LimitError> {
        let Some(wanted) = wanted else {
            self.reserved.remove(name);
            return Ok(());
        };
        let own = self.reserved(name).unwrap_or(0);
        if self.allowance().unreserved + own < wanted + self.unreserved_min() {
            return Err(LimitError::Unreserved { min: self.unreserved_min() });
        }
        let provisioned = self.provisioned_of(name);
        if wanted < provisioned {
            return Err(LimitError::BelowProvisioned { provisioned });
        }
        self.reserved.insert(name.clone(), wanted);
        Ok(())
    }

    pub(crate) fn provision(
        &mut self,
        name: &FunctionName,
        version: Version,
        wanted: usize,
    ) -> Result<(), LimitError> {
        let key = (name.clone(), version);
        let before = self.provisioned(name, version);
        if wanted > before {
            let more = wanted - before;
            match self.reserved(name) {
                Some(reserved) if self.provisioned_of(name) + more > reserved => {
                    return Err(LimitError::AboveReserved);
                }
                None if more > self.left_to_provision() => {
                    return Err(LimitError::AboveUnreserved { left: self.left_to_provision() });
                }
                _ => {}
            }
        }
        match wanted {
            0 => drop(self.provisioned.remove(&key)),
            _ => drop(self.provisioned.insert(key, wanted)),
        }
        Ok(())
    }

    /// All of a function's, or none; those that become fewer first, to make room.
    pub(crate) fn provision_all(
        &mut self,
        name: &FunctionName,
        wanted: &BTreeMap<Version, usize>,
    ) -> Result<(), LimitError> {
        let mut changed = self.clone();
        let (more, fewer): (Vec<_>, Vec<_>) =
            wanted.iter().partition(|(version, wanted)| **wanted > self.provisioned(name, **version));
        for (version, wanted) in fewer.into_iter().chain(more) {
            changed.provision(name, *version, *wanted)?;
        }
        *self = changed;
        Ok(())
    }

    /// Forgets a version that is gone.
    pub(crate) fn remove_version(&mut self, name: &FunctionName, version: Version) {
        self.provisioned.remove(&(name.clone(), version));
    }

    /// Forgets a function that is gone.
    pub(crate) fn remove(&mut self, name: &FunctionName) {
        self.reserved.remove(name);
        self.provisioned.retain(|(of, _), _| of != name);
    }

    fn unreserved_min(&self) -> usize {
        UNRESERVED_MIN.min(self.whole / UNRESERVED_PART)
    }

    fn provisioned_of(&self, name: &FunctionName) -> usize {
        self.provisioned.iter().filter(|((of, _), _)| of == name).map(|(_, wanted)| wanted).sum()
    }

    fn left_to_provision(&self) -> usize {
        let takes_unreserved = |name: &FunctionName| !self.reserved.contains_key(name);
        let taken = self.provisioned.iter().filter(|((of, _), _)| takes_unreserved(of));
        let taken: usize = taken.map(|(_, wanted)| wanted).sum();
        self.allowance().unreserved.saturating_sub(taken + self.unreserved_min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FunctionName {
        text.parse().unwrap()
    }

    #[test]
    fn a_tenth_of_the_allowance_stays_unreserved() {
        let mut promises = Promises::new(1000);
        assert_eq!(promises.reserve(&name("f"), Some(900)), Ok(()));
        assert_eq!(promises.reserve(&name("g"), Some(1)), Err(LimitError::Unreserved { min: 100 }));
        assert_eq!(promises.reserve(&name("f"), Some(899)), Ok(()));
        assert_eq!(promises.reserve(&name("g"), Some(1)), Ok(()));
        assert_eq!(promises.allowance(), Allowance { concurrency: 1000, unreserved: 100 });
        assert_eq!(promises.reserve(&name("f"), None), Ok(()));
        assert_eq!(promises.allowance().unreserved, 999);
        assert_eq!(Promises::new(50).reserve(&name("f"), Some(45)), Ok(()));
        assert_eq!(Promises::new(50).reserve(&name("f"), Some(46)), Err(LimitError::Unreserved { min: 5 }));
    }

    #[test]
    fn what_is_provisioned_fits_into_what_is_reserved_or_left() {
        let mut promises = Promises::new(1000);
        let (f, g, one) = (name("f"), name("g"), Version::Number(1));
        assert_eq!(promises.reserve(&f, Some(10)), Ok(()));
        assert_eq!(promises.provision(&f, one, 8), Ok(()));
        assert_eq!(promises.provision(&f, Version::Number(2), 3), Err(LimitError::AboveReserved));
        assert_eq!(promises.provision(&f, one, 10), Ok(()));
        let below = Err(LimitError::BelowProvisioned { provisioned: 10 });
        assert_eq!(promises.reserve(&f, Some(9)), below);
        assert_eq!(promises.provision(&g, one, 891), Err(LimitError::AboveUnreserved { left: 890 }));
        assert_eq!(promises.provision(&g, one, 890), Ok(()));
        assert_eq!(promises.provision(&g, one, 0), Ok(()));
        let two = Version::Number(2);
        assert_eq!(promises.provision_all(&f, &[(one, 4), (two, 6)].into()), Ok(()));
        assert_eq!(promises.provision_all(&f, &[(one, 10), (two, 0)].into()), Ok(()));
        assert_eq!(promises.provision_all(&f, &[(one, 9), (two, 2)].into()), Err(LimitError::AboveReserved));
        assert_eq!((promises.provisioned(&f, one), promises.provisioned(&f, two)), (10, 0), "all or none");
        promises.remove(&f);
        assert_eq!(promises.provision(&g, one, 900), Ok(()));
    }
}
