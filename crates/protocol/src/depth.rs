//! How deep a sandbox sleeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How much of a sandbox leaves when it sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Everything that can.
    #[default]
    Deep,
    /// Everything but the recorded working set: the pages that the next invocation will touch stay where they are, so
    /// that it hardly notices. While no working set is known, everything.
    Light,
}

/// There is no such depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `deep` or `light`")]
pub struct UnknownDepth;

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Depth::Deep => "deep",
            Depth::Light => "light",
        })
    }
}

impl FromStr for Depth {
    type Err = UnknownDepth;

    fn from_str(text: &str) -> Result<Self, UnknownDepth> {
        [Depth::Deep, Depth::Light].into_iter().find(|depth| depth.to_string() == text).ok_or(UnknownDepth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_read_as_it_is_written() {
        for depth in [Depth::Deep, Depth::Light] {
            assert_eq!(depth.to_string().parse(), Ok(depth));
        }
        assert_eq!("".parse::<Depth>(), Err(UnknownDepth));
        assert_eq!("Deep".parse::<Depth>(), Err(UnknownDepth));
    }
}
