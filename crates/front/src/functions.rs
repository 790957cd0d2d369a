//! The catalogue: one folder of functions, one folder a function, code and an optional `function.toml` in it.
//! How a function becomes a process is `launch`; what identifies its content is `digest`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::EventConfig;
use node::Network;
use protocol::{Depth, FunctionName, InvalidName, Merge};

use crate::control::Lease;
use crate::digest;
use crate::function_toml::{FunctionToml, LayoutChoice, Runtime, SharingScope, Url};
use crate::function_url::UrlSettings;

/// A function, ready to be launched. What the operator left open is `None`.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name: the folder's.
    pub name: FunctionName,
    /// The folder, absolute.
    pub root: PathBuf,
    /// Hash of files and configuration, in hex: another digest, another secret, another layout.
    pub digest: String,
    /// What runs it.
    pub runtime: Runtime,
    /// `module.function`.
    pub handler: String,
    /// The Python interpreter, where the node's own is not wanted.
    pub python: Option<PathBuf>,
    /// Memory of one sandbox.
    pub memory_mb: u64,
    /// How long one invocation may take.
    pub timeout: Duration,
    /// Variables of its own.
    pub environment: BTreeMap<String, String>,
    /// With whom its pages may be shared.
    pub sharing: SharingScope,
    /// Where its memory lies.
    pub layout: LayoutChoice,
    /// How deep its sandboxes sleep.
    pub depth: Depth,
    /// What may be merged of those that are awake.
    pub merge: Merge,
    /// Sandboxes at once.
    pub concurrency: Option<usize>,
    /// Whether Lambda's limits hold, and what exceeds them is rejected at once. If not, it waits in a queue.
    pub throttles: bool,
    /// How long an idle sandbox stays warm.
    pub keep_warm: Option<Duration>,
    /// How long a dedup sandbox is kept.
    pub keep_dedup: Option<Duration>,
    /// Processes and threads of one sandbox.
    pub processes: u64,
    /// Open files of each process.
    pub open_files: u64,
    /// Largest file it may write.
    pub file_mb: u64,
    /// Whether it has snapshot hooks: one sandbox is made, and sleeps, before anybody asks.
    pub snap_start: bool,
    /// Size of its `/tmp`, where it has one of its own.
    pub tmp_mb: u64,
    /// Which network it has, where it has a cell.
    pub network: Option<Network>,
    /// Whether it came by the API, from who need not be the operator: it can choose less than the server gives, not more.
    pub is_deployed: bool,
    /// What becomes of its events.
    pub events: EventConfig,
    /// How it is reached by a URL of its own, if it is.
    pub url: Option<UrlSettings>,
    /// Keeps `root` in place, where it was unpacked from a package.
    pub(crate) _lease: Option<Arc<Lease>>,
}

/// The catalogue cannot be read. The text names the file, and the key where it is one key.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A file or folder cannot be read.
    #[error("read {path:?}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder's name is no function name.
    #[error("use {path:?} as a function")]
    Name {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: InvalidName,
    },
    /// `function.toml` is not what it should be: syntax, an unknown key, a wrong type.
    #[error("read {path:?}: {message}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where in it, and what.
        message: String,
    },
    /// A value is out of range.
    #[error("read {path:?}: `{key}` {why}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it must be.
        why: String,
    },
    /// There is nothing to run.
    #[error("{path:?} is no function: it has neither `bootstrap` nor `{expected}`")]
    NoCode {
        /// The folder.
        path: PathBuf,
        /// The file that the handler names.
        expected: String,
    },
    /// The package is larger than Lambda allows.
    #[error("{path:?} is too large: {why}")]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// Which limit.
        why: String,
    },
}

/// All functions of one folder.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    functions: BTreeMap<FunctionName, Function>,
}

impl Catalogue {
    /// Reads every folder in `dir`; hidden ones are passed over. One broken function fails the whole, so that
    /// nobody finds out by a 404.
    pub fn load(dir: &Path) -> Result<Catalogue, CatalogueError> {
        let mut catalogue = Catalogue::default();
        for path in folders(dir)? {
            catalogue.insert(load_function(&path)?);
        }
        Ok(catalogue)
    }

    /// Adds a function; one of the same name is replaced.
    pub fn insert(&mut self, function: Function) {
        self.functions.insert(function.name.clone(), function);
    }

    /// All functions, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Function> {
        self.functions.values()
    }
}

/// Reads one function from its folder.
pub fn load_function(root: &Path) -> Result<Function, CatalogueError> {
    let read = |source| CatalogueError::Read { path: root.to_owned(), source };
    let root = root.canonicalize().map_err(read)?;
    let folder = root.file_name().unwrap_or_default().to_string_lossy();
    let name: FunctionName =
        folder.parse().map_err(|source| CatalogueError::Name { path: root.clone(), source })?;
    let toml = root.join("function.toml");
    let config = FunctionToml::read(&toml)?;
    let handler = config.handler.clone().unwrap_or_else(|| default_handler(&root).to_owned());
    let runtime = find_runtime(&root, config.runtime, &handler)?;
    if runtime != Runtime::Provided
        && !handler.rsplit_once('.').is_some_and(|(m, f)| !m.is_empty() && !f.is_empty())
    {
        let (path, key) = (toml, "handler".to_owned());
        return Err(CatalogueError::Value { path, key, why: "must be `module.function`".to_owned() });
    }
    let digest = digest::of_package(&root)?;
    Ok(Function {
        name,
        digest,
        runtime,
        handler,
        python: config.python.map(|python| root.join(python)),
        memory_mb: config.memory_mb,
        timeout: Duration::from_secs_f64(config.timeout_s),
        environment: config.environment,
        sharing: config.sharing,
        layout: config.layout,
        depth: config.depth,
        merge: config.merge,
        concurrency: config.concurrency,
        throttles: false,
        _lease: None,
        keep_warm: config.keep_warm_s.map(Duration::from_secs_f64),
        keep_dedup: config.keep_dedup_s.map(Duration::from_secs_f64),
        processes: config.processes,
        open_files: config.open_files,
        file_mb: config.file_mb,
        snap_start: config.snap_start,
        tmp_mb: config.tmp_mb,
        network: config.network,
        is_deployed: false,
        events: config.events.resolve(&toml)?,
        url: config.url.and_then(Url::settings),
        root,
    })
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, CatalogueError> {
    let read = |source| CatalogueError::Read { path: dir.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "__pycache__" {
            found.push(path);
        }
    }
    found.sort(); // The same error first, whatever order the file system has.
    Ok(found)
}

/// What Node takes as a module.
const NODE_ENDINGS: [&str; 3] = ["mjs", "js", "cjs"];

/// Lambda's, for Python and for Node.
fn default_handler(root: &Path) -> &'static str {
    let has_index = NODE_ENDINGS.iter().any(|ending| root.join(format!("index.{ending}")).is_file());
    if has_index && !root.join("lambda_function.py").is_file() {
        "index.handler"
    } else {
        "lambda_function.lambda_handler"
    }
}

/// What the operator said, or what the files say; in both cases there must be something to run.
fn find_runtime(root: &Path, said: Option<Runtime>, handler: &str) -> Result<Runtime, CatalogueError> {
    let module = handler.rsplit_once('.').map_or(handler, |(module, _)| module).replace('.', "/");
    let has_module = root.join(format!("{module}.py")).is_file() || root.join(&module).is_dir();
    let has_script = NODE_ENDINGS.iter().any(|ending| root.join(format!("{module}.{ending}")).is_file());
    let has_bootstrap = root.join("bootstrap").is_file();
    match said {
        Some(Runtime::Provided) | None if has_bootstrap => Ok(Runtime::Provided),
        Some(Runtime::Python) | None if has_module => Ok(Runtime::Python),
        Some(Runtime::NodeJs) | None if has_script => Ok(Runtime::NodeJs),
        _ => Err(CatalogueError::NoCode { path: root.to_owned(), expected: format!("{module}.py") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a folder `f` with these files and loads the catalogue around it.
    fn load(folder: &str, files: &[(&str, &str)]) -> Result<Function, String> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(folder);
        std::fs::create_dir(&root).unwrap();
        for (name, text) in files {
            std::fs::write(root.join(name), text).unwrap();
        }
        let catalogue =
            Catalogue::load(dir.path()).map_err(|error| match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            })?;
        Ok(Function::clone(catalogue.iter().next().unwrap()))
    }

    #[track_caller]
    fn check_refused(folder: &str, files: &[(&str, &str)], words: &[&str]) {
        let error = load(folder, files).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in: {error}");
        }
    }

    #[test]
    fn a_folder_with_python_is_a_function_with_lambdas_defaults() {
        let function = load("hello", &[("lambda_function.py", "")]).unwrap();
        assert_eq!(function.name.as_str(), "hello");
        assert_eq!(function.runtime, Runtime::Python);
        assert_eq!(function.handler, "lambda_function.lambda_handler");
        assert_eq!((function.memory_mb, function.timeout), (512, Duration::from_secs(3)));
        assert_eq!((function.sharing, function.layout), (SharingScope::Tenant, LayoutChoice::Pinned));
        assert_eq!((function.depth, function.merge), (Depth::Deep, Merge::Off));
    }

    #[test]
    fn a_folder_with_a_script_is_a_function_for_node() {
        let function = load("hello", &[("index.mjs", "")]).unwrap();
        assert_eq!((function.runtime, function.handler.as_str()), (Runtime::NodeJs, "index.handler"));
        let toml = "handler = 'app.run'\nruntime = 'nodejs'";
        let function = load("hello", &[("app.js", ""), ("function.toml", toml)]).unwrap();
        assert_eq!((function.runtime, function.handler.as_str()), (Runtime::NodeJs, "app.run"));
    }

    #[test]
    fn a_bootstrap_makes_it_provided() {
        let function = load("hello", &[("bootstrap", "#!/bin/sh")]).unwrap();
        assert_eq!(function.runtime, Runtime::Provided);
    }

    #[test]
    fn everything_can_be_configured() {
        let toml = "
            handler = 'app.main'
            memory_mb = 128
            timeout_s = 0.5
            sharing = 'function'
            layout = 'random'
            depth = 'light'
            merge = 'advised'
            concurrency = 7
            keep_warm_s = 1
            keep_dedup_s = 2.5
            [environment]
            GREETING = 'hello'
        ";
        let function = load("f", &[("app.py", ""), ("function.toml", toml)]).unwrap();
        assert_eq!(function.handler, "app.main");
        assert_eq!(function.timeout, Duration::from_millis(500));
        assert_eq!(function.concurrency, Some(7));
        assert_eq!(function.keep_dedup, Some(Duration::from_millis(2500)));
        assert_eq!(function.environment["GREETING"], "hello");
        assert_eq!((function.sharing, function.layout), (SharingScope::Function, LayoutChoice::Random));
        assert_eq!((function.depth, function.merge), (Depth::Light, Merge::Advised));
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let with = |toml: &'static str| [("lambda_function.py", ""), ("function.toml", toml)];
        check_refused("f", &with("memory = 1"), &["function.toml", "memory", "unknown field"]);
        check_refused("f", &with("memory_mb = 'lots'"), &["function.toml", "memory_mb"]);
        check_refused("f", &with("memory_mb = 0"), &["function.toml", "`memory_mb`"]);
        check_refused("f", &with("timeout_s = 901"), &["function.toml", "`timeout_s`", "900"]);
        check_refused("f", &with("concurrency = 0"), &["`concurrency`"]);
        check_refused("f", &with("keep_warm_s = -1"), &["`keep_warm_s`"]);
        check_refused("f", &with("keep_dedup_s = inf"), &["`keep_dedup_s`"]);
        check_refused("f", &with("sharing = 'all'"), &["function.toml", "tenant"]);
        check_refused("f", &with("merge = true"), &["function.toml", "merge"]);
        check_refused("f", &with("merge = 'some'"), &["function.toml", "advised"]);
        check_refused("f", &with("[environment]\n_HANDLER = 'x'"), &["`environment._HANDLER`", "reserved"]);
        check_refused("f", &with("[environment]\n'A B' = 'x'"), &["`environment.A B`"]);
        check_refused("f", &with("[events]\nretries = 3"), &["`events.retries`", "2"]);
        check_refused("f", &with("[events]\nmax_age_s = 59"), &["`events.max_age_s`", "60"]);
        check_refused(
            "f",
            &with("[events]\non_failure = 'arn:aws:sqs:r:0:q'"),
            &["`events.on_failure`", "sqs"],
        );
        check_refused("f", &with("handler = 'lambda_function'"), &["`handler`"]);
        check_refused("f", &with("handler = 'other.main'"), &["other.py"]);
    }

    #[test]
    fn errors_name_the_folder() {
        check_refused("empty", &[], &["empty", "lambda_function.py"]);
        check_refused("bad name", &[("lambda_function.py", "")], &["bad name", "no function name"]);
    }
}
