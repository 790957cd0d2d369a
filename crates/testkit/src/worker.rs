//! What tests need from the machine: an interpreter, packages, privileges. A missing thing fails the test; who
//! wants to go without it says so.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::subject::workspace_root;

/// The Python interpreter for tests: `DORMOUSE_TEST_PYTHON`, else the workspace's `.venv`, which `.ci/run` makes,
/// else `python3`.
pub fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("DORMOUSE_TEST_PYTHON") {
        return named.into();
    }
    let venv = workspace_root().join(".venv/bin/python");
    if venv.is_file() { venv } else { PathBuf::from("python3") }
}

/// The environment a Python worker starts with; nothing else is inherited.
pub(crate) fn python_env() -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // One thread in the numeric libraries: theirs would spin for work.
    let fixed = [("PYTHONDONTWRITEBYTECODE", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")];
    let fixed = fixed.map(|(key, value)| (key.into(), value.into()));
    [(OsString::from("PATH"), path)].into_iter().chain(fixed).collect()
}

/// `true`: the machine has it, go on. `false`: it is missing and the test is to return at once, because
/// `DORMOUSE_TEST_SKIP=1` allows that. A missing thing panics otherwise, and always where `CI` is set.
#[track_caller]
#[must_use]
#[allow(clippy::panic)] // It fails a test.
pub fn require(present: bool, what: &str, how_to_install: &str) -> bool {
    let may_skip = std::env::var_os("CI").is_none()
        && std::env::var_os("DORMOUSE_TEST_SKIP").is_some_and(|value| value == "1");
    if !present && !may_skip {
        panic!("{what} is missing: {how_to_install}; or set DORMOUSE_TEST_SKIP=1 to go without");
    }
    if !present {
        eprintln!("skipped: {what} is missing");
    }
    present
}

/// Requires that the interpreter has these modules.
#[track_caller]
#[must_use]
pub fn require_python(modules: &[&str]) -> bool {
    let imports = format!("import sys, {}", modules.join(", ")).trim_end_matches([',', ' ']).to_owned();
    let outcome = std::process::Command::new(python()).args(["-c", &imports]).output();
    let present = outcome.is_ok_and(|output| output.status.success());
    let what = format!("Python with {modules:?} ({:?})", python());
    require(present, &what, "python3 -m venv .venv && .venv/bin/pip install -r examples/requirements.txt")
}

/// Requires Node.
#[track_caller]
#[must_use]
pub fn require_node() -> bool {
    let outcome = std::process::Command::new("node").arg("--version").output();
    require(outcome.is_ok_and(|output| output.status.success()), "node", "install Node 20")
}

/// Requires Java with its compiler, which Debian has in what runs Java.
#[track_caller]
#[must_use]
pub fn require_java() -> bool {
    let outcome = std::process::Command::new("java").args(["--describe-module", "jdk.compiler"]).output();
    let present = outcome.is_ok_and(|output| output.status.success());
    require(present, "java", "install Java 17 or later, such as default-jre-headless")
}

/// Requires Prometheus' promtool: from `PATH`, or where `.ci/run` puts it. `None`: go without.
#[track_caller]
#[must_use]
pub fn require_promtool() -> Option<PathBuf> {
    let places = [PathBuf::from("promtool"), workspace_root().join(".tools/usr/bin/promtool")];
    let runs = |place: &PathBuf| std::process::Command::new(place).arg("--version").output().is_ok();
    let found = places.into_iter().find(runs);
    let how = "mkdir -p .tools && cd .tools && apt-get download prometheus && dpkg -x prometheus_*.deb .";
    require(found.is_some(), "promtool", how).then_some(found)?
}

/// Requires root: freezing, injecting and cgroups need it.
#[track_caller]
#[must_use]
pub fn require_root() -> bool {
    require(rustix::process::geteuid().is_root(), "root", "run the tests as root")
}
