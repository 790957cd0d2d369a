//! What a function answers, as an HTTP response.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::base64;
use crate::outcome::Outcome;
use crate::room::Place;
use crate::stream::{PIECES_BYTES_MAX, Stream};

/// The content type of an answer that begins with status and headers.
const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";

/// What stands between these and the body.
const PRELUDE_END: [u8; 8] = [0; 8];

/// Status and headers may have so many bytes: what servers take as headers, and more.
const PRELUDE_BYTES_MAX: usize = 64 * 1024;

/// An answer that says how it is to be read. What is null is as if it were not there: serializers write all fields.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    status_code: Option<u16>,
    headers: Option<Map<String, Value>>,
    cookies: Option<Vec<String>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

/// An answer that came whole.
pub(super) fn of_outcome(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Answer { payload, content_type } if content_type == WITH_PRELUDE => {
            match prelude_len(&payload) {
                Some(len) => with_prelude(&payload[..len], payload.slice(len + PRELUDE_END.len()..).into()),
                None => bad_gateway(),
            }
        }
        Outcome::Answer { payload, .. } => of_payload(payload),
        _ => bad_gateway(),
    }
}

/// JSON with a `statusCode` says everything; all else is the body of a good answer.
fn of_payload(payload: Bytes) -> Response {
    match serde_json::from_slice(&payload) {
        Ok(Value::Object(answer)) if answer.contains_key("statusCode") => {
            serde_json::from_value(Value::Object(answer)).map_or_else(|_| bad_gateway(), of_answer)
        }
        Ok(Value::String(text)) => raw("application/json".to_owned(), text),
        Ok(_) => raw("application/json".to_owned(), payload),
        Err(_) => raw("application/octet-stream".to_owned(), payload),
    }
}

fn of_answer(mut answer: Answer) -> Response {
    let body = answer.body.take().unwrap_or_default();
    let is_base64 = answer.is_base64_encoded.unwrap_or_default();
    let body = if is_base64 { base64::decode(body.as_bytes()) } else { Some(body.into()) };
    let Some(body) = body else { return bad_gateway() };
    respond(answer, body.into()).unwrap_or_else(bad_gateway)
}

/// The payload as it is.
pub(super) fn raw(content_type: String, payload: impl Into<Body>) -> Response {
    let mut response = payload.into().into_response();
    if let Ok(content_type) = HeaderValue::try_from(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response
}

fn with_prelude(prelude: &[u8], body: Body) -> Response {
    let answer = serde_json::from_slice(prelude).ok();
    answer.and_then(|answer| respond(answer, body)).unwrap_or_else(bad_gateway)
}

fn respond(answer: Answer, body: Body) -> Option<Response> {
    let mut response = body.into_response();
    *response.status_mut() = StatusCode::from_u16(answer.status_code.unwrap_or(200)).ok()?;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    set_headers(headers, answer.headers.unwrap_or_default())?;
    for cookie in answer.cookies.unwrap_or_default() {
        headers.append(header::SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
    }
    Some(response)
}

fn set_headers(headers: &mut HeaderMap, said: Map<String, Value>) -> Option<()> {
    for (name, value) in said {
        let name = HeaderName::try_from(name).ok()?;
        let value = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return None,
        };
        // How long the body is and how it is sent is the server's to say.
        if ![header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&name) {
            headers.insert(name, HeaderValue::try_from(value).ok()?);
        }
    }
    Some(())
}

/// The function failed, or its answer cannot be read. What it was is in the log.
fn bad_gateway() -> Response {
    (StatusCode::BAD_GATEWAY, "Internal Server Error").into_response()
}

/// An answer that comes piece by piece. One that fails on the way ends in a broken connection.
pub(super) async fn of_stream(mut stream: Stream, place: Place) -> Response {
    let place = place.instead(PIECES_BYTES_MAX);
    if stream.content_type != WITH_PRELUDE {
        let content_type = std::mem::take(&mut stream.content_type);
        return raw(content_type, rest(Bytes::new(), stream, place));
    }
    let mut begun = BytesMut::new();
    loop {
        if let Some(len) = prelude_len(&begun) {
            let prelude = begun.split_to(len);
            let body = begun.freeze().slice(PRELUDE_END.len()..);
            return with_prelude(&prelude, rest(body, stream, place));
        }
        match stream.chunks.recv().await {
            Some(chunk) if begun.len() <= PRELUDE_BYTES_MAX => begun.extend_from_slice(&chunk),
            _ => return bad_gateway(),
        }
    }
}

fn prelude_len(begun: &[u8]) -> Option<usize> {
    begun.windows(PRELUDE_END.len()).position(|window| window == PRELUDE_END)
}

/// Makes the connection break.
#[derive(Debug, thiserror::Error)]
#[error("the function failed in the middle of its answer")]
struct Broken;

fn rest(first: Bytes, stream: Stream, place: Place) -> Body {
    let state = (Some(first), Some((stream, place)));
    Body::from_stream(stream::unfold(state, |(first, open)| async {
        if let Some(first) = first.filter(|first| !first.is_empty()) {
            return Some((Ok(first), (None, open)));
        }
        let (mut stream, place) = open?;
        match stream.chunks.recv().await {
            Some(chunk) => Some((Ok(chunk), (None, Some((stream, place))))),
            None => match stream.ended().await {
                Outcome::Answer { .. } => None,
                _ => Some((Err(Broken), (None, None))),
            },
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn check(answer: Value, status: u16, content_type: &str, body: &str) -> HeaderMap {
        let payload = Bytes::from(answer.to_string());
        let response = of_outcome(Outcome::Answer { payload, content_type: "application/json".to_owned() });
        assert_eq!(response.status(), status, "{answer}");
        let headers = response.headers().clone();
        assert_eq!(headers[header::CONTENT_TYPE], content_type, "{answer}");
        let bytes = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), body, "{answer}");
        headers
    }

    #[tokio::test]
    async fn an_answer_without_a_status_is_the_body() {
        check(json!("hello"), 200, "application/json", "hello").await;
        check(json!({"a": 1}), 200, "application/json", r#"{"a":1}"#).await;
        check(json!(null), 200, "application/json", "null").await;
    }

    #[tokio::test]
    async fn an_answer_with_a_status_says_everything() {
        let answer = json!({
            "statusCode": 201, "headers": {"Content-Type": "text/html", "X-Number": 7, "Content-Length": "99"},
            "cookies": ["a=1; Secure", "b=2"], "body": "aMOk", "isBase64Encoded": true,
        });
        let headers = check(answer, 201, "text/html", "hä").await;
        assert_eq!(headers["x-number"], "7");
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().count(), 2);
        assert_eq!(headers.get(header::CONTENT_LENGTH), None);
        check(json!({"statusCode": 204}), 204, "application/json", "").await;
        let nothing = json!({
            "statusCode": 200, "headers": null, "cookies": null, "body": null, "isBase64Encoded": null,
        });
        check(nothing, 200, "application/json", "").await;
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_a_bad_gateway() {
        let text = "text/plain; charset=utf-8";
        for answer in [
            json!({"statusCode": "no"}),
            json!({"statusCode": 7}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            json!({"statusCode": 200, "headers": {"a": ["c"]}}),
            json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
        ] {
            check(answer, 502, text, "Internal Server Error").await;
        }
    }
}
