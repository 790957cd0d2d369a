//! Who may share pages with whom.

use std::sync::Arc;

/// A sharing domain. Two equal pages are kept once if and only if their domains are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Domain {
    /// Shares with everyone of the same name: a tenant, or one function.
    Named(Arc<str>),
    /// Shares with nobody who has another number: one sandbox with secrets, numbered by whoever starts it.
    Private(u64),
}

impl Domain {
    /// The domain of that name.
    pub fn named(name: &str) -> Self {
        Self::Named(name.into())
    }

    /// A domain of its own. `unique` is a number that nobody else uses.
    pub fn private(unique: u64) -> Self {
        Self::Private(unique)
    }
}
