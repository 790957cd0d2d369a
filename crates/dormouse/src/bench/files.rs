//! What a bench gives to people and programs: a table to the terminal, figures and charts to files.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::Failure;
use crate::output;

/// Where the figures go.
#[derive(Debug, clap::Args)]
pub(crate) struct Json {
    /// Write all figures here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Where figures and chart go.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    #[command(flatten)]
    json: Json,
    /// Draw a chart here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Json {
    /// Prints the table, and writes the figures if they were asked for.
    pub(crate) fn write(&self, bench: &impl Serialize, table: &str) -> Result<(), Failure> {
        output::print(table)?;
        self.json.as_deref().map_or(Ok(()), |path| write(path, &output::json(bench)?))
    }
}

impl Files {
    /// Prints the table, and writes what was asked for.
    pub(crate) fn write<E: std::error::Error>(
        &self,
        bench: &impl Serialize,
        table: &str,
        chart: impl FnOnce() -> Result<String, E>,
    ) -> Result<(), Failure> {
        self.json.write(bench, table)?;
        let draw = |path| write(path, &chart().map_err(|error| Failure::of(&error))?);
        self.svg.as_deref().map_or(Ok(()), draw)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::io(format!("write {}", path.display()), &error))
}
