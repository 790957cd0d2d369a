//! `dormouse deploy`: a folder becomes a function of a running server, or the next revision of one.

mod cargo;
mod pack;

use std::path::{Path, PathBuf};

use front::{Function, load_function};
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
stay behind. What function.toml says of a URL and of events is configured, too. The function is there when the command ends, also after a restart of the server.")]
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
    put_around(&lambda, &name, &function)?;
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
    let code = front::base64(package);
    let path = format!("/2015-03-31/functions/{name}");
    let mut asked = function.api_settings();
    asked["Publish"] = json!(publish);
    if lambda.find(&path)?.is_none() {
        asked["FunctionName"] = json!(name);
        asked["Code"] = json!({ "ZipFile": code });
        return lambda.post("/2015-03-31/functions", &asked);
    }
    asked["ZipFile"] = code.into(); // At once: new code never meets old settings, nor the other way round.
    lambda.put(&format!("{path}/code"), &asked)
}

/// What the function.toml says of the function's surroundings. Where it says nothing, what is there stays.
fn put_around(lambda: &Lambda, name: &FunctionName, function: &Function) -> Result<(), Failure> {
    if let Some(url) = function.api_url() {
        let path = format!("/2021-10-31/functions/{name}/url");
        match lambda.find(&path)? {
            Some(_) => lambda.put(&path, &url)?,
            None => lambda.post(&path, &url)?,
        };
    }
    if let Some(events) = function.api_events() {
        lambda.put(&format!("/2019-09-25/functions/{name}/event-invoke-config"), &events)?;
    }
    Ok(())
}
