//! `dormouse init`: a folder with a function, for `deploy` and `serve --functions`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use protocol::FunctionName;

use crate::deploy;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse init python hello
  dormouse init rust hello && dormouse deploy hello && dormouse invoke hello --payload '{\"name\": \"you\"}'

Node functions bring their own `bootstrap`, a short script that may be changed. Rust functions are built by `deploy`.")]
pub(crate) struct Args {
    /// In which language
    #[arg(value_enum)]
    language: Language,
    /// The folder to make; its name is the function's
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// A lambda_function.py
    Python,
    /// An index.mjs, and the bootstrap that runs it
    Node,
    /// A cargo project with the crate lambda_runtime
    Rust,
}

/// A file of a template: its path, its text, and whether it can be executed.
type Template = (&'static str, &'static str, bool);

const SETTINGS: Template = ("function.toml", include_str!("function.toml"), false);

impl Language {
    fn files(self) -> &'static [Template] {
        match self {
            Language::Python => {
                &[SETTINGS, ("lambda_function.py", include_str!("python/lambda_function.py"), false)]
            }
            Language::Node => &[
                SETTINGS,
                ("index.mjs", include_str!("node/index.mjs"), false),
                ("bootstrap", include_str!("node/bootstrap"), true),
            ],
            Language::Rust => &[
                SETTINGS,
                ("Cargo.toml", include_str!("rust/Cargo.toml.in"), false),
                ("src/main.rs", include_str!("rust/src/main.rs.in"), false),
            ],
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = deploy::name_of(&args.folder)?;
    if args.folder.exists() {
        return Err(Failure::new(format!("{} is there already", args.folder.display()))
            .hint("name a folder that is not there yet"));
    }
    write(&args.folder, args.language, &name)?;
    output::print(&format!("{0} is a function: `dormouse deploy {0}`\n", args.folder.display()))
}

fn write(folder: &Path, language: Language, name: &FunctionName) -> Result<(), Failure> {
    for (path, text, is_executable) in language.files() {
        let path = folder.join(path);
        let failed = |error| Failure::io(format!("write {}", path.display()), &error);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(&path, text.replace("\"NAME\"", &format!("\"{name}\""))).map_err(failed)?;
        let mode = if *is_executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    Ok(())
}
