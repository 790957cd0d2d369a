//! `dormouse deploy`: a folder becomes a function of a running server, or the next revision of one.

mod cargo;
mod pack;

use std::path::{Path, PathBuf};

use front::{Function, Runtime, load_function};
use protocol::FunctionName;
use report::quantity::bytes;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::lambda::Lambda;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse deploy hello
  dormouse deploy ./functions/hello --name greeter --publish

The folder is one as `dormouse init` makes it: a lambda_function.py or an executable `bootstrap`, and a function.toml \
where the defaults do not fit. A folder with a Cargo.toml is built first. `.git`, `.venv`, `target` and `__pycache__` \
stay behind. The function is there when the command ends, also after a restart of the server.")]
pub(crate) struct Args {
    /// The function's folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What it is called [default: as the folder]
    #[arg(long)]
    name: Option<FunctionName>,
    /// Publish a version of it, too
    #[arg(long)]
    publish: bool,
    /// Print what the server says, as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let name = args.name.clone().map_or_else(|| name_of(&args.folder), Ok)?;
    let lambda = Lambda::connect(data)?;
    let built = cargo::build(&args.folder)?;
    let folder = built.as_ref().map_or(args.folder.as_path(), |built| built.path());
    let function = load_function(folder).map_err(|error| Failure::of(&error))?;
    let package = pack::pack(folder)?;
    let described = put(&lambda, &name, &function, &package, args.publish)?;
    match args.json {
        true => output::print_json(&described),
        false => output::print(&format!(
            "{name} is deployed as {} ({} zipped): `dormouse invoke {name}`\n",
            described["Version"].as_str().unwrap_or_default(),
            bytes(package.len() as u64)
        )),
    }
}

/// The name that a folder gives its function.
pub(crate) fn name_of(folder: &Path) -> Result<FunctionName, Failure> {
    let whole = std::path::absolute(folder).map_err(|error| Failure::io("find the folder", &error))?;
    let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.parse().map_err(|error| Failure::of(&error).hint("give the folder another name, or use --name"))
}

/// Makes the function, or changes it if it is there.
fn put(
    lambda: &Lambda,
    name: &FunctionName,
    function: &Function,
    package: &[u8],
    publish: bool,
) -> Result<Value, Failure> {
    let code = lambda.base64(package);
    let path = format!("/2015-03-31/functions/{name}");
    if lambda.find(&path)?.is_none() {
        let mut create = settings(function);
        create["FunctionName"] = json!(name);
        create["Code"] = json!({ "ZipFile": code });
        create["Publish"] = json!(publish);
        return lambda.post("/2015-03-31/functions", &create);
    }
    lambda.put(&format!("{path}/code"), &json!({ "ZipFile": code }))?;
    let described = lambda.put(&format!("{path}/configuration"), &settings(function))?;
    match publish {
        true => lambda.post(&format!("{path}/versions"), &json!({})),
        false => Ok(described),
    }
}

/// What Lambda has words for; the rest of a function.toml goes with the package.
fn settings(function: &Function) -> Value {
    json!({
        "Runtime": match function.runtime {
            Runtime::Python => "python3.12",
            Runtime::NodeJs => "nodejs20.x",
            Runtime::Provided => "provided.al2023",
        },
        "Handler": function.handler,
        "MemorySize": function.memory_mb,
        "Timeout": function.timeout.as_secs_f64().ceil() as u64, // Lambda knows whole seconds.
        "Environment": { "Variables": function.environment },
    })
}
