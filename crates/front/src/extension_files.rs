//! External extensions: executables in the folder `extensions` of a package, started beside the runtime.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where they lie in a package.
const FOLDER: &str = "extensions";

/// Starts them, and becomes the runtime.
pub(crate) const STARTER: &str = r#"#!/bin/sh
# Starts the extensions of a package beside its runtime, and becomes the runtime.
for extension in "$LAMBDA_TASK_ROOT"/extensions/*; do
    if [ -f "$extension" ] && [ -x "$extension" ]; then "$extension" & fi
done
exec "$@"
"#;

/// The names of a package's extensions, which are those of their files.
pub(crate) fn of(root: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join(FOLDER)) else { return Vec::new() };
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let programs = entries.flatten().filter(|entry| is_program(&entry.path()));
    let mut names: Vec<_> = programs.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What is to be started so that extensions run beside this program. `starter`: where `STARTER` lies.
pub(crate) fn beside(starter: &Path, program: OsString, args: Vec<OsString>) -> (OsString, Vec<OsString>) {
    let before = [starter.to_owned().into_os_string(), program];
    ("/bin/sh".into(), before.into_iter().chain(args).collect())
}
