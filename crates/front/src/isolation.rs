//! What a function sees of the machine: all of it, or a cell with its package in the places that Lambda has for them.

use std::path::{Path, PathBuf};

use node::{CellSpec, View};

use crate::functions::Function;
use crate::python::Interpreter;

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

    /// The cell of one sandbox, if it is to have one.
    pub(crate) fn cell(
        self,
        function: &Function,
        runtime: &Path,
        python: Option<&Interpreter>,
    ) -> Option<CellSpec> {
        if self == Isolation::None {
            return None;
        }
        let places = self.places(&function.root, runtime);
        let mut views = vec![
            View { source: function.root.clone(), target: places.package },
            View { source: runtime.to_owned(), target: places.runtime },
        ];
        if let Some(python) = python {
            views.extend(python.prefixes.iter().map(View::same));
            views.extend(python.path.parent().map(View::same)); // A link may lead to it from elsewhere.
        }
        Some(CellSpec { views, tmp_bytes: function.tmp_mb.saturating_mul(MIB) })
    }
}
