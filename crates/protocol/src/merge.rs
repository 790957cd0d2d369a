//! What may be merged of a sandbox while it is awake.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whose equal pages become one while sandboxes run. Never across sharing domains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merge {
    /// Nobody's: nothing is looked at, and nothing listens.
    #[default]
    Off,
    /// Those of which the program says so.
    Advised,
    /// All that are found after its first invocation.
    All,
}

/// There is no such choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `off`, `advised` or `all`")]
pub struct UnknownMerge;

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Merge::Off => "off",
            Merge::Advised => "advised",
            Merge::All => "all",
        })
    }
}

impl FromStr for Merge {
    type Err = UnknownMerge;

    fn from_str(text: &str) -> Result<Self, UnknownMerge> {
        let all = [Merge::Off, Merge::Advised, Merge::All];
        all.into_iter().find(|merge| merge.to_string() == text).ok_or(UnknownMerge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for merge in [Merge::Off, Merge::Advised, Merge::All] {
            assert_eq!(merge.to_string().parse(), Ok(merge));
        }
        assert_eq!("".parse::<Merge>(), Err(UnknownMerge));
        assert_eq!("All".parse::<Merge>(), Err(UnknownMerge));
    }
}
