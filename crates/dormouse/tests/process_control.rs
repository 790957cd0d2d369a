//! Amazon's own clients deploy functions, and the people's own commands do: one scenario a test, in the client's language.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Ground, Ran, Running, Server, Setup, play, play_with, run, scenario, until};
use rustix::process::Signal;
use serde_json::json;
use testkit::require_python;

#[test]
fn functions_are_made_called_changed_and_removed() {
    play("life", &[]);
}

#[test]
fn versions_aliases_and_what_else_tools_configure() {
    play("versions", &[]);
}

/// What the client of `keep` was told: for each function, the numbers that it was made of, in order.
fn acknowledged(running: &Running) -> BTreeMap<String, Vec<u64>> {
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in running.rest().lines() {
        let (name, number) = line.split_once(' ').unwrap();
        told.entry(name.to_owned()).or_default().push(number.parse().unwrap());
    }
    told
}

/// Changes that a client makes before the server is killed, at least; the moment is anywhere in the next.
const CHANGES: [usize; 2] = [4, 9];

#[test]
fn a_server_that_is_killed_loses_nothing_that_was_acknowledged() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    for changes in CHANGES {
        let mut server = Server::start(&ground);
        let mut client = scenario(&ground, "keep", server.address);
        let mut client = Running::start(&ground, "client.log", &mut client);
        let first: Vec<String> = (0..changes).map(|_| client.line()).collect();
        server.running.signal(Signal::KILL);
        server.running.exit();
        assert_eq!(client.exit(), 0, "{}", client.log());
        let mut told = acknowledged(&client);
        for line in first.iter().rev() {
            let (name, number) = line.split_once(' ').unwrap();
            told.entry(name.to_owned()).or_default().insert(0, number.parse().unwrap());
        }

        let server = Server::start(&ground);
        let told = serde_json::to_string(&told).unwrap();
        let ran = run(scenario(&ground, "kept", server.address).arg(told));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        server.stop();
        for part in ["catalogue.redb", "packages", "trees"] {
            let path = ground.data().join(part);
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.unwrap(); // The next round begins anew.
        }
    }
}

/// All that `dormouse openapi` names, as the CLI signs it.
#[test]
fn the_aws_command_line_does_all_that_the_server_can() {
    if !require_python(&["awscli"]) {
        return;
    }
    play_with(Setup::default(), "cli", |server, command| {
        let document = server.ground.path().join("openapi.json");
        std::fs::write(&document, server.run(&["openapi"]).stdout).unwrap();
        command.stdin(std::fs::File::open(&document).unwrap());
        let key = server.run(&["key", "add", "--json"]).json();
        command.env("AWS_ACCESS_KEY_ID", key["id"].as_str().unwrap());
        command.env("AWS_SECRET_ACCESS_KEY", key["secret"].as_str().unwrap());
    });
}

fn dormouse(ground: &Ground, arguments: &[&str]) -> Ran {
    ground.run(arguments)
}

#[test]
fn a_folder_is_deployed_called_listed_and_removed() {
    if !require_python(&["awslambdaric"]) || !testkit::require_node() {
        return;
    }
    let ground = Ground::new();
    let server = Server::start(&ground);
    let folder: PathBuf = ground.path().join("hello");
    let folder = folder.to_str().unwrap();
    for language in ["python", "node"] {
        assert_eq!(dormouse(&ground, &["init", language, folder]).code, Some(0));
        let deployed = dormouse(&ground, &["deploy", folder]);
        assert_eq!(deployed.code, Some(0), "{deployed:?}");
        let answer = dormouse(&ground, &["invoke", "hello", "--payload", "{\"name\": \"you\"}"]);
        assert_eq!(answer.json(), json!({ "hello": "you" }), "{language}");
        std::fs::remove_dir_all(folder).unwrap();
    }
    dormouse(&ground, &["init", "python", folder]);
    assert_eq!(dormouse(&ground, &["init", "python", folder]).code, Some(1), "it is there already");
    let code = "def lambda_handler(event, context): raise ValueError('so it is')";
    std::fs::write(Path::new(folder).join("lambda_function.py"), code).unwrap();
    let settings = "snap_start = true\nurl = true\n[events]\nretries = 0\non_failure = 'hello'";
    std::fs::write(Path::new(folder).join("function.toml"), settings).unwrap();
    let deployed = dormouse(&ground, &["deploy", folder, "--publish", "--json"]);
    assert_eq!(deployed.json()["Version"], json!("1"));
    assert_eq!(deployed.json()["SnapStart"]["ApplyOn"], json!("PublishedVersions"));
    for (path, key, expected) in [
        ("/2021-10-31/functions/hello/url", "AuthType", json!("NONE")),
        ("/2019-09-25/functions/hello/event-invoke-config", "MaximumRetryAttempts", json!(0)),
    ] {
        let shown = server.request(&format!("GET {path}")).unwrap();
        assert_eq!((shown.status, &shown.json()[key]), (200, &expected), "{path}");
    }
    let failed = dormouse(&ground, &["invoke", "hello:1", "--tail"]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stdout.contains("so it is") && failed.stderr.contains("END RequestId"), "{failed:?}");

    let listed = dormouse(&ground, &["list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert!(dormouse(&ground, &["list"]).stdout.contains("hello"));
    assert_eq!(dormouse(&ground, &["rm", "hello"]).code, Some(0));
    let gone = dormouse(&ground, &["rm", "hello"]);
    assert!(gone.code == Some(1) && gone.stderr.contains("not found"), "{gone:?}");
    let missing = dormouse(&ground, &["invoke", "hello"]);
    assert!(missing.code == Some(1) && missing.stderr.contains("not found"), "{missing:?}");
    server.stop();
}

#[test]
fn a_name_that_is_deployed_and_a_folder_is_refused() {
    if !require_python(&["awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    let server = Server::start(&ground);
    let folder = ground.path().join("twice");
    dormouse(&ground, &["init", "python", folder.to_str().unwrap()]);
    assert_eq!(dormouse(&ground, &["deploy", folder.to_str().unwrap()]).code, Some(0));
    server.stop();
    ground.function("twice", "", "");
    let functions = ground.functions();
    let refused =
        dormouse(&ground, &["serve", "--listen", "127.0.0.1:0", "--functions", functions.to_str().unwrap()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("twice is both deployed and in the folder"), "{refused:?}");
    std::fs::write(ground.data().join("catalogue.redb"), "garbage").unwrap();
    let refused = dormouse(&ground, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("is damaged"), "{refused:?}");
    until("nothing is left", || ground.left().is_empty());
}
