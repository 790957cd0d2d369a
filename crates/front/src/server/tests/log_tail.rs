//! What `LogType=Tail` returns, to boto3 and to anybody else.

use testkit::{python, require_python};

use super::*;

/// How often boto3 asks for the end of the log. A line that is missing once in a hundred times is missing.
const TIMES: usize = 200;

/// Prints in all ways and from a child; says how much.
const PRINTER: &str = r#"
import os, subprocess, sys, time
def lambda_handler(event, context):
    for line in range(event.get("lines", 0)):
        print("line", line, "of", event["n"])
    os.write(2, b"without an end %d" % event["n"])
    if "child" in event:
        subprocess.run(["echo", "a child of", str(event["n"])])
    if "exit" in event:
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    return event["n"]
"#;

const CLIENT: &str = r#"
import base64, json, sys
import boto3
client = boto3.client('lambda', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='x',
    aws_secret_access_key='x')
for n in range(int(sys.argv[2])):
    event = {'n': n, 'lines': n % 40}
    answer = client.invoke(FunctionName='f', Payload=json.dumps(event), LogType='Tail')
    log = base64.b64decode(answer['LogResult']).decode()
    printed = ['line %d of %d' % (line, n) for line in range(n % 40)] + ['without an end %d' % n]
    lines = log.splitlines()
    request = answer['ResponseMetadata']['RequestId']
    assert lines[0] == 'START RequestId: %s Version: $LATEST' % request, log
    assert lines[1:-2] == printed, log
    assert lines[-2] == 'END RequestId: ' + request, log
    assert lines[-1].startswith('REPORT RequestId: %s\tDuration: ' % request), log
    assert ('Init Duration' in lines[-1]) == (n == 0), log
assert 'LogResult' not in client.invoke(FunctionName='f', Payload='{"n": 0}')
assert 'LogResult' not in client.invoke(FunctionName='f', Payload='{"n": 0}', LogType='None')
print('all there')
"#;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_never_misses_a_line() {
    if !require_python(&["boto3", "awslambdaric"]) {
        return;
    }
    let bench = bench_with(PRINTER, "timeout_s = 60", |config| config.python = Some(python())).await;
    let mut client = tokio::process::Command::new(python());
    client.args(["-c", CLIENT, &format!("http://{}", bench.server.addr().unwrap()), &TIMES.to_string()]);
    let ran = client.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&ran.stdout), "all there\n", "{}", text(&ran.stderr));
}

impl Bench {
    /// The end of the log of this invocation.
    async fn tail(&self, event: Value) -> String {
        let wanted = [("x-amz-log-type", "Tail")];
        let seen = send(self.server.addr().unwrap(), "f", &wanted, event.to_string().into()).await;
        let decoded = crate::base64::decode(seen.header("x-amz-log-result").unwrap().as_bytes());
        String::from_utf8(decoded.unwrap()).unwrap()
    }
}

#[tokio::test]
async fn a_death_and_a_timeout_leave_their_words() {
    let bench = bench_with(PRINTER, "timeout_s = 1", |_| {}).await;
    let died = bench.tail(json!({ "n": 1, "exit": 3 })).await;
    for words in [
        "without an end 1\nRequestId: ",
        " Error: Runtime exited with error: exit status 3\nRuntime.ExitError\nEND RequestId: ",
        "\tStatus: error\tError Type: Runtime.ExitError\t\n",
    ] {
        assert!(died.contains(words), "{words:?} is not in {died}");
    }
    let late = bench.tail(json!({ "n": 2, "child": true, "sleep": 60 })).await;
    for words in
        ["a child of 2\n", " Task timed out after 1.00 seconds\nEND RequestId: ", "\tStatus: timeout\t\n"]
    {
        assert!(late.contains(words), "{words:?} is not in {late}");
    }
}
