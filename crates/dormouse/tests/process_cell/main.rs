//! Cells: what a function can and cannot see and do, and that it sleeps and wakes all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

#[path = "../common/mod.rs"]
mod common;
mod named;
mod shared;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use common::{Ground, Server, Setup, run, until};
use protocol::State;
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{require, require_python};

/// Tries what its event names, and says what came of each: `refused`, or what it got.
const INTRUDER: &str = include_str!("../common/intruder.py");

/// Says whether its extension has heard what it prints.
const HEARD: &str = r#"
import time

def lambda_handler(event, context):
    print("a line of the function", flush=True)
    for _ in range(1000):
        try:
            heard = open("/tmp/heard").read()
        except FileNotFoundError:
            heard = ""
        if "a line of the function" in heard:
            return "heard"
        time.sleep(0.01)
    return heard
"#;

/// Holds secrets, and says where.
const VICTIM: &str = r#"
import os
SECRET = "s3cret-of-the-victim"

def lambda_handler(event, context):
    with open("/tmp/secret", "w") as file:
        file.write(SECRET)
    return {"api": os.environ["AWS_LAMBDA_RUNTIME_API"]}
"#;

fn in_network(network: &'static str) -> Setup {
    Setup { args: vec!["--network", network], ..Setup::default() }
}

/// Who says nothing gets cells.
fn in_cells() -> Setup {
    Setup::default()
}

/// Sleeps and wakes functions in cells, and asks them the same before and after.
#[track_caller]
fn check(functions: &[&str]) {
    let ground = Ground::new();
    functions.iter().for_each(|function| ground.example(function));
    let server = Server::start_with(&ground, in_cells());
    let ask = |function: &str| {
        [json!({ "verify": true }), json!({ "n": 3 })].map(|event| server.invoke(function, &event).answer())
    };
    let before: Vec<_> = functions.iter().map(|function| ask(function)).collect();
    for round in 0..2 {
        server.sleep_all();
        for (function, before) in functions.iter().zip(&before) {
            let asleep = server.sandbox_of(function);
            assert_eq!(asleep.state, State::Dedup, "{function}, round {round}");
            assert_eq!(ask(function), *before, "{function}, round {round}");
            let found = server.check(&asleep);
            assert!(found.is_same() && found.pages_before > 0, "{function}, round {round}: {found:#?}");
        }
    }
    server.stop();
}

#[test]
fn python_functions_sleep_and_wake_in_cells() {
    if require_python(&["numpy", "awslambdaric"]) {
        check(&["hello", "numpy", "child"]);
    }
}

#[test]
fn a_shell_sleeps_and_wakes_in_a_cell() {
    let curl = std::process::Command::new("curl").arg("--version").output().is_ok();
    if require(curl, "curl", "install curl") {
        check(&["shell"]);
    }
}

#[test]
fn an_intruder_sees_and_can_do_nothing() {
    intrude("none");
}

#[test]
fn an_intruder_on_the_machines_network_sees_no_more_of_others() {
    intrude("host");
}

#[track_caller]
fn intrude(network: &'static str) {
    let ground = Ground::new();
    // What listens on the machine: at all its addresses, and under a name without a file.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let open = listener.local_addr().unwrap().port();
    let name = format!("dormouse-test-{open}");
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    ground.function("victim", VICTIM, "timeout_s = 20\n[environment]\nTOKEN = 'of-the-victim'\n");
    ground.function("intruder", INTRUDER, "timeout_s = 60\n");
    let server = Server::start_with(&ground, in_network(network));
    let said = server.invoke("victim", &json!({})).answer();
    let (host, port) = said["api"].as_str().unwrap().split_once(':').unwrap();
    let port: u16 = port.parse().unwrap();
    let victim = server.sandbox_of("victim");
    let (addresses, names) = match network {
        "host" => (json!([[host, port]]), json!([])),
        // Where the victim's API is, it finds its own.
        _ => (
            json!([["127.0.0.1", open], ["0.0.0.0", open], ["127.0.0.1", server.address.port()]]),
            json!([name]),
        ),
    };
    let event = json!({
        "addresses": addresses,
        "abstract": names,
        "pid": victim.pid,
        "files": [ground.functions().join("victim"), ground.data(), ground.path(), "/root/.cargo", "/root/.ssh", "/home", "/sys", "/run"],
        "node": server.running.pid(),
    });
    let found = server.invoke("intruder", &event).answer();
    let found = found.as_object().unwrap();
    let got: Vec<_> = found.iter().filter(|(_, outcome)| *outcome != "refused").collect();
    assert!(got.is_empty() && found.len() > 40, "{got:#?} of {}", found.len());
    let others = [server.sandbox_of("intruder").pid, server.running.pid()];
    let is_own = others.iter().all(|other| network_of(victim.pid) != network_of(*other));
    assert_eq!(is_own, network != "host");
    server.stop();
}

/// The same bytes come back, and the Runtime API goes on, whatever network it goes over.
#[test]
fn functions_sleep_and_wake_in_every_network() {
    let code = r#"
import os, socket
KEPT = [str(number) * 50 for number in range(20000)]

def lambda_handler(event, context):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
    return [os.environ["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001", hash(tuple(KEPT))]
"#;
    for by_nobody in [false, true] {
        sleep_and_wake_in_every_network(code, by_nobody);
    }
}

#[track_caller]
fn sleep_and_wake_in_every_network(code: &str, by_nobody: bool) {
    let ground = Ground::new();
    let networks = ["none", "host"];
    for network in networks {
        let settings = format!("timeout_s = 20\nkeep_warm_s = 3600\nnetwork = '{network}'\n");
        ground.function(network, code, &settings);
    }
    let server = Server::start_with(&ground, Setup { by_nobody, ..in_cells() });
    let ask = |network: &str| server.invoke(network, &json!({})).answer();
    let before = networks.map(ask);
    for (network, said) in networks.iter().zip(&before) {
        assert_eq!(said[0], json!(*network != "host"), "{network}");
    }
    for _ in 0..2 {
        server.sleep_all();
        assert_eq!(networks.map(ask), before);
        for network in networks {
            let found = server.check(&server.sandbox_of(network));
            assert!(found.is_same() && found.pages_before > 0, "{network}: {found:#?}");
        }
    }
    server.stop();
}

/// An extension hears in its cell what its function prints there.
#[test]
fn telemetry_reaches_an_extension_in_its_cell() {
    let ground = Ground::new();
    let networks = ["none", "host"];
    for network in networks {
        ground.function(network, HEARD, &format!("timeout_s = 20\nnetwork = '{network}'\n"));
        ground.extension(network, "listener", include_str!("../common/listener.py"));
    }
    let server = Server::start_with(&ground, in_cells());
    for network in networks {
        for _ in 0..2 {
            assert_eq!(server.invoke(network, &json!({})).answer(), json!("heard"), "{network}");
        }
    }
    server.stop();
}

#[test]
fn a_function_finds_its_files_and_who_it_is() {
    let ground = Ground::new();
    let code = "import os\ndef lambda_handler(event, context):\n    \
                return [os.getcwd(), os.environ['LAMBDA_TASK_ROOT'], __file__, os.getuid(), os.uname().nodename]\n";
    ground.function("who", code, "timeout_s = 20\n");
    let server = Server::start_with(&ground, in_cells());
    let who = server.invoke("who", &json!({})).answer();
    let expected = json!(["/var/task", "/var/task", "/var/task/lambda_function.py", 1000, "sandbox"]);
    assert_eq!(who, expected);
    server.stop();
}

#[test]
fn a_full_tmp_and_a_fork_bomb_stay_inside() {
    let ground = Ground::new();
    let code = r#"
import os, signal

def fill():
    written = 0
    try:
        with open("/tmp/fill", "wb") as file:
            while True:
                written += file.write(bytes(1 << 20))
                file.flush()
    except OSError as error:
        return [error.errno, written >> 20]

def bomb():
    children = []
    try:
        while len(children) < 200:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError as error:
        return [error.errno, len(children)]
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

def lambda_handler(event, context):
    return {"fill": fill, "bomb": bomb}[event["do"]]()
"#;
    ground.function("greedy", code, "timeout_s = 60\ntmp_mb = 8\nprocesses = 20\n");
    let server = Server::start_with(&ground, in_cells());
    let ask = |what: &str| server.invoke("greedy", &json!({ "do": what })).answer();
    let (no_space, no_process) = (28, 11);
    let filled = ask("fill");
    assert_eq!(filled[0], json!(no_space), "{filled}");
    assert!(filled[1].as_u64().unwrap() <= 8, "{filled}");
    let bombed = ask("bomb");
    assert_eq!(bombed[0], json!(no_process), "{bombed}");
    assert!(bombed[1].as_u64().unwrap() <= 20, "{bombed}");
    server.stop();
}

/// Whoever loses parents is collected, and nothing of a cell outlives the node, asleep or awake.
#[test]
fn nothing_is_left_of_cells_when_the_node_is_killed() {
    let ground = Ground::new();
    let code = "import os, subprocess\ndef lambda_handler(event, context):\n    \
                subprocess.run('setsid sleep 1000 >/dev/null 2>&1 & setsid true &', shell=True)\n    return os.getpid()\n";
    ground.function("daemon", code, "timeout_s = 20\nkeep_warm_s = 3600\n");
    for asleep in [false, true] {
        let server = Server::start_with(&ground, in_cells());
        server.invoke("daemon", &json!({})).answer();
        if asleep {
            server.sleep_all();
        }
        let pid = server.sandbox_of("daemon").pid;
        let inhabitants = inhabitants(pid);
        assert!(inhabitants.len() >= 3, "the keeper, the function, and its daemon: {inhabitants:?}");
        server.running.signal(Signal::KILL);
        until("all are dead", || inhabitants.iter().all(|pid| is_dead(*pid)));
        drop(server);
        ground.await_empty();
    }
}

/// A keeper that dies takes its cell along, and the next invocation gets another.
#[test]
fn a_cell_dies_with_its_keeper() {
    let ground = Ground::new();
    ground.function(
        "hello",
        "import os\ndef lambda_handler(event, context):\n    return os.getpid()\n",
        "timeout_s = 20\n",
    );
    let server = Server::start_with(&ground, in_cells());
    for asleep in [false, true] {
        let pid = server.invoke("hello", &json!({})).answer();
        assert_eq!(pid, json!(2), "its number in its cell");
        if asleep {
            server.sleep_all();
        }
        let before = server.sandbox_of("hello");
        let keeper = inhabitants(before.pid).into_iter().find(|pid| is_keeper(*pid)).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
        until("the sandbox is gone", || server.sandboxes().iter().all(|sandbox| sandbox.id != before.id));
    }
    server.stop();
}

/// A machine on which no user namespace can be made: the server says so at once, and what to do.
#[test]
fn a_server_that_can_build_no_cell_does_not_start() {
    let ground = Ground::new();
    let mut serve = ground.command();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--functions"]).arg(ground.functions());
    serve.arg("--data").arg(ground.data());
    let mut command = std::process::Command::new("unshare");
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"";
    command
        .args(["--user", "--map-root-user", "sh", "-c", forbid])
        .arg(serve.get_program())
        .args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let ran = run(&mut command);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("build a cell") && ran.stderr.contains("--isolation none"), "{ran:?}");
    ground.await_empty();
}

#[test]
fn a_broken_cell_is_refused_with_a_reason() {
    let ground = Ground::new();
    ground.function("f", "def lambda_handler(event, context):\n    return 1\n", "");
    let interpreter = ground.path().join("nowhere");
    let server = Server::start_with(&ground, in_cells());
    std::fs::rename(ground.functions().join("f"), interpreter).unwrap();
    let answer: Value = server.invoke("f", &json!({})).json();
    assert!(answer.to_string().contains("show "), "{answer}");
    server.stop();
}

/// All processes of a cell, from one of them.
fn inhabitants(of: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| namespace(*pid).is_some_and(|one| Some(one) == namespace(of))).collect()
}

fn network_of(pid: i32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

/// The first process of a pid namespace.
fn is_keeper(pid: i32) -> bool {
    status(pid).lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
}

/// It has no memory any more, and waits at most to be collected by the machine's first process, which takes its time.
fn is_dead(pid: i32) -> bool {
    !status(pid).contains("VmRSS")
}

fn status(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}
