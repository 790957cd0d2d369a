//! Clients that stop in the middle of what they send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// More than would fit if each held the room that it announces.
const STALLED: usize = 600;

/// A request of which the server has the head, and waits for the body, which is so long.
pub(super) async fn begin(addr: SocketAddr, line: &str, headers: &str, len: usize) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len}\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[tokio::test]
async fn whoever_sends_no_body_keeps_nobody_from_being_served() {
    let bench = bench("url = true", |_| {}).await;
    let addr = bench.server.addr().unwrap();
    let mut stalled = Vec::new();
    for (line, count) in [
        ("POST /2015-03-31/functions/f/invocations", STALLED),
        ("POST /url/f/", STALLED),
        ("POST /2015-03-31/functions", 16),
    ] {
        for _ in 0..count {
            stalled.push(begin(addr, line, "", 6 * 1024 * 1024).await);
        }
    }
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    let local = [("host", "localhost")];
    assert_eq!(bench.page("POST /url/f/", &local, "{}").await.status, 200);
    assert_eq!(bench.page("GET /2015-03-31/functions/", &local, "").await.status, 200);
}

#[tokio::test]
async fn a_request_is_served_by_what_was_deployed_when_it_was_whole() {
    let code = "import os\ndef lambda_handler(event, context):\n    return os.environ.get('DEPLOY')";
    let bench = bench_with(code, "", |_| {}).await;
    let addr = bench.server.addr().unwrap();
    let mut stream = begin(addr, "POST /2015-03-31/functions/f/invocations", "", 2).await;
    bench.server.deployer().put(Version::Latest, bench.deploy(2)).await;
    stream.write_all(b"{}").await.unwrap();
    let mut answer = vec![0; 4096];
    let len = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..len]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\"2\""), "{answer}");
}

/// Requests that are said to be signed, as many as would take all the room there is for such.
#[tokio::test]
async fn a_known_key_id_is_not_enough_to_keep_others_out() {
    let bench = bench("", |_| {}).await;
    let key = crate::keys::Keys::in_dir(&bench.dir.path().join("data")).add("").unwrap();
    let stamp = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let stamp: String = stamp.chars().filter(char::is_ascii_alphanumeric).collect();
    let scope = format!("{}/{}/us-east-1/lambda/aws4_request", key.id, &stamp[..8]);
    let signed =
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={}", "0".repeat(64));
    let addr = bench.server.addr().unwrap();
    let line = "POST /2015-03-31/functions";
    let mut stalled = Vec::new();
    for _ in 0..16 {
        let headers = format!("authorization: {signed}\r\nx-amz-date: {stamp}\r\n");
        stalled.push(begin(addr, line, &headers, 70 * 1024 * 1024).await);
    }
    let headers = [("host", "localhost"), ("authorization", &signed), ("x-amz-date", &stamp)];
    let page = ask(addr, line, &headers, "{}").await;
    assert_eq!((page.status, page.header("x-amzn-errortype")), (403, "InvalidSignatureException"));
}
