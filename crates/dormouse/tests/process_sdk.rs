//! Amazon's own client, boto3, finds in the server what it finds in Lambda.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // The lint lets tests, but not what tests call.

mod common;

use common::{Ground, Server, Setup};
use protocol::State;
use serde_json::{Value, json};
use testkit::require_python;

/// One call, told as JSON: `argv` is the address and the arguments of `invoke`.
const CLIENT: &str = "\
import base64, json, sys
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
client = boto3.client('lambda', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x',
    aws_secret_access_key='x', config=Config(retries={'total_max_attempts': 1}, read_timeout=50))
said = []
for arguments in json.loads(sys.argv[2]):
    try:
        if arguments == 'list':
            said.append([f['FunctionName'] for f in client.list_functions()['Functions']])
            continue
        answer = client.invoke(**arguments)
        said.append({'status': answer['StatusCode'], 'error': answer.get('FunctionError'),
            'version': answer.get('ExecutedVersion'), 'payload': answer['Payload'].read().decode()})
    except ClientError as error:
        said.append({'status': error.response['ResponseMetadata']['HTTPStatusCode'],
            'code': error.response['Error']['Code'], 'message': error.response['Error']['Message'],
            'kind': type(error).__name__})
print(json.dumps(said))
";

const CODE: &str = "\
import os, time
def lambda_handler(event, context):
    if event.get('raise'): raise ValueError('so it is')
    while 'wait_for' in event and not os.path.exists(event['wait_for']): time.sleep(0.005)
    client = context.client_context
    return {'event': event, 'custom': client.custom if client else None}
";

const SETTINGS: &str = "concurrency = 1\ntimeout_s = 100\nkeep_warm_s = 3600\n";

fn server(ground: &Ground) -> Server<'_> {
    ground.function("f", CODE, SETTINGS);
    Server::start_with(ground, Setup { args: vec!["--queue", "0"], ..Setup::default() })
}

/// What boto3 says to these calls.
#[track_caller]
fn said(server: &Server<'_>, calls: Value) -> Vec<Value> {
    let mut command = std::process::Command::new(testkit::python());
    command.args(["-c", CLIENT, &format!("http://{}", server.address), &calls.to_string()]);
    command.current_dir(server.ground.path()).env("HOME", server.ground.path());
    let ran = common::run(&mut command);
    serde_json::from_value(ran.json()).unwrap()
}

/// What boto3 says to one call.
#[track_caller]
fn check(call: Value, expected: Value) {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    let server = server(&ground);
    let mut found = said(&server, json!([call])).remove(0);
    if found.get("message").is_some_and(|_| expected.get("message").is_none()) {
        found.as_object_mut().unwrap().remove("message");
    }
    if let Some(payload) = found.get("payload").and_then(Value::as_str) {
        found["payload"] = serde_json::from_str(payload).unwrap_or(Value::Null);
    }
    if found["payload"].get("stackTrace").is_some() {
        let kept = ["errorType", "errorMessage"].map(|key| (key.to_owned(), found["payload"][key].clone()));
        found["payload"] = Value::Object(kept.into_iter().collect());
    }
    assert_eq!(found, expected);
    server.stop();
}

#[test]
fn a_request_is_answered() {
    let call = json!({ "FunctionName": "f", "Payload": "{\"a\": 1}" });
    let payload = json!({ "event": { "a": 1 }, "custom": null });
    check(call, json!({ "status": 200, "error": null, "version": "$LATEST", "payload": payload }));
}

#[test]
fn a_request_by_arn_and_qualifier_is_answered() {
    let name = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let call = json!({ "FunctionName": name, "Qualifier": "$LATEST", "Payload": "{}" });
    let payload = json!({ "event": {}, "custom": null });
    check(call, json!({ "status": 200, "error": null, "version": "$LATEST", "payload": payload }));
}

#[test]
fn a_request_without_a_payload_is_an_empty_event() {
    let payload = json!({ "event": {}, "custom": null });
    let expected = json!({ "status": 200, "error": null, "version": "$LATEST", "payload": payload });
    check(json!({ "FunctionName": "f" }), expected);
}

#[test]
fn the_clients_context_reaches_the_function() {
    // {"custom": {"k": "v"}}
    let context = "eyJjdXN0b20iOiB7ImsiOiAidiJ9fQ==";
    let call = json!({ "FunctionName": "f", "Payload": "{}", "ClientContext": context });
    let payload = json!({ "event": {}, "custom": { "k": "v" } });
    check(call, json!({ "status": 200, "error": null, "version": "$LATEST", "payload": payload }));
}

#[test]
fn an_error_of_the_function_is_told_in_the_header() {
    let call = json!({ "FunctionName": "f", "Payload": "{\"raise\": true}" });
    let payload = json!({ "errorType": "ValueError", "errorMessage": "so it is" });
    check(call, json!({ "status": 200, "error": "Unhandled", "version": "$LATEST", "payload": payload }));
}

#[test]
fn a_dry_run_runs_nothing() {
    let call = json!({ "FunctionName": "f", "InvocationType": "DryRun" });
    check(call, json!({ "status": 204, "error": null, "version": null, "payload": null }));
}

#[test]
fn a_function_that_is_not_there_is_not_found() {
    let kind = "ResourceNotFoundException";
    let message = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g";
    let call = json!({ "FunctionName": "g", "Payload": "{}" });
    check(call, json!({ "status": 404, "code": kind, "kind": kind, "message": message }));
    let call = json!({ "FunctionName": "f", "Qualifier": "7", "Payload": "{}" });
    check(call, json!({ "status": 404, "code": kind, "kind": kind }));
}

#[test]
fn a_payload_that_is_no_json_is_refused() {
    let kind = "InvalidRequestContentException";
    let call = json!({ "FunctionName": "f", "Payload": "{" });
    check(call, json!({ "status": 400, "code": kind, "kind": kind }));
}

#[test]
fn an_event_is_taken_and_handled_later() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    let server = server(&ground);
    let door = ground.functions().join("f/door");
    let event = json!({ "wait_for": "door" }).to_string();
    let call = json!([{ "FunctionName": "f", "InvocationType": "Event", "Payload": event }]);
    assert_eq!(said(&server, call)[0]["status"], json!(202));
    server.until_states("f", &[State::Busy]);
    std::fs::write(&door, "").unwrap();
    server.until_states("f", &[State::Warm]);
    server.stop();
}

#[test]
fn a_full_queue_is_too_many_requests() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let ground = Ground::new();
    let server = server(&ground);
    let door = ground.functions().join("f/door");
    let event = json!({ "wait_for": "door" }).to_string();
    let first = json!({ "FunctionName": "f", "InvocationType": "Event", "Payload": event });
    assert_eq!(said(&server, json!([first]))[0]["status"], json!(202));
    server.until_states("f", &[State::Busy]);
    let refused = said(&server, json!([{ "FunctionName": "f" }])).remove(0);
    assert_eq!((&refused["status"], &refused["code"]), (&json!(429), &json!("TooManyRequestsException")));
    assert_eq!(refused["kind"], json!("TooManyRequestsException"));
    std::fs::write(&door, "").unwrap();
    server.until_states("f", &[State::Warm]);
    assert_eq!(said(&server, json!([{ "FunctionName": "f" }]))[0]["status"], json!(200));
    server.stop();
}

#[test]
fn functions_are_listed() {
    if !require_python(&["boto3"]) {
        return;
    }
    let ground = Ground::new();
    ground.function("g", CODE, "");
    let server = server(&ground);
    assert_eq!(said(&server, json!(["list"])), [json!(["f", "g"])]);
    server.stop();
}
