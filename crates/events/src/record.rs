//! The record of what became of an event, as Lambda sends it to destinations (version 1.0).

use bytes::Bytes;
use protocol::InvocationId;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{Event, GivenUp, Timestamp};

/// What a destination is told of one event.
#[derive(Clone, Debug)]
pub struct DestinationRecord<'a> {
    /// The event.
    pub event: &'a Event,
    /// Its function, with the qualifier.
    pub function_arn: &'a str,
    /// What became of it.
    pub condition: Condition,
    /// Attempts that reached the function.
    pub invoke_count: u32,
    /// What the function said last. None: it was not reached.
    pub response: Option<Response<'a>>,
    /// Now.
    pub now: Timestamp,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The function answered.
    Success,
    /// It was given up.
    GivenUp(GivenUp),
}

/// An answer of a function, or its error.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The HTTP status that a waiting client would have got.
    pub status: u16,
    /// The version that ran.
    pub executed_version: &'a str,
    /// `Unhandled`, for an error.
    pub function_error: Option<&'a str>,
    /// What it returned; shown as text where it is not JSON.
    pub payload: &'a Bytes,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a InvocationId,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

impl DestinationRecord<'_> {
    /// One line of JSON, of at most `limit` bytes: an answer that does not fit is left out.
    pub fn to_json(&self, limit: usize) -> Bytes {
        let with = self.whole(true);
        if with.len() <= limit { with } else { self.whole(false) }
    }

    fn whole(&self, with_answer: bool) -> Bytes {
        let whole = Whole {
            version: "1.0",
            timestamp: rfc3339(self.now),
            request_context: RequestContext {
                request_id: &self.event.invocation,
                function_arn: self.function_arn,
                condition: match self.condition {
                    Condition::Success => "Success",
                    Condition::GivenUp(why) => why.as_str(),
                },
                approximate_invoke_count: self.invoke_count,
            },
            request_payload: one_line(&self.event.payload),
            response_context: self.response.map(|response| ResponseContext {
                status_code: response.status,
                executed_version: response.executed_version,
                function_error: response.function_error,
            }),
            response_payload: self
                .response
                .filter(|_| with_answer)
                .and_then(|response| one_line(response.payload)),
        };
        serde_json::to_vec(&whole).map(Bytes::from).unwrap_or_default() // Text and numbers: it cannot fail.
    }
}

/// JSON as it is, but in one line; anything else as a JSON string.
pub fn one_line(payload: &Bytes) -> Option<Box<RawValue>> {
    let text = String::from_utf8_lossy(payload);
    let is_one_line = !text.contains(['\n', '\r']);
    if is_one_line && let Ok(raw) = RawValue::from_string(text.clone().into_owned()) {
        return Some(raw);
    }
    // A line break stands between JSON's words: inside of its strings it would be `\n`.
    let one_line = text.replace(['\n', '\r'], " ");
    let quoted = || serde_json::to_string(&text).ok().and_then(|text| RawValue::from_string(text).ok());
    RawValue::from_string(one_line).ok().or_else(quoted)
}

/// `2026-11-14T18:16:05.568Z`.
fn rfc3339(now: Timestamp) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now.0.min(YEAR_9999_MS));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Later times have no such text.
const YEAR_9999_MS: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{EventId, RECORD_MAX, Target};

    fn event(payload: &str) -> Event {
        Event {
            id: EventId(1),
            target: Target::Function { name: "f".parse().unwrap(), qualifier: None },
            invocation: InvocationId("e4b4".to_owned()),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            trace_id: String::new(),
            hops: 0,
            accepted: Timestamp(0),
            failures: 3,
        }
    }

    fn record<'a>(event: &'a Event, response: Option<Response<'a>>) -> DestinationRecord<'a> {
        let condition = match response {
            Some(_) => Condition::GivenUp(GivenUp::RetriesExhausted),
            None => Condition::GivenUp(GivenUp::EventAgeExceeded),
        };
        let function_arn = "arn:aws:lambda:r:0:function:f:$LATEST";
        DestinationRecord { event, function_arn, condition, invoke_count: 3, response, now: Timestamp(1500) }
    }

    fn unhandled(payload: &Bytes) -> Response<'_> {
        Response { status: 200, executed_version: "$LATEST", function_error: Some("Unhandled"), payload }
    }

    #[test]
    fn a_record_has_amazons_shape() {
        let (event, answer) = (event(r#"{"id": 1.50}"#), Bytes::from_static(br#"{"errorMessage":"no"}"#));
        let text = record(&event, Some(unhandled(&answer))).to_json(RECORD_MAX);
        let expected = json!({
            "version": "1.0",
            "timestamp": "1970-01-01T00:00:01.500Z",
            "requestContext": {
                "requestId": "e4b4",
                "functionArn": "arn:aws:lambda:r:0:function:f:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": { "id": 1.5 },
            "responseContext": {
                "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled",
            },
            "responsePayload": { "errorMessage": "no" },
        });
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
        assert!(String::from_utf8_lossy(&text).contains("1.50"), "numbers are passed on as they came");
    }

    #[test]
    fn an_event_that_was_never_tried_has_no_response() {
        let text = record(&event("{}"), None).to_json(RECORD_MAX);
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["requestContext"]["condition"], "EventAgeExceeded");
        assert!(value.get("responseContext").is_none() && value.get("responsePayload").is_none());
    }

    #[test]
    fn a_record_is_one_line_and_within_its_limit() {
        let spread = event("{\n \"text\":\r\n \"a\\nb\" }");
        let answer = Bytes::from(vec![b'x'; 1000]);
        let text = record(&spread, Some(unhandled(&answer))).to_json(RECORD_MAX);
        assert!(!text.contains(&b'\n') && !text.contains(&b'\r'));
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["requestPayload"], json!({ "text": "a\nb" }));
        assert_eq!(value["responsePayload"], "x".repeat(1000), "what is no JSON is text");
        let short = record(&spread, Some(unhandled(&answer))).to_json(1000);
        assert!(short.len() <= 1000);
        assert_eq!(
            serde_json::from_slice::<Value>(&short).unwrap()["requestPayload"],
            json!({ "text": "a\nb" })
        );
    }
}
