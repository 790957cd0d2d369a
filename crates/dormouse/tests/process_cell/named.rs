//! The operator's own network: sandboxes share it, reach what it leads to and nothing else, and not each other's
//! Runtime API.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use super::common::{Ground, Server, run};
use super::{HEARD, VICTIM, in_network, network_of};

/// Says what it hears at each address of its event, or `refused`.
const VISITOR: &str = r#"
import socket
KEPT = [str(number) * 50 for number in range(20000)]

def hear(host, port):
    try:
        with socket.create_connection((host, port), timeout=5) as made:
            made.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
            return made.recv(64).decode() or "refused"
    except OSError:
        return "refused"

def lambda_handler(event, context):
    return [hash(tuple(KEPT)), *[hear(host, port) for host, port in event]]
"#;

/// A network namespace with a name, as by `ip netns add`: a loopback interface, and that is down.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Namespace {
        let namespace = Namespace(format!("test-{name}-{}", std::process::id()));
        std::fs::create_dir_all("/run/netns").unwrap();
        std::fs::write(namespace.path(), "").unwrap();
        let mut unshare = Command::new("unshare");
        let made = run(unshare.arg(format!("--net={}", namespace.path().display())).arg("true"));
        assert_eq!(made.code, Some(0), "{made:?}");
        namespace
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// What sets it, for as long as the test runs.
    fn setting(&self) -> &'static str {
        format!("netns:{}", self.0).leak()
    }

    /// A service in it that says `inside` to everybody.
    fn serve(&self) -> SocketAddr {
        let namespace = std::fs::File::open(self.path()).unwrap();
        let bind = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap()
        };
        let listener = std::thread::spawn(bind).join().unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(b"inside"); // Whoever has left need not hear it.
            }
        });
        address
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(self.path(), rustix::mount::UnmountFlags::DETACH);
        let removed = std::fs::remove_file(self.path());
        assert!(std::thread::panicking() || (unmounted.is_ok() && removed.is_ok()), "{:?}", self.path());
    }
}

#[test]
fn sandboxes_in_a_named_network_reach_what_is_there_and_nothing_of_the_machine() {
    let (ground, namespace) = (Ground::new(), Namespace::new("reach"));
    let machine = TcpListener::bind("127.0.0.1:0").unwrap();
    let patient = "timeout_s = 20\nkeep_warm_s = 3600\n";
    ground.function("victim", VICTIM, patient);
    ground.function("visitor", VISITOR, patient);
    let server = Server::start_with(&ground, in_network(namespace.setting()));
    let api = server.invoke("victim", &json!({})).answer()["api"].as_str().unwrap().to_owned();
    let api: SocketAddr = api.parse().unwrap();
    assert!(api.port() >= 10_000, "all environments are equally long: {api}");
    let addresses = [namespace.serve(), machine.local_addr().unwrap(), server.address, api];
    let event = json!(addresses.map(|address| (address.ip().to_string(), address.port())));
    let before = server.invoke("visitor", &event).answer();
    assert_eq!(before.as_array().unwrap()[1..], ["inside", "refused", "refused", "refused"], "{before}");
    assert!(server.running.log().contains("a stranger at its Runtime API was sent away"));
    let pids = ["victim", "visitor"].map(|function| server.sandbox_of(function).pid);
    assert_eq!(network_of(pids[0]), network_of(pids[1]));
    assert_ne!(network_of(pids[0]), network_of(server.running.pid()));
    for _ in 0..2 {
        server.sleep_all();
        assert_eq!(server.invoke("visitor", &event).answer(), before);
        for function in ["victim", "visitor"] {
            let found = server.check(&server.sandbox_of(function));
            assert!(found.is_same() && found.pages_before > 0, "{function}: {found:#?}");
        }
        assert_eq!(server.invoke("victim", &json!({})).answer()["api"], json!(api.to_string()));
    }
    server.stop();
}

/// Only functions that ask for it have it; and what was removed under the server is named.
#[test]
fn a_function_has_a_named_network_of_its_own_and_telemetry_there() {
    let (ground, namespace) = (Ground::new(), Namespace::new("own"));
    let of_network = format!("timeout_s = 20\nnetwork = '{}'\n", namespace.setting());
    ground.function("named", HEARD, &of_network);
    ground.extension("named", "listener", include_str!("../common/listener.py"));
    ground.function("usual", VICTIM, "timeout_s = 20\n");
    ground.function("late", VICTIM, &of_network);
    let server = Server::start_with(&ground, in_network("host"));
    for _ in 0..2 {
        assert_eq!(server.invoke("named", &json!({})).answer(), json!("heard"));
    }
    server.invoke("usual", &json!({})).answer();
    assert_eq!(network_of(server.sandbox_of("usual").pid), network_of(server.running.pid()));
    assert_ne!(network_of(server.sandbox_of("named").pid), network_of(server.running.pid()));
    let name = namespace.0.clone();
    drop(namespace);
    let answer = server.invoke("late", &json!({})).json();
    assert!(answer.to_string().contains(&format!("ip netns add {name}")), "{answer}");
    server.stop();
}

#[test]
fn a_network_that_cannot_be_had_is_refused_at_the_start_with_what_to_do() {
    let missing = "netns:dormouse-nowhere";
    let of_nobody = Namespace::new("nobody");
    for (by_nobody, args, settings, expected) in [
        (false, vec!["--network", missing], "", "ip netns add dormouse-nowhere"),
        (false, vec!["--network", "netns:../x"], "", "ip netns add NAME"),
        (false, vec!["--network", missing, "--isolation", "none"], "", "--isolation cell"),
        (false, vec![], "network = 'netns:dormouse-nowhere'", "ip netns add dormouse-nowhere"),
        (false, vec![], "network = 'netns:a/b'", "ip netns add NAME"),
        (true, vec!["--network", of_nobody.setting()], "", "Run as root"),
    ] {
        let ground = Ground::new();
        ground.function("f", VICTIM, settings);
        let mut serve = if by_nobody { ground.command_of_nobody() } else { ground.command() };
        serve.args(["serve", "--listen", "127.0.0.1:0", "--functions"]).arg(ground.functions());
        let ran = run(serve.arg("--data").arg(ground.data()).args(&args));
        assert!(ran.code != Some(0) && ran.stderr.contains(expected), "{args:?}, {settings}: {ran:?}");
    }
}

#[test]
fn a_program_runs_in_a_named_network() {
    let (ground, namespace) = (Ground::new(), Namespace::new("run"));
    let run_in = |network: &str| {
        let program = ["readlink", "/proc/self/ns/net"];
        ground.run(&[&["run", "--isolation", "cell", "--network", network, "--"], &program[..]].concat())
    };
    let inside = std::fs::File::open(namespace.path()).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino(&inside.metadata().unwrap());
    let ran = run_in(namespace.setting());
    assert_eq!((ran.code, ran.stdout), (Some(0), format!("net:[{inode}]\n")), "{}", ran.stderr);
    let refused = run_in("netns:dormouse-nowhere");
    assert!(
        refused.code == Some(1) && refused.stderr.contains("ip netns add dormouse-nowhere"),
        "{refused:?}"
    );
    ground.await_empty();
}
