//! A request as an event of payload format 2.0.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, header, request};
use bytes::Bytes;
use protocol::InvocationId;
use serde_json::{Map, Value, json};

use super::{Address, query_pairs};
use crate::access::Signer;
use crate::dispatch::ACCOUNT;

/// What Amazon calls a caller that it does not know.
const ANONYMOUS: &str = "anonymous";

pub(super) fn of_request(
    invocation: &InvocationId,
    address: &Address,
    head: &request::Parts,
    body: &Bytes,
    source: IpAddr,
) -> Bytes {
    let query = head.uri.query().unwrap_or_default();
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": address.path,
        "rawQueryString": query,
        "headers": headers(&head.headers, source),
        "requestContext": context(invocation, address, head, source),
        "isBase64Encoded": false,
    });
    let mut set = |name: &str, value: Value| {
        event
            .as_object_mut()
            .into_iter()
            .for_each(|event| drop(event.insert(name.to_owned(), value.clone())));
    };
    let cookies = cookies(&head.headers);
    if !cookies.is_empty() {
        set("cookies", cookies.into());
    }
    if !query.is_empty() {
        set("queryStringParameters", joined(query_pairs(&head.uri)).into());
    }
    if !body.is_empty() {
        let text = std::str::from_utf8(body).ok().filter(|_| is_text(&head.headers));
        set("isBase64Encoded", text.is_none().into());
        set("body", text.map_or_else(|| crate::base64::encode(body), str::to_owned).into());
    }
    event.to_string().into()
}

fn context(invocation: &InvocationId, address: &Address, head: &request::Parts, source: IpAddr) -> Value {
    let now = SystemTime::now();
    let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let signer = head.extensions.get::<Signer>();
    let mut context = json!({
        "accountId": signer.map_or(ANONYMOUS, |_| ACCOUNT),
        "apiId": address.id,
        "domainName": address.host,
        "domainPrefix": address.id,
        "http": {
            "method": head.method.as_str(),
            "path": address.path,
            "protocol": format!("{:?}", head.version),
            "sourceIp": source.to_string(),
            "userAgent": head.headers.get(header::USER_AGENT).map(text),
        },
        "requestId": invocation.0,
        "routeKey": "$default",
        "stage": "$default",
        "time": log_time(now),
        "timeEpoch": since_1970.as_millis() as u64,
    });
    if let Some(signer) = signer {
        context["authorizer"] = json!({ "iam": identity(signer) });
    }
    context
}

/// Who has signed. A key is all that is known of its holder: it stands for the user.
fn identity(Signer { key_id }: &Signer) -> Value {
    json!({
        "accessKey": key_id,
        "accountId": ACCOUNT,
        "callerId": key_id,
        "cognitoIdentity": null,
        "principalOrgId": null,
        "userArn": format!("arn:aws:iam::{ACCOUNT}:user/{key_id}"),
        "userId": key_id,
    })
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// All but cookies, those of one name in one text, and where the request came from.
fn headers(headers: &HeaderMap, source: IpAddr) -> Map<String, Value> {
    let others = headers.iter().filter(|(name, _)| *name != header::COOKIE);
    let mut all = joined(others.map(|(name, value)| (name.to_string(), text(value))));
    // Not what the client says: functions decide by these who is let in.
    all.insert("x-forwarded-for".to_owned(), source.to_string().into());
    all.insert("x-forwarded-proto".to_owned(), "http".into());
    all
}

fn joined(pairs: impl IntoIterator<Item = (String, String)>) -> Map<String, Value> {
    let mut all = BTreeMap::<String, String>::new();
    for (name, value) in pairs {
        all.entry(name)
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all.into_iter().map(|(name, value)| (name, value.into())).collect()
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines: Vec<String> = headers.get_all(header::COOKIE).iter().map(text).collect();
    let cookies = lines.iter().flat_map(|line| line.split(';')).map(str::trim);
    cookies.filter(|cookie| !cookie.is_empty()).map(str::to_owned).collect()
}

/// Whether the body can be text in JSON. Forms go in base64, as Lambda does.
fn is_text(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).map(text) else { return true };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = ["application/json", "application/javascript", "application/xml"];
    kind.starts_with("text/")
        || known.contains(&kind.as_str())
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
}

/// `12/Mar/2020:19:03:58 +0000`, as web servers log it.
fn log_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = humantime::format_rfc3339_seconds(time).to_string(); // 2020-03-12T19:03:58Z
    let month = text[5..7].parse::<usize>().unwrap_or(1);
    format!("{}/{}/{}:{} +0000", &text[8..10], MONTHS[month - 1], &text[..4], &text[11..19])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(request: axum::http::request::Builder, body: &'static [u8]) -> Value {
        let (head, ()) = request.body(()).unwrap().into_parts();
        let address = Address::of(&head).unwrap();
        let invocation = InvocationId("7".to_owned());
        let source = "10.0.0.1".parse().unwrap();
        serde_json::from_slice(&of_request(&invocation, &address, &head, &Bytes::from_static(body), source))
            .unwrap()
    }

    #[test]
    fn a_request_becomes_an_event() {
        let request = axum::http::Request::post("/url/f/a%20b?x=1&y=a%26b&x=2")
            .header("Host", "127.0.0.1:9000")
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("X-Two", "one")
            .header("X-Forwarded-For", "192.0.2.1")
            .header("X-Forwarded-Proto", "https")
            .header("X-Two", "two")
            .header("Cookie", "a=1; b=2")
            .header("User-Agent", "test");
        let mut event = event(request, "hällo".as_bytes());
        let context = event.as_object_mut().unwrap().remove("requestContext").unwrap();
        assert_eq!(
            event,
            json!({
                "version": "2.0", "routeKey": "$default", "rawPath": "/a%20b",
                "rawQueryString": "x=1&y=a%26b&x=2",
                "queryStringParameters": {"x": "1,2", "y": "a&b"},
                "cookies": ["a=1", "b=2"],
                "headers": {
                    "host": "127.0.0.1:9000", "content-type": "text/plain; charset=utf-8",
                    "x-two": "one,two", "user-agent": "test", "x-forwarded-for": "10.0.0.1",
                    "x-forwarded-proto": "http",
                },
                "body": "hällo", "isBase64Encoded": false,
            })
        );
        let http = json!({
            "method": "POST", "path": "/a%20b", "protocol": "HTTP/1.1", "sourceIp": "10.0.0.1",
            "userAgent": "test",
        });
        assert_eq!((&context["http"], &context["requestId"]), (&http, &json!("7")));
        assert_eq!((&context["accountId"], context.get("authorizer")), (&json!("anonymous"), None));
    }

    #[test]
    fn who_has_signed_is_told_as_an_identity() {
        let signer = Signer { key_id: "AKIA7".to_owned() };
        let request = axum::http::Request::get("/url/f/").header("Host", "h").extension(signer);
        let context = &event(request, b"")["requestContext"];
        let expected = json!({ "iam": {
            "accessKey": "AKIA7", "accountId": "000000000000", "callerId": "AKIA7", "cognitoIdentity": null,
            "principalOrgId": null, "userArn": "arn:aws:iam::000000000000:user/AKIA7", "userId": "AKIA7",
        } });
        assert_eq!((&context["accountId"], &context["authorizer"]), (&json!("000000000000"), &expected));
    }

    #[test]
    fn what_is_no_text_goes_in_base64() {
        let request = || axum::http::Request::post("/url/f/").header("Host", "h");
        let form = event(request().header("content-type", "application/x-www-form-urlencoded"), b"a=1");
        assert_eq!((&form["body"], &form["isBase64Encoded"]), (&json!("YT0x"), &json!(true)));
        let bytes = event(request(), b"\xff\x00");
        assert_eq!((&bytes["body"], &bytes["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
        let empty = event(request(), b"");
        assert_eq!(empty.get("body"), None);
    }

    #[test]
    fn the_time_is_written_as_in_logs() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_584_039_838);
        assert_eq!(log_time(time), "12/Mar/2020:19:03:58 +0000");
    }
}
