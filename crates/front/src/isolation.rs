//! What a function sees of the machine: all of it, or a cell with its package in the places that Lambda has for them.

use std::path::{Path, PathBuf};

use node::{CellSpec, Network, NetworkError, Port, View};

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

/// What tells a function where its Runtime API is.
pub(crate) const API_VARIABLE: &str = "AWS_LAMBDA_RUNTIME_API";

/// Who deploys chose a network that the operator did not give.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its function.toml asks for the network {chosen}: a package that was deployed can have `none`, or the server's own \
     ({usual}). Leave it out, or start the server with `--network {chosen}`"
)]
pub(crate) struct ForeignNetwork {
    chosen: Network,
    usual: Network,
}

/// A function cannot have the network that it asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoNetwork {
    #[error(transparent)]
    Foreign(#[from] ForeignNetwork),
    #[error(transparent)]
    Gone(#[from] NetworkError),
}

/// Which networks functions have on this server.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    pub(crate) isolation: Isolation,
    /// Of those that do not choose.
    pub(crate) usual: Network,
}

impl Networks {
    /// That of this function's sandboxes.
    pub(crate) fn of(&self, function: &Function) -> Result<Network, ForeignNetwork> {
        self.isolation.network(function, &self.usual)
    }

    /// Whether they could be started with it now. Reads a directory.
    pub(crate) fn check(&self, function: &Function) -> Result<(), NoNetwork> {
        Ok(self.of(function)?.check()?)
    }
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
    pub(crate) fn network(self, function: &Function, usual: &Network) -> Result<Network, ForeignNetwork> {
        match (self, &function.network) {
            (Isolation::None, _) => Ok(Network::Host),
            (Isolation::Cell, None) => Ok(usual.clone()),
            (Isolation::Cell, Some(chosen)) if !function.is_deployed => Ok(chosen.clone()),
            (Isolation::Cell, Some(Network::None)) => Ok(Network::None),
            // Of the machine's network whatever the server gives is a part, and of a named one only itself.
            (Isolation::Cell, Some(chosen)) if chosen == usual || *chosen == Network::Host => {
                Ok(usual.clone())
            }
            (Isolation::Cell, Some(chosen)) => {
                Err(ForeignNetwork { chosen: chosen.clone(), usual: usual.clone() })
            }
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
        let port = match &network {
            Network::Host => None,
            Network::None => Some(Port::At(INSIDE_PORT)),
            Network::Named(_) => Some(Port::Free { variable: API_VARIABLE.to_owned() }),
        };
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
        for (is_deployed, chosen, usual, expected) in [
            (false, None, "none", "none"),
            (false, Some("host"), "none", "host"),
            (false, Some("none"), "host", "none"),
            (false, Some("netns:blue"), "none", "netns:blue"),
            (true, None, "host", "host"),
            (true, Some("host"), "none", "none"),
            (true, Some("none"), "host", "none"),
            (true, None, "netns:blue", "netns:blue"),
            (true, Some("netns:blue"), "netns:blue", "netns:blue"),
            (true, Some("host"), "netns:blue", "netns:blue"),
            (true, Some("none"), "netns:blue", "none"),
        ] {
            let usual: Network = usual.parse().unwrap();
            (function.is_deployed, function.network) =
                (is_deployed, chosen.map(|chosen| chosen.parse().unwrap()));
            let got = Isolation::Cell.network(&function, &usual).unwrap();
            assert_eq!(got.to_string(), expected, "{function:?}");
            assert_eq!(Isolation::None.network(&function, &usual), Ok(Network::Host));
        }
        function.network = Some("netns:red".parse().unwrap());
        for usual in ["none", "host", "netns:blue"] {
            let error = Isolation::Cell.network(&function, &usual.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("--network netns:red"), "{error}");
        }
    }
}
