//! What clients and tools of other people do with a real server: one scenario a test, in the client's language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{play, play_with};
use testkit::{require, require_python};

/// The function in Rust that comes with the tests.
fn rust_function() -> String {
    let file = std::path::Path::new(env!("CARGO_BIN_EXE_dormouse")).with_file_name("examples/rust_function");
    assert!(require(file.is_file(), "rust_function", "cargo build -p testkit --example rust_function"));
    file.display().to_string()
}

#[test]
fn sixty_four_clients_at_once_are_answered_throttled_and_deployed_under() {
    play("crowd", &[&rust_function()]);
}

#[test]
fn a_function_in_rust_is_served_with_all_that_its_crate_can() {
    play("rust", &[&rust_function()]);
}

#[test]
fn what_terraform_calls_is_as_it_expects() {
    play("terraform", &[]);
}

#[test]
fn function_urls_are_called_by_everybody_or_by_those_who_sign() {
    play_with("urls", |server, command| {
        let key = server.run(&["key", "add", "--json"]).json();
        command.env("AWS_ACCESS_KEY_ID", key["id"].as_str().unwrap());
        command.env("AWS_SECRET_ACCESS_KEY", key["secret"].as_str().unwrap());
    });
}

#[test]
fn snapshot_hooks_run_around_the_first_sleep() {
    if require_python(&["snapshot_restore_py"]) {
        play_with("snap", |server, command| _ = command.arg(&server.socket));
    }
}
