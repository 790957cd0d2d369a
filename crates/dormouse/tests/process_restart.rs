//! What was configured, and what waits, outlives the server, however that ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Ground, Server, Setup, run, scenario, until};
use serde_json::json;
use testkit::require_python;

#[track_caller]
fn settled(server: &Server<'_>, what: &str) {
    let ran = run(scenario(server.ground, "settled", server.address).arg(what));
    assert_eq!(ran.code, Some(0), "{what}: {}", ran.stderr);
}

/// The metrics of this server that begin like this.
#[track_caller]
fn metrics(server: &Server<'_>, begin: &str) -> Vec<String> {
    let text = String::from_utf8(server.ask_operator("/metrics").body).unwrap();
    text.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
}

/// How many events wait for the function that is lost.
#[track_caller]
fn waiting(server: &Server<'_>) -> u64 {
    let found = metrics(server, "dormouse_events_waiting{target=\"lost\"}");
    found.first().map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// The package that has this in its code, packed and unpacked.
fn package_with(ground: &Ground, text: &str) -> [PathBuf; 2] {
    let trees = fs::read_dir(ground.data().join("trees")).unwrap().map(|tree| tree.unwrap().path());
    let holds = |tree: &PathBuf| {
        fs::read_to_string(tree.join("lambda_function.py")).is_ok_and(|code| code.contains(text))
    };
    let tree = trees.into_iter().find(holds).unwrap();
    [ground.data().join("packages").join(tree.file_name().unwrap()), tree]
}

fn hits(file: &Path) -> usize {
    fs::read(file).unwrap_or_default().len()
}

#[test]
fn all_that_was_configured_outlives_a_stop_a_kill_and_the_loss_of_a_package() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    let [came, went, door] = ["came", "went", "door"].map(|name| ground.path().join(name));
    let server = Server::start_with(&ground, Setup::outside_cells());
    settled(&server, "make");
    server.stop();

    // After a stop: all as it was. An event is under way when the server is killed.
    let server = Server::start_with(&ground, Setup::outside_cells());
    settled(&server, "same");
    let event = json!({ "came": came, "went": went, "door": door }).to_string();
    let taken = server.post("lost", &[("x-amz-invocation-type", "Event")], event.as_bytes()).unwrap();
    assert_eq!(taken.status, 202);
    until("the event is being handled", || hits(&came) == 1);
    drop(server); // As by `kill -9`.
    ground.await_empty();

    // After a kill, and without a package: it is said, what is left is as it was, and the event waits.
    let [package, tree] = package_with(&ground, "event['went']");
    let elsewhere = ground.path().join("elsewhere");
    fs::rename(&package, &elsewhere).unwrap();
    fs::remove_dir_all(tree).unwrap();
    fs::write(&door, "").unwrap();
    let server = Server::start_with(&ground, Setup::outside_cells());
    settled(&server, "lost");
    let log = server.running.log();
    assert!(log.contains("a deployed function cannot be served") && log.contains("lost"), "{log}");
    assert_eq!(log.matches("ERROR").count(), 1, "and nothing else: {log}");
    until("it waits", || waiting(&server) == 1);
    assert_eq!(metrics(&server, "dormouse_events_given_up_total{"), Vec::<String>::new());
    server.stop();
    assert_eq!(hits(&came), 1);

    // With the package: it is served, and the event is done, once.
    fs::rename(elsewhere, package).unwrap();
    let server = Server::start_with(&ground, Setup::outside_cells());
    until("the event is done", || hits(&went) == 1);
    until("nothing waits", || waiting(&server) == 0);
    settled(&server, "same");
    assert_eq!((hits(&came), hits(&went)), (2, 1));
    server.stop();
}
