//! dormouse keeps serverless functions warm without keeping their memory. This is the command line; what it says
//! and means is in `cli.rs`, what it does in a file for each subcommand.

mod bench;
mod check;
mod cli;
mod client;
mod data_dir;
mod demo;
mod deploy;
mod doctor;
mod failure;
mod guard;
mod init;
mod inside;
mod invoke;
mod key;
mod lambda;
mod list;
mod logs;
mod merge;
mod openapi;
mod output;
mod ps;
mod python;
mod rm;
mod run;
mod serve;
mod sleep;
mod stats;
mod stop;
mod top;
mod wake;

use std::process::ExitCode;

fn main() -> ExitCode {
    linux::heap::keep_small(); // Before there are threads.
    match cli::run() {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
