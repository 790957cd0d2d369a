//! What a function sees of the machine: all of it, or a cell with its package in the places that Lambda has for them.

use std::path::{Path, PathBuf};

use node::{CellSpec, Network, View};

use crate::functions::Function;
use crate::runtime_api::INSIDE_PORT;

const MIB: u64 = 1024 * 1024;

/// How sandboxes are kept apart from the machine and from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Not at all, but for limits: for development.
    #[default]
    None,
    /// Each in a cell: namespaces, a user and a root of its own.
    Cell,
}

/// Where a function finds its files.
pub(crate) struct Places {
    /// Its package.
    pub(crate) package: PathBuf,
    /// The bundled runtime client.
    pub(crate) runtime: PathBuf,
}

impl Isolation {
    /// `package` and `runtime` are where these lie on the machine.
    pub(crate) fn places(self, package: &Path, runtime: &Path) -> Places {
        match self {
            Isolation::None => Places { package: package.to_owned(), runtime: runtime.to_owned() },
            Isolation::Cell => Places { package: "/var/task".into(), runtime: "/var/runtime".into() },
        }
    }

    /// Which network a function's sandboxes have, where it need not choose.
    pub(crate) fn network(self, function: &Function, usual: Network) -> Network {
        match (self, function.network) {
            (Isolation::None, _) => Network::Host,
            (Isolation::Cell, None) => usual,
            (Isolation::Cell, Some(chosen)) if function.is_deployed => chosen.min(usual),
            (Isolation::Cell, Some(chosen)) => chosen,
        }
    }

    /// The cell of one sandbox, if it is to have one; it sees its interpreter.
    pub(crate) fn cell(
        self,
        function: &Function,
        runtime: &Path,
        interpreter: Vec<View>,
        network: Network,
    ) -> Option<CellSpec> {
        if self == Isolation::None {
            return None;
        }
        let places = self.places(&function.root, runtime);
        let mut views = vec![
            View { source: function.root.clone(), target: places.package },
            View { source: runtime.to_owned(), target: places.runtime },
        ];
        views.extend(interpreter);
        let port = network.is_own().then_some(INSIDE_PORT);
        Some(CellSpec { views, tmp_bytes: function.tmp_mb.saturating_mul(MIB), network, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::double::revision;

    #[test]
    fn who_deploys_can_choose_less_than_the_server_gives_and_the_operator_anything() {
        let mut function = revision().function;
        let (none, host) = (Network::None, Network::Host);
        for (is_deployed, chosen, usual, expected) in [
            (false, None, none, none),
            (false, Some(host), none, host),
            (false, Some(none), host, none),
            (true, None, host, host),
            (true, Some(host), none, none),
            (true, Some(none), host, none),
        ] {
            (function.is_deployed, function.network) = (is_deployed, chosen);
            assert_eq!(Isolation::Cell.network(&function, usual), expected, "{function:?}");
            assert_eq!(Isolation::None.network(&function, usual), host);
        }
    }
}
