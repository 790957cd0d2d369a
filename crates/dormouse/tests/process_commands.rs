//! What an operator looks at while a server runs: `top`, `logs`, `key`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Ground, Running, Server, until};
use rustix::process::Signal;
use serde_json::json;

const CODE: &str = "\
def lambda_handler(event, context):
    print('said', event)
    if event == 'fail': raise ValueError('so it is')
    return event
";

fn ground() -> Ground {
    let ground = Ground::new();
    ground.function("f", CODE, "concurrency = 1\nkeep_warm_s = 3600\n");
    ground.function("g", CODE, "concurrency = 1\nkeep_warm_s = 3600\n");
    ground
}

#[test]
fn top_shows_one_frame_or_one_after_the_other() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!(1)).answer();
    server.sleep_all();
    server.invoke("g", &json!(1)).answer();
    let ran = server.run(&["top", "--once"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(!ran.stdout.contains('\x1b'), "no terminal is needed: {}", ran.stdout);
    assert!(ran.stdout.contains("2 sandboxes: 1 warm, 1 dedup"), "{}", ran.stdout);
    let rows = ran.stdout.lines().filter_map(|line| line.split_whitespace().next());
    assert_eq!(rows.filter(|first| ["f", "g"].contains(first)).count(), 2, "{}", ran.stdout);

    let mut top = Running::start(&ground, "top.log", &mut server.command(&["top", "--every", "1"]));
    let mut frames = 0;
    while frames < 3 {
        frames += top.line().matches("\x1b[2J").count(); // Each frame wipes the one before.
    }
    server.stop();
    assert_eq!(top.exit(), 1, "{}", top.log());
    assert!(top.log().contains("no dormouse answers"), "{}", top.log());
    let ran = ground.run(&["top", "--once"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("dormouse serve"), "{ran:?}");
}

#[test]
fn logs_are_shown_and_followed() {
    let ground = ground();
    let server = Server::start(&ground);
    server.invoke("f", &json!("first")).answer();
    server.invoke("f", &json!("fail"));
    server.invoke("g", &json!("elsewhere")).answer();
    // What is said of an invocation at its end is written after the answer.
    let reports = || server.run(&["logs", "f"]).stdout.matches("REPORT RequestId: ").count();
    until("both have been reported", || reports() == 2);
    let ran = server.run(&["logs", "f"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for words in [
        "said first",
        "said fail",
        "ValueError",
        "START RequestId: ",
        "END RequestId: ",
        "REPORT RequestId: ",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("elsewhere"), "{}", ran.stdout);
    let last = server.run(&["logs", "-n", "1", "f"]);
    assert_eq!(
        last.stdout.lines().collect::<Vec<_>>(),
        ran.stdout.lines().last().into_iter().collect::<Vec<_>>()
    );

    // Who follows gets what is there, then what comes, and no other function's; the server's end is its end.
    let follow = ["logs", "-f", "-n", "1", "f"];
    let mut following = Running::start(&ground, "logs.log", &mut server.command(&follow));
    assert_eq!(following.line(), last.stdout.trim_end_matches('\n'));
    server.invoke("g", &json!("elsewhere")).answer();
    server.invoke("f", &json!("second")).answer();
    let mut heard = Vec::new();
    while !heard.last().is_some_and(|line: &String| line.contains("REPORT RequestId: ")) {
        heard.push(following.line());
    }
    assert!(heard.iter().any(|line| line.contains("said second")), "{heard:?}");
    assert!(!heard.iter().any(|line| line.contains("elsewhere")), "{heard:?}");
    let unknown = server.run(&["logs", "none"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("has logged nothing"), "{unknown:?}");
    // What was logged is there after a restart.
    server.stop();
    following.exit();
    let server = Server::start(&ground);
    assert!(server.run(&["logs", "f"]).stdout.contains("said second"));
    // A reader that ends, as by Ctrl-C, costs the server nothing.
    let mut following = Running::start(&ground, "logs.log", &mut server.command(&follow));
    following.line();
    following.signal(Signal::INT);
    following.exit();
    assert_eq!(server.invoke("f", &json!(3)).answer(), json!(3));
    server.stop();
}

#[test]
fn keys_close_the_door_at_once_and_open_it_again() {
    let ground = ground();
    let server = Server::start(&ground);
    let status = || server.try_invoke("f", &json!(1)).unwrap().status;
    assert_eq!(status(), 200);
    let added = server.run(&["key", "add", "--note", "for tests"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let (id, secret) = added.stdout.split_once('\n').unwrap();
    let id = id.strip_prefix("export AWS_ACCESS_KEY_ID=").unwrap();
    let secret = secret.trim_end().strip_prefix("export AWS_SECRET_ACCESS_KEY=").unwrap();
    assert_eq!(status(), 403);
    // The operator's commands go by the socket, and need none.
    assert_eq!(server.run(&["invoke", "f", "--payload", "2"]).json(), json!(2));
    for listed in [server.run(&["key", "list"]), server.run(&["key", "list", "--json"])] {
        assert!(listed.stdout.contains(id) && listed.stdout.contains("for tests"), "{listed:?}");
        assert!(!listed.stdout.contains(secret), "{listed:?}");
    }
    let unknown = server.run(&["key", "rm", "AKIANONE"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("AKIANONE"), "{unknown:?}");
    let removed = server.run(&["key", "rm", id]);
    assert!(removed.code == Some(0) && removed.stderr.contains("no key is left"), "{removed:?}");
    assert_eq!(status(), 200);
    server.stop();
}
