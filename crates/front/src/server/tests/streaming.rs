//! Answers piece by piece, from a runtime that sends them by hand to Amazon's own client.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// A runtime that does what its event says: `pieces` of `size` bytes, then how it is to end.
const BOOTSTRAP: &str = r#"#!/usr/bin/env python3
import base64, http.client, json, os, time
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
ROOT = "/2018-06-01/runtime/invocation/"
while True:
    api.request("GET", ROOT + "next")
    said = api.getresponse()
    event, path = json.loads(said.read()), ROOT + said.headers["Lambda-Runtime-Aws-Request-Id"]
    if "whole" in event:
        api.request("POST", path + "/response", json.dumps(event["whole"]))
        api.getresponse().read()
        continue
    if "error" in event:
        api.request("POST", path + "/error", json.dumps({"errorType": "E"}),
            {"Lambda-Runtime-Function-Error-Type": event["error"]})
        api.getresponse().read()
        continue
    api.putrequest("POST", path + "/response")
    api.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
    api.putheader("Transfer-Encoding", "chunked")
    api.putheader("Trailer", "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body")
    api.putheader("Content-Type", "text/plain")
    api.endheaders()
    for _ in range(event["pieces"]):
        api.send(b"%x\r\n%s\r\n" % (event["size"], b"x" * event["size"]))
    end = event.get("end")
    if end == "exit":
        os._exit(3)
    if end == "hang":
        time.sleep(1000)
    api.send(b"0\r\n")
    if end == "fail":
        body = base64.b64encode(b'{"errorMessage":"half way"}').decode()
        api.send(("Lambda-Runtime-Function-Error-Type: Bad.Luck\r\n"
            "Lambda-Runtime-Function-Error-Body: %s\r\n" % body).encode())
    api.send(b"\r\n")
    api.getresponse().read()
"#;

/// Calls with boto3, and says of each what came: bytes, and the last event; or the error.
const CLIENT: &str = r#"
import base64, json, sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
client = boto3.client("lambda", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="x",
    aws_secret_access_key="x", config=Config(retries={"total_max_attempts": 1}, read_timeout=50))
said = []
for function, event, way in json.loads(sys.argv[2]):
    arguments = {"FunctionName": function, "Payload": json.dumps(event)}
    if way == "tail":
        answer = client.invoke_with_response_stream(LogType="Tail", **arguments)
        log = [event for event in answer["EventStream"]][-1]["InvokeComplete"]["LogResult"]
        said.append([line.split()[0] for line in base64.b64decode(log).decode().splitlines()])
        continue
    if way == "whole":
        answer = client.invoke(**arguments)
        payload = answer["Payload"].read()
        said.append([len(payload), answer.get("FunctionError")])
        continue
    try:
        answer = client.invoke_with_response_stream(**arguments)
    except ClientError as error:
        said.append([error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]])
        continue
    size, end = 0, None
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            size += len(event["PayloadChunk"]["Payload"])
            if way == "leave":
                answer["EventStream"].close()
                break
        else:
            end = event["InvokeComplete"]
    said.append([size if way != "leave" else "left", end])
print(json.dumps(said))
"#;

/// A server with the streaming function `f`, and `brief` that may run half a second.
async fn streaming_bench() -> Bench {
    let bench = bench("", |config| {
        let functions = config.data_dir.with_file_name("streaming");
        for (name, toml) in [("f", "timeout_s = 60\nconcurrency = 1"), ("brief", "timeout_s = 0.5")] {
            let root = functions.join(name);
            std::fs::create_dir_all(&root).unwrap();
            std::fs::write(root.join("function.toml"), toml).unwrap();
            std::fs::write(root.join("bootstrap"), BOOTSTRAP).unwrap();
            std::fs::set_permissions(root.join("bootstrap"), PermissionsExt::from_mode(0o755)).unwrap();
        }
        config.catalogue = Catalogue::load(&functions).unwrap();
    });
    bench.await
}

async fn said(bench: &Bench, calls: Value) -> Value {
    let mut command = tokio::process::Command::new(testkit::python());
    command.args(["-c", CLIENT, &format!("http://{}", bench.server.addr().unwrap()), &calls.to_string()]);
    command.kill_on_drop(true).env("HOME", bench.dir.path()).stderr(std::process::Stdio::inherit());
    let output = tokio::time::timeout(4 * WAIT_MAX, command.output()).await.expect("no end").unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn amazons_client_reads_answers_piece_by_piece() {
    if !testkit::require_python(&["boto3"]) {
        return;
    }
    let bench = streaming_bench().await;
    let large = 7 * 1024 * 1024; // More than an answer may have that comes at once.
    let calls = [
        (json!(["f", {"pieces": 3, "size": 5}, "stream"]), json!([15, {}])),
        (json!(["f", {"pieces": 0, "size": 0}, "stream"]), json!([0, {}])),
        (json!(["f", {"pieces": 7, "size": 1024 * 1024}, "stream"]), json!([large, {}])),
        (json!(["f", {"pieces": 40, "size": 1024 * 1024}, "leave"]), json!(["left", null])),
        (json!(["f", {"whole": "abc"}, "stream"]), json!([5, {}])),
        (
            json!(["f", {"error": "My.Kind"}, "stream"]),
            json!([0, {"ErrorCode": "My.Kind", "ErrorDetails": r#"{"errorType": "E"}"#}]),
        ),
        (
            json!(["f", {"pieces": 1, "size": 9, "end": "fail"}, "stream"]),
            json!([9, {"ErrorCode": "Bad.Luck", "ErrorDetails": r#"{"errorMessage":"half way"}"#}]),
        ),
        (json!(["f", {"pieces": 3, "size": 5}, "whole"]), json!([15, null])),
        (json!(["f", {"pieces": 7, "size": 1024 * 1024}, "whole"]), json!([155, "Unhandled"])),
        (json!(["f", {"pieces": 1, "size": 9, "end": "fail"}, "whole"]), json!([27, "Unhandled"])),
        (json!(["f", {"error": "Handled"}, "whole"]), json!([18, "Handled"])),
        (json!(["f", {"pieces": 1, "size": 5}, "tail"]), json!(["START", "END", "REPORT"])),
        (json!(["nobody", {}, "stream"]), json!([404, "ResourceNotFoundException"])),
    ];
    let (calls, expected): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    assert_eq!(said(&bench, calls.into()).await, Value::from(expected));
    let record = &bench.client.stats().await.unwrap().functions[1];
    let counts = (record.cold_starts, record.invocations, record.errors);
    assert_eq!(counts, (1, 12, 4), "none of this cost the sandbox: {record:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_says_by_what() {
    if !testkit::require_python(&["boto3"]) {
        return;
    }
    let bench = streaming_bench().await;
    let calls = json!([
        ["f", {"pieces": 1, "size": 4, "end": "exit"}, "stream"],
        ["brief", {"pieces": 1, "size": 4, "end": "hang"}, "stream"],
        ["f", {"whole": 1}, "stream"],
    ]);
    let said = said(&bench, calls).await;
    let details = |at: usize| said[at][1]["ErrorDetails"].as_str().unwrap().to_owned();
    assert_eq!((&said[0][0], &said[0][1]["ErrorCode"]), (&json!(4), &json!("Runtime.ExitError")));
    assert!(details(0).contains("exit status 3"), "{said}");
    assert_eq!((&said[1][0], &said[1][1]["ErrorCode"]), (&json!(4), &json!("Sandbox.Timedout")));
    assert!(details(1).contains("Task timed out after 0.50 seconds"), "{said}");
    assert_eq!(said[2], json!([1, {}]), "another sandbox serves");
}
