//! The command line: what there is, and which file does it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use protocol::{SandboxId, SandboxRecord};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::{
    bench, check, client, data_dir, demo, deploy, doctor, guard, init, inside, invoke, key, list, logs,
    merge, openapi, ps, rm, run, serve, sleep, stats, top, wake,
};

/// Keeps serverless functions warm without keeping their memory
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
#[command(after_help = "Examples:
  dormouse demo                  see it work, on functions that come with it
  dormouse serve                 serve functions, compatible with AWS Lambda
  dormouse init python hello     make a function; deploy hello, invoke hello
  dormouse ps                    what runs, what sleeps, and what it costs
  dormouse bench sleep --quick   compare with freezing, zram, CRIU and cold starts

Exit codes: 0 done, 1 failed, 2 misused.")]
struct Cli {
    /// Directory of the server, one server each; demo, doctor and bench use none [default: /var/lib/dormouse for root,
    /// else $XDG_STATE_HOME/dormouse, else ~/.local/state/dormouse]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    data: Option<PathBuf>,

    /// What to log to standard error, such as `debug` or `node=trace` [default: $RUST_LOG, or warn]
    #[arg(long, global = true, value_name = "FILTER", help_heading = "Everywhere")]
    log: Option<String>,

    /// How to log: lines for people, or one JSON object a line
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Everywhere")]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show it: start functions, put them to sleep, wake them, check every byte, leave nothing behind
    Demo(demo::Args),
    /// Serve functions over HTTP, compatible with AWS Lambda
    Serve(serve::Args),
    /// Deploy a folder as a function of a running server
    Deploy(deploy::Args),
    /// Call a function
    Invoke(invoke::Args),
    /// List functions
    List(list::Args),
    /// Remove functions, or versions of them
    Rm(rm::Args),
    /// Make a folder with a function
    Init(init::Args),
    /// Run any program as a sandbox
    Run(run::Args),
    /// List sandboxes and what they cost
    Ps(ps::Args),
    /// Put sandboxes to sleep now
    Sleep(sleep::Args),
    /// Wake sandboxes now
    Wake(wake::Args),
    /// Put sandboxes to sleep, wake them, and compare every byte
    Check(check::Args),
    /// Show what a function has logged
    Logs(logs::Args),
    /// Show the totals of the node
    Stats(stats::Args),
    /// Make, list and remove the keys that calls are signed with
    #[command(subcommand)]
    Key(key::Command),
    /// Show what a server does, as it does it
    Top(top::Args),
    /// Print what a server can be asked over HTTP, as an OpenAPI document
    Openapi(openapi::Args),
    /// Keep once what processes have in common, any that run
    Merge(merge::Args),
    /// Say what this machine can do
    Doctor(doctor::Args),
    /// Measure against the rivals
    Bench(bench::Args),
    /// Started by a node, never by people
    #[command(hide = true)]
    Guard(guard::Args),
    /// Started by a node, never by people
    #[command(hide = true)]
    Inside(inside::Args),
}

/// Which sandboxes a command is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Sandboxes, as `dormouse ps` numbers them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<SandboxId>,
    /// Every sandbox to which it applies
    #[arg(long)]
    all: bool,
    /// Print a JSON record for each
    #[arg(long)]
    pub(crate) json: bool,
}

impl Which {
    /// Does it to each. One that fails does not keep the others from it; the first failure is the command's.
    pub(crate) fn each(
        &self,
        data: &Path,
        applies: impl Fn(&SandboxRecord) -> bool,
        mut action: impl FnMut(SandboxId) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let ids = match self.all {
            true => client::sandboxes(data)?
                .iter()
                .filter(|record| applies(record))
                .map(|record| record.id)
                .collect(),
            false => self.ids.clone(),
        };
        let mut result = Ok(());
        for id in ids {
            match (action(id), &result) {
                (Ok(()), _) => {}
                (Err(Failure::ReaderGone), _) => return Err(Failure::ReaderGone),
                (Err(failure), Ok(())) => result = Err(failure),
                (Err(failure), Err(_)) => {
                    failure.report();
                }
            }
        }
        result
    }
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    let cli = Cli::parse(); // Misuse, `--help` and `--version` end here.
    log(cli.log.as_deref(), cli.log_format)?;
    let data = cli.data.unwrap_or_else(data_dir::default);
    match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Serve(args) => serve::run(args, &data),
        Command::Deploy(args) => deploy::run(args, &data),
        Command::Invoke(args) => invoke::run(args, &data),
        Command::List(args) => list::run(args, &data),
        Command::Rm(args) => rm::run(args, &data),
        Command::Init(args) => init::run(args),
        Command::Openapi(args) => openapi::run(args),
        Command::Run(args) => return run::run(args, &data),
        Command::Ps(args) => ps::run(args, &data),
        Command::Sleep(args) => sleep::run(args, &data),
        Command::Wake(args) => wake::run(args, &data),
        Command::Check(args) => check::run(args, &data),
        Command::Top(args) => top::run(args, &data),
        Command::Logs(args) => logs::run(args, &data),
        Command::Stats(args) => stats::run(args, &data),
        Command::Key(command) => key::run(command, &data),
        Command::Merge(args) => merge::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Guard(args) => guard::run(args),
        Command::Inside(args) => inside::run(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn log(filter: Option<&str>, format: LogFormat) -> Result<(), Failure> {
    let filter = match filter {
        Some(text) => EnvFilter::try_new(text)
            .map_err(|error| Failure::of(&error).hint("write --log like `debug` or `warn,node=trace`"))?,
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, accepted: bool) {
        let parsed = Cli::try_parse_from(line.split(' '));
        assert_eq!(parsed.is_ok(), accepted, "{line}: {parsed:?}");
    }

    #[test]
    fn the_definition_holds_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn which_sandboxes_must_be_said_once() {
        check("dormouse sleep 1 2", true);
        check("dormouse sleep --all --data /tmp/x", true);
        check("dormouse sleep", false);
        check("dormouse sleep 1 --all", false);
        check("dormouse sleep one", false);
    }

    #[test]
    fn a_bench_has_its_knobs() {
        check("dormouse bench sleep --quick --workers hello,numpy --layout random", true);
        check("dormouse bench sleep --workers fortran", false);
        check("dormouse bench sleep --rounds 0", false);
        check("dormouse bench encode --quick --workers hello,node --layout random --pairs 2", true);
        check("dormouse bench encode --pairs 0", false);
        check("dormouse bench merge --quick --workers synthetic --sandboxes 1,4 --ways off,ksm-flat", true);
        check("dormouse bench merge --sandboxes 0", false);
        check("dormouse bench merge --ways uksm", false);
        check("dormouse bench soak --minutes 0.5 --sandboxes 8 --workers hello,hello,node --seed 7", true);
        check("dormouse bench soak --minutes forever", false);
        check("dormouse bench soak --minutes -1", false);
    }

    #[test]
    fn keys_are_named_where_they_are_removed() {
        check("dormouse key add", true);
        check("dormouse key add --note ci --data /tmp/x", true);
        check("dormouse key list --json", true);
        check("dormouse key rm AKIA", true);
        check("dormouse key rm", false);
        check("dormouse key", false);
    }

    #[test]
    fn logs_are_of_one_function() {
        check("dormouse top --once", true);
        check("dormouse top --every 0", false);
        check("dormouse logs -f hello", true);
        check("dormouse logs -n 5 hello", true);
        check("dormouse logs", false);
        check("dormouse logs a/b", false);
        check("dormouse --log-format json serve --functions .", true);
        check("dormouse --log-format xml serve --functions .", false);
    }

    #[test]
    fn processes_are_merged_by_number() {
        check("dormouse merge 1 2 --children --across-domains --limit 5 --json", true);
        check("dormouse merge --unmerge 1 2", true);
        check("dormouse merge", false);
        check("dormouse merge 0", false);
        check("dormouse merge --unmerge --across-domains 1", false);
    }

    #[test]
    fn a_program_keeps_its_own_options() {
        check("dormouse run --name web -- python3 -m http.server", true);
        check("dormouse run", false);
    }
}
