//! The machine's network, which functions share: what they can reach of each other and of the server there.

use std::io::Read as _;
use std::net::TcpListener;

use serde_json::json;

use super::common::{Ground, Server, Setup, until};
use super::{VICTIM, in_network};

/// Asks the server itself for what another function is given; hidden: while the server looks who asks, no process has
/// the socket.
const ASKS: &str = r#"
import http.client, socket, time

def lambda_handler(event, context):
    client = http.client.HTTPConnection(event["host"], event["port"], timeout=10)
    if not event["hidden"]:
        client.connect()
    else:
        asking = socket.create_connection((event["host"], event["port"]), timeout=10)
        ours, others = socket.socketpair()
        socket.send_fds(ours, [b"x"], [asking.fileno()])
        asking.close()
        time.sleep(0.3)
        client.sock = socket.socket(fileno=socket.recv_fds(others, 1, 1)[1][0])
        client.sock.settimeout(10)
    client.request(event["method"], event["path"], body=event["body"])
    reply = client.getresponse()
    return [reply.status, reply.read().decode()]
"#;

/// Listens where it is told, and says how many came and what they said.
const EAVESDROPPER: &str = r#"
import socket, threading
HEARD = []

def listen(port):
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            stream, _ = server.accept()
            with stream:
                HEARD.append(stream.recv(65536).decode())

def lambda_handler(event, context):
    if event:
        threading.Thread(target=listen, args=[event["port"]], daemon=True).start()
    return HEARD
"#;

/// Wants telemetry at a port at which it does not listen.
const CARELESS: &str = r#"#!/usr/bin/env python3
import json, os, urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]

def call(method, path, headers, body=None):
    data = None if body is None else json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(API + path, data, headers, method=method))

name = {"Lambda-Extension-Name": os.path.basename(__file__)}
registered = call("POST", "/2020-01-01/extension/register", name, {"events": ["INVOKE"]})
me = {"Lambda-Extension-Identifier": registered.headers["Lambda-Extension-Identifier"]}
call("PUT", "/2022-07-01/telemetry", me, {
    "types": ["function"], "buffering": {"timeoutMs": 25},
    "destination": {"protocol": "HTTP", "URI": "http://sandbox.localdomain:" + os.environ["PORT"]},
})
while True:
    call("GET", "/2020-01-01/extension/event/next", me).read()
"#;

/// Prints a secret, and is at work for so many seconds.
const TALKER: &str = r#"
import time

def lambda_handler(event, context):
    print("s3cret", flush=True)
    time.sleep(event)
"#;

#[test]
fn a_function_on_the_machines_network_cannot_use_the_server() {
    for (by_nobody, listen) in
        [(false, "127.0.0.1:0"), (true, "127.0.0.1:0"), (false, "[::1]:0"), (true, "[::1]:0")]
    {
        if TcpListener::bind(listen).is_ok() {
            ask_the_server(Setup { by_nobody, listen: Some(listen), ..in_network("host") });
        }
    }
}

#[track_caller]
fn ask_the_server(setup: Setup) {
    let ground = Ground::new();
    ground.function("victim", VICTIM, "[environment]\nTOKEN = 'of-the-victim'\n");
    ground.function("asks", ASKS, "timeout_s = 30\n");
    let server = Server::start_with(&ground, setup.clone());
    let (host, port) = (server.address.ip().to_string(), server.address.port());
    for (method, path, body, hidden) in [
        ("GET", "/2015-03-31/functions/victim/configuration", "", false),
        ("GET", "/2015-03-31/functions", "", true),
        ("POST", "/2015-03-31/functions/victim/invocations", "{}", false),
    ] {
        let event = json!({ "host": host, "port": port, "method": method, "path": path, "body": body, "hidden": hidden });
        let said = server.invoke("asks", &event).answer();
        assert_eq!(said[0], 403, "{method} {path}, {setup:?}: {said}");
        assert!(!said[1].as_str().unwrap().contains("of-the-victim"), "{said}");
    }
    assert!(server.sandboxes_of("victim").is_empty());
    assert_eq!(server.request("GET /2015-03-31/functions").unwrap().status, 200, "we may, {setup:?}");
    server.stop();
}

/// Where the machine's network is shared, nobody but a sandbox itself gets to its Runtime API.
#[test]
fn a_runtime_api_on_the_machine_is_for_its_sandbox_alone() {
    let code = "import urllib.request\ndef lambda_handler(event, context):\n    \
                try:\n        return urllib.request.urlopen(event, timeout=10).read().decode()\n    \
                except OSError as error:\n        return 'refused'\n";
    for by_nobody in [false, true] {
        let ground = Ground::new();
        ground.function("victim", VICTIM, "timeout_s = 20\nkeep_warm_s = 3600\n");
        ground.function("intruder", code, "timeout_s = 20\n");
        let server = Server::start_with(&ground, Setup { by_nobody, ..in_network("host") });
        let api = server.invoke("victim", &json!({})).answer()["api"].as_str().unwrap().to_owned();
        for path in ["ping", "runtime/invocation/next"] {
            let said = server.invoke("intruder", &json!(format!("http://{api}/2018-06-01/{path}"))).answer();
            assert_eq!(said, json!("refused"), "{path}, by nobody: {by_nobody}");
        }
        let port = api.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
        let ours = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!((&ours).read(&mut [0; 64]).unwrap_or(0), 0, "nor do we");
        assert!(server.running.log().contains("a stranger at its Runtime API was sent away"));
        server.sleep_all();
        server.invoke("victim", &json!({})).answer();
        server.stop();
    }
}

/// Where an extension does not listen, another's listener hears nothing of what the function prints.
#[test]
fn telemetry_on_the_machine_goes_to_its_sandbox_alone() {
    for by_nobody in [false, true] {
        let ground = Ground::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!("timeout_s = 20\n[environment]\nPORT = '{port}'\n");
        ground.function("talker", TALKER, &settings);
        ground.extension("talker", "careless", CARELESS);
        ground.function("eavesdropper", EAVESDROPPER, "timeout_s = 20\nkeep_warm_s = 3600\n");
        let server = Server::start_with(&ground, Setup { by_nobody, ..in_network("host") });
        server.invoke("eavesdropper", &json!({ "port": port })).answer();
        server.invoke("talker", &json!(1)).answer();
        until("it is seen who listens there", || {
            server.running.log().contains("another process listens where its extension should")
        });
        let heard = server.invoke("eavesdropper", &json!(null)).answer();
        let heard = heard.as_array().unwrap();
        assert!(!heard.is_empty(), "somebody came, by nobody: {by_nobody}");
        assert!(heard.iter().all(|said| said == ""), "{heard:?}, by nobody: {by_nobody}");
        server.stop();
    }
}
