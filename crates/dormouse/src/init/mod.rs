//! `dormouse init`: a folder with a function, for `deploy` and `serve --functions`.

use std::fs;
use std::path::{Path, PathBuf};

use protocol::FunctionName;

use crate::deploy;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse init python hello
  dormouse init rust hello && dormouse deploy hello && dormouse invoke hello --payload '{\"name\": \"you\"}'

Rust functions are built by `deploy`.")]
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
    /// An index.mjs
    Node,
    /// A cargo project with the crate lambda_runtime
    Rust,
}

/// A file of a template: its path, and its text.
type Template = (&'static str, &'static str);

const SETTINGS: Template = ("function.toml", include_str!("function.toml"));

impl Language {
    fn files(self) -> &'static [Template] {
        match self {
            Language::Python => {
                &[SETTINGS, ("lambda_function.py", include_str!("python/lambda_function.py"))]
            }
            Language::Node => &[SETTINGS, ("index.mjs", include_str!("node/index.mjs"))],
            Language::Rust => &[
                SETTINGS,
                ("Cargo.toml", include_str!("rust/Cargo.toml.in")),
                ("src/main.rs", include_str!("rust/src/main.rs.in")),
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
    for (path, text) in language.files() {
        let path = folder.join(path);
        let failed = |error| Failure::io(format!("write {}", path.display()), &error);
        fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(failed)?;
        fs::write(&path, text.replace("\"NAME\"", &format!("\"{name}\""))).map_err(failed)?;
    }
    Ok(())
}
