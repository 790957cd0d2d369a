//! What a test puts to sleep: a program that speaks the line protocol, and how to start it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use node::{LaunchSpec, Layout, Limits, Output, Sharing};
use protocol::{Depth, Merge};

use crate::worker;

/// A program, ready to be started any number of times.
#[derive(Clone, Debug)]
pub struct Subject {
    pub(crate) name: String,
    pub(crate) program: OsString,
    pub(crate) before_socket: Vec<OsString>,
    pub(crate) after_socket: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Subject {
    /// One of the specimens: its subcommand and arguments, such as `["memory", "7"]`.
    pub fn specimen(args: &[&str]) -> Subject {
        Subject {
            name: args.first().copied().unwrap_or("specimen").to_owned(),
            program: built("specimen").into(),
            before_socket: Vec::new(),
            after_socket: args.iter().map(Into::into).collect(),
            env: Vec::new(),
        }
    }

    /// One of `examples/functions`, called without the Lambda API: each command is an event in JSON, each answer
    /// the result in JSON.
    pub fn function(name: &str) -> Subject {
        let folder = workspace_root().join("examples/functions").join(name);
        let drive = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/drive.py");
        Subject {
            name: name.to_owned(),
            program: worker::python().into(),
            before_socket: vec![drive.into(), folder.into()],
            after_socket: Vec::new(),
            env: worker::python_env(),
        }
    }

    /// `examples/node/server.js`: each command is a path, such as `/?n=3`; each answer the body, in JSON.
    pub fn node_server() -> Subject {
        let drive = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/drive.js");
        let server = workspace_root().join("examples/node/server.js");
        let path = ("PATH".into(), std::env::var_os("PATH").unwrap_or_default());
        Subject {
            name: "node".to_owned(),
            program: "node".into(),
            before_socket: vec![drive.into(), server.into()],
            after_socket: Vec::new(),
            env: vec![path, ("PORT".into(), "0".into())],
        }
    }

    /// `examples/functions/java`, called without the Lambda API: each command is an event in JSON, each answer the
    /// result in JSON.
    pub fn java_function() -> Subject {
        let drive = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/Drive.java");
        let folder = workspace_root().join("examples/functions/java");
        // A small heap to begin with, so that garbage is collected, and no file in `/tmp` when it is killed.
        let options = ["-XX:+UseSerialGC", "-Xms8m", "-Xmx256m", "-XX:-UsePerfData"].map(OsString::from);
        Subject {
            name: "java".to_owned(),
            program: "java".into(),
            before_socket: options.into_iter().chain([drive.into(), folder.into()]).collect(),
            after_socket: Vec::new(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
        }
    }

    /// With one more variable in its environment.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Subject {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// All arguments, for one that is to connect to `socket`.
    pub(crate) fn args(&self, socket: &Path) -> Vec<OsString> {
        let line = [OsString::from("--socket"), socket.into()];
        self.before_socket.iter().chain(&line).chain(&self.after_socket).cloned().collect()
    }

    /// As a sandbox: random layout, shared with nobody, its errors on the test's own standard error.
    pub(crate) fn launch_spec(&self, socket: &Path) -> LaunchSpec {
        LaunchSpec {
            name: self.name.clone(),
            program: self.program.clone(),
            args: self.args(socket),
            env: self.env.clone(),
            cwd: None,
            limits: Limits::default(),
            layout: Layout::Random,
            sharing: Sharing::None,
            depth: Depth::Deep,
            merge: Merge::Off,
            cell: None,
            stdout: Output::Discard,
            stderr: Output::Inherit,
        }
    }
}

/// The root of the workspace.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// An executable of this workspace, beside the running test. `cargo nextest run --workspace` builds all of them;
/// with `-p` only those of the packages named.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
}
