//! `dormouse list`: the functions of a server.

use std::path::Path;

use report::table::{Column, Table};
use serde_json::Value;

use crate::failure::Failure;
use crate::lambda::Lambda;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse list
  dormouse list --versions --json | jq '.[].FunctionArn'")]
pub(crate) struct Args {
    /// Published versions, too
    #[arg(long)]
    versions: bool,
    /// Print what the server says, as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, data: &Path) -> Result<(), Failure> {
    let functions = all(&Lambda::connect(data)?, args.versions)?;
    match args.json {
        true => output::print_json(&functions),
        false => output::print(&table(&functions).render(output::width())),
    }
}

/// Page by page.
fn all(lambda: &Lambda, versions: bool) -> Result<Vec<Value>, Failure> {
    let kind = if versions { "&FunctionVersion=ALL" } else { "" };
    let mut functions = Vec::new();
    let mut marker = String::new();
    loop {
        let page = lambda.get(&format!("/2015-03-31/functions?MaxItems=1000{kind}&Marker={marker}"))?;
        functions.extend(page["Functions"].as_array().into_iter().flatten().cloned());
        match page["NextMarker"].as_str() {
            Some(next) => marker = next.to_owned(),
            None => return Ok(functions),
        }
    }
}

fn table(functions: &[Value]) -> Table {
    let mut table = Table::new(vec![
        Column::left("function").shrinking(),
        Column::left("version"),
        Column::left("runtime"),
        Column::left("handler").optional(1),
        Column::right("memory MiB"),
        Column::right("timeout s"),
        Column::left("changed").optional(2),
    ]);
    for function in functions {
        let keys = ["FunctionName", "Version", "Runtime", "Handler", "MemorySize", "Timeout", "LastModified"];
        let cell = |key: &str| match &function[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row(keys.map(cell));
    }
    table
}
