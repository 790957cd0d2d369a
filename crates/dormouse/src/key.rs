//! `dormouse key`: the keys that calls of the Lambda API are signed with. They are in the data directory, so no server
//! has to run; one that does notices at its next request.

use std::path::Path;

use front::{Key, Keys, KeysError};
use report::table::{Column, Table};
use serde_json::json;

use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:
  dormouse key add --note terraform
  eval \"$(dormouse key add)\" && aws lambda list-functions --endpoint-url http://127.0.0.1:9000
  dormouse key list
  dormouse key rm AKIAIOSFODNN7EXAMPLE

As soon as there is a key, every call must be signed with one, also from this machine; the commands of this program \
need none.")]
pub(crate) enum Command {
    /// Make a key and print it as a shell's variables; its secret is never shown again
    Add {
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the keys, without their secrets
    List {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a key: who has it is refused from now on
    Rm {
        /// The access key id
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(crate) fn run(command: &Command, data: &Path) -> Result<(), Failure> {
    let keys = Keys::in_dir(data);
    let failed = |error: KeysError| Failure::of(&error);
    match command {
        Command::Add { note, json } => {
            let key = keys.add(note).map_err(failed)?;
            match json {
                true => output::print_json(&key),
                false => output::print(&format!(
                    "export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\n",
                    key.id, key.secret
                )),
            }
        }
        Command::List { json: true } => {
            let public = |key: &Key| json!({ "id": key.id, "note": key.note, "created": key.created });
            let all = keys.all().map_err(failed)?;
            output::print_json(&all.iter().map(public).collect::<Vec<_>>())
        }
        Command::List { json: false } => output::print(&table(&keys.all().map_err(failed)?)),
        Command::Rm { id } => {
            keys.remove(id).map_err(failed)?;
            if keys.all().map_err(failed)?.is_empty() {
                output::note(
                    "no key is left: a server on the loopback interface is open to this machine again",
                );
            }
            Ok(())
        }
    }
}

fn table(keys: &[Key]) -> String {
    let mut table =
        Table::new(vec![Column::left("id"), Column::left("made"), Column::left("note").shrinking()]);
    for key in keys {
        table.row(vec![key.id.clone(), key.created.clone(), key.note.clone()]);
    }
    table.render(output::width())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_list() {
        let dir = tempfile::tempdir().unwrap();
        let key = Keys::in_dir(dir.path()).add("for tests").unwrap();
        let listed = table(std::slice::from_ref(&key));
        assert!(listed.contains(&key.id) && listed.contains("for tests"), "{listed}");
        assert!(!listed.contains(&key.secret), "{listed}");
    }
}
