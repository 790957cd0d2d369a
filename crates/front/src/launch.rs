//! Turns a function into what the node launches: program, environment, limits, layout.
//!
//! The environment lies on the stack. So that the stacks of one revision's sandboxes are alike, all their values
//! have the same length: a longer one would shift everything below it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use node::{LaunchSpec, Layout, Limits, Network, Output, Sharing, View};

use crate::catalogue::Revision;
use crate::extension_files;
use crate::function_toml::{LayoutChoice, Runtime, SharingScope};
use crate::functions::Function;
use crate::isolation::{API_VARIABLE, Isolation, Networks, Places};
use crate::python::{Interpreter, Interpreters, PythonError, find_in_path, search_path};
use crate::secret::NodeSecret;
use crate::server::ServerConfig;

/// The runtime client for interpreters that have none.
const BOOTSTRAP: &str = include_str!("bootstrap.py");

/// The runtime client for packages that bring none, in the folder of runtime clients.
const NODE_BOOTSTRAP: &str = "bootstrap.mjs";

/// Amazon's runtime client for Node, where npm puts it in a package; its first versions had the second name.
const NODE_RIC: [&str; 2] =
    ["node_modules/aws-lambda-ric/bin/index.mjs", "node_modules/aws-lambda-ric/bin/index.js"];

/// What starts extensions, in the folder of runtime clients.
const STARTER: &str = "with-extensions.sh";

const MIB: u64 = 1024 * 1024;

/// Where glibc starts to map blocks of their own. This is its default, but set: left alone the limit moves with
/// what was freed, and the same block would lie in the heap of one sandbox and outside it in another.
const MMAP_THRESHOLD: &str = "131072";

/// Everything about launching that is the same for all functions.
pub(crate) struct Launcher {
    runtime_dir: PathBuf,
    region: String,
    secret: NodeSecret,
    interpreters: Interpreters,
    networks: Networks,
}

/// The launcher cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("write to {path:?}")]
pub struct DataDirError {
    /// The file or folder in the data directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// What differs between two sandboxes of one revision.
pub(crate) struct Individual {
    /// Its Runtime API's port on its loopback interface, unless who builds its cell chooses that.
    pub(crate) port: u16,
    /// Its log stream: always as long.
    pub(crate) log_stream: String,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Launcher {
    /// Puts the secret and the bundled runtime client into the data directory.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, DataDirError> {
        let data_dir = &config.data_dir;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError { path, source }
        };
        let runtime_dir = data_dir.join("runtime");
        std::fs::create_dir_all(&runtime_dir).map_err(at(&runtime_dir))?;
        let runtime_dir = runtime_dir.canonicalize().map_err(at(&runtime_dir))?;
        let files = [
            ("bootstrap.py", BOOTSTRAP),
            (NODE_BOOTSTRAP, include_str!("bootstrap.mjs")),
            (STARTER, extension_files::STARTER),
        ];
        for (name, text) in files {
            let path = runtime_dir.join(name);
            std::fs::write(&path, text).and_then(|()| open_to_all(&path, 0o644)).map_err(at(&path))?;
        }
        open_to_all(&runtime_dir, 0o755).map_err(at(&runtime_dir))?;
        let secret = NodeSecret::open(data_dir).map_err(at(&data_dir.join("secret")))?;
        let region = config.region.clone();
        let interpreters = Interpreters::new(config.python.clone());
        let networks = Networks { isolation: config.isolation, usual: config.network.clone() };
        Ok(Self { runtime_dir, region, secret, interpreters, networks })
    }

    /// Whether sandboxes are kept apart from each other.
    pub(crate) fn has_cells(&self) -> bool {
        self.networks.isolation == Isolation::Cell
    }

    /// Which networks sandboxes have.
    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// What to launch. Blocking: a new interpreter is asked what it is.
    pub(crate) fn spec(
        &self,
        revision: &Revision,
        own: Individual,
        network: Network,
    ) -> Result<LaunchSpec, PythonError> {
        let function = &revision.function;
        let mut env = self.environment(revision, &own);
        let places = self.networks.isolation.places(&function.root, &self.runtime_dir);
        let mut interpreter = Vec::new();
        let (program, args) = match function.runtime {
            Runtime::Provided => (places.package.join("bootstrap").into(), Vec::new()),
            Runtime::NodeJs => {
                let node = find_in_path("node").and_then(|node| node.canonicalize().ok());
                interpreter.extend(node.as_ref().map(View::same));
                (node.map_or_else(|| "node".into(), OsString::from), node_args(function, &places))
            }
            Runtime::Python => {
                let python = self.interpreters.get(function.python.as_deref())?;
                interpreter.extend(python.views());
                env.insert("AWS_EXECUTION_ENV".into(), format!("AWS_Lambda_python{}", python.version).into());
                (python.path.clone().into(), python_args(function, &python, &places.runtime))
            }
        };
        // The secret places hold for the first program that is started, and here that is a shell.
        let (program, args, layout) = if extension_files::of(&function.root).is_empty() {
            (program, args, self.layout(function))
        } else {
            let starter = places.runtime.join(STARTER);
            let (program, args) = extension_files::beside(&starter, program, args);
            (program, args, Layout::Random)
        };
        Ok(LaunchSpec {
            name: function.name.to_string(),
            program,
            args,
            env: env.into_iter().collect(),
            cwd: Some(places.package),
            limits: limits(function),
            layout,
            sharing: sharing(function),
            depth: function.depth,
            merge: function.merge,
            cell: self.networks.isolation.cell(function, &self.runtime_dir, interpreter, network),
            stdout: Output::To(own.stdout),
            stderr: Output::To(own.stderr),
        })
    }

    fn layout(&self, function: &Function) -> Layout {
        match function.layout {
            LayoutChoice::Pinned => {
                Layout::Pinned { secret: self.secret.layout(&function.name, &function.digest) }
            }
            LayoutChoice::Random => Layout::Random,
        }
    }

    /// As Lambda has it. What the function brings along comes before our defaults and after what a runtime
    /// client relies on. Of the node's own environment only `PATH` goes in.
    fn environment(&self, revision: &Revision, own: &Individual) -> BTreeMap<OsString, OsString> {
        let function = &revision.function;
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        env.insert("PATH".into(), search_path());
        let mut set = |key: &str, value: String| env.insert(key.into(), value.into());
        set("LANG", "C.UTF-8".to_owned());
        set("TZ", ":UTC".to_owned());
        set("AWS_REGION", self.region.clone());
        set("AWS_DEFAULT_REGION", self.region.clone());
        if function.layout == LayoutChoice::Pinned {
            set("MALLOC_MMAP_THRESHOLD_", MMAP_THRESHOLD.to_owned());
            // A sandbox that compiles a module and one that finds it compiled end up with different heaps. As on
            // Lambda, where the package is read-only, what the package brings compiled is used, and nothing is added.
            set("PYTHONDONTWRITEBYTECODE", "1".to_owned());
        }
        for (key, value) in &function.environment {
            set(key, value.clone());
        }
        if function.layout == LayoutChoice::Pinned {
            // The order of sets and dictionaries of strings follows this seed, and with it where things lie.
            let seed = self.secret.hash_seed(&function.name, &function.digest);
            set("PYTHONHASHSEED", seed.to_string());
        }
        set("_HANDLER", function.handler.clone());
        set(API_VARIABLE, format!("127.0.0.1:{}", own.port));
        set("AWS_LAMBDA_FUNCTION_NAME", function.name.to_string());
        set("AWS_LAMBDA_FUNCTION_VERSION", revision.version.to_string());
        set("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string());
        set("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{}", function.name));
        set("AWS_LAMBDA_LOG_STREAM_NAME", own.log_stream.clone());
        let kind = if function.snap_start { "snap-start" } else { "on-demand" };
        set("AWS_LAMBDA_INITIALIZATION_TYPE", kind.to_owned());
        let places = self.networks.isolation.places(&function.root, &self.runtime_dir);
        env.insert("LAMBDA_TASK_ROOT".into(), places.package.into());
        env.insert("LAMBDA_RUNTIME_DIR".into(), places.runtime.into());
        env
    }
}

fn python_args(function: &Function, python: &Interpreter, runtime_dir: &Path) -> Vec<OsString> {
    let ships_ric = function.root.join("awslambdaric/__main__.py").is_file();
    let handler = function.handler.clone().into();
    if python.has_ric || ships_ric {
        vec!["-m".into(), "awslambdaric".into(), handler]
    } else {
        vec![runtime_dir.join("bootstrap.py").into(), handler]
    }
}

fn node_args(function: &Function, places: &Places) -> Vec<OsString> {
    let brought = NODE_RIC.iter().find(|ric| function.root.join(ric).is_file());
    let client = brought.map_or_else(|| places.runtime.join(NODE_BOOTSTRAP), |ric| places.package.join(ric));
    vec![client.into(), function.handler.clone().into()]
}

fn limits(function: &Function) -> Limits {
    Limits {
        memory_bytes: Some(function.memory_mb.saturating_mul(MIB)),
        processes: Some(function.processes),
        file_bytes: Some(function.file_mb.saturating_mul(MIB)),
        open_files: Some(function.open_files),
    }
}

fn sharing(function: &Function) -> Sharing {
    match function.sharing {
        SharingScope::Tenant => Sharing::Domain("tenant".to_owned()),
        SharingScope::Function => Sharing::Domain(format!("function {} {}", function.name, function.digest)),
        SharingScope::None => Sharing::None,
    }
}

/// In a cell a function is another user. The mode that something is made with, the umask takes away from.
fn open_to_all(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Version;
    use crate::functions::{Catalogue, load_function};
    use protocol::{Merge, RevisionId};

    struct Bench {
        dir: tempfile::TempDir,
        launcher: Launcher,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(Catalogue::default(), dir.path().join("data"));
        (config.region, config.python) = ("eu-west-1".to_owned(), None);
        let launcher = Launcher::new(&config).unwrap();
        Bench { dir, launcher }
    }

    impl Bench {
        fn spec(&self, name: &str, toml: &str, port: u16) -> LaunchSpec {
            let root = self.dir.path().join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("lambda_function.py"), "").unwrap();
            std::fs::write(root.join("function.toml"), toml).unwrap();
            let (_, stdout) = std::io::pipe().unwrap();
            let log_stream = "s".to_owned();
            let stderr = stdout.try_clone().unwrap();
            let own = Individual { port, log_stream, stdout: stdout.into(), stderr: stderr.into() };
            let function = load_function(&root).unwrap();
            let revision = Revision { id: RevisionId(1), version: Version::Number(3), function };
            self.launcher.spec(&revision, own, Network::Host).unwrap()
        }
    }

    fn value(spec: &LaunchSpec, key: &str) -> Option<String> {
        let found = spec.env.iter().find(|(k, _)| k == key);
        found.map(|(_, v)| v.to_string_lossy().into_owned())
    }

    #[test]
    fn sandboxes_of_one_version_are_launched_alike_and_of_two_functions_not() {
        let bench = bench();
        let (a, b, other) =
            (bench.spec("f", "", 40001), bench.spec("f", "", 40002), bench.spec("g", "", 40003));
        assert_eq!(a.layout, b.layout);
        assert_eq!(value(&a, "PYTHONHASHSEED"), value(&b, "PYTHONHASHSEED"));
        assert_ne!(a.layout, other.layout);
        assert_ne!(value(&a, "PYTHONHASHSEED"), value(&other, "PYTHONHASHSEED"));
        let lens = |spec: &LaunchSpec| spec.env.iter().map(|(k, v)| (k.clone(), v.len())).collect::<Vec<_>>();
        assert_eq!(lens(&a), lens(&b), "the environment of one of them would shift its stack");
    }

    #[test]
    fn other_users_can_read_the_bundled_clients_whatever_the_umask() {
        let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let bench = bench();
        rustix::process::umask(before);
        let runtime = bench.dir.path().join("data/runtime");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&runtime), 0o755);
        for name in ["bootstrap.py", NODE_BOOTSTRAP, STARTER] {
            assert_eq!(mode(&runtime.join(name)), 0o644, "{name}");
        }
    }

    #[test]
    fn a_random_layout_pins_nothing() {
        let spec = bench().spec("f", "layout = 'random'", 40001);
        assert_eq!(spec.layout, Layout::Random);
        assert_eq!((value(&spec, "PYTHONHASHSEED"), value(&spec, "MALLOC_MMAP_THRESHOLD_")), (None, None));
    }

    #[test]
    fn a_function_sees_lambdas_environment_and_its_own_and_not_ours() {
        let toml = "memory_mb = 128\nsharing = 'none'\nmerge = 'all'\n[environment]\nTZ = 'Asia/Tokyo'\nKEY = 'value'";
        let spec = bench().spec("f", toml, 40001);
        let expected = [
            ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:40001"),
            ("AWS_LAMBDA_FUNCTION_NAME", "f"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "3"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_REGION", "eu-west-1"),
            ("_HANDLER", "lambda_function.lambda_handler"),
            ("TZ", "Asia/Tokyo"),
            ("KEY", "value"),
        ];
        for (key, text) in expected {
            assert_eq!(value(&spec, key).as_deref(), Some(text), "{key}");
        }
        assert_eq!(value(&spec, "HOME"), None);
        assert_eq!(value(&spec, "CARGO"), None);
        assert_eq!(spec.limits.memory_bytes, Some(128 * MIB));
        assert_eq!((spec.sharing, spec.merge), (Sharing::None, Merge::All));
    }
}
