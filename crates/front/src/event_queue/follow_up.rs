//! What an event leaves behind when it goes: records for destinations, and the event itself as a dead letter.

use std::sync::Arc;

use bytes::Bytes;
use catalogue::LATEST;
use events::{
    Condition, DestinationRecord, Event, EventConfig, NewEvent, RECORD_MAX, Response, Target, Timestamp,
};
use protocol::{FunctionName, InvocationId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::hands::Answer;
use crate::dispatch::arn;

/// Lambda stops a chain of invocations here.
pub(super) const HOPS_MAX: u8 = 16;

/// Lambda passes on so much of an error's text in a dead letter.
const ERROR_BYTES_MAX: usize = 1024;

/// An event at its end.
pub(super) struct End<'a> {
    pub(super) event: &'a Event,
    pub(super) name: &'a FunctionName,
    pub(super) qualifier: Option<&'a str>,
    pub(super) condition: Condition,
    /// What the function said last. None: it was not reached.
    pub(super) answer: Option<&'a Answer>,
    pub(super) region: &'a Arc<str>,
    pub(super) now: Timestamp,
}

impl End<'_> {
    /// What is to be queued in the place of the event.
    pub(super) fn follow_ups(&self, config: &EventConfig) -> Vec<NewEvent> {
        let record = |target: &Target| self.follow_up(target, self.record());
        let letter = |target: &Target| {
            let payload = match target {
                Target::Function { .. } => self.event.payload.clone(),
                Target::File { .. } => self.letter(),
            };
            self.follow_up(target, payload)
        };
        match self.condition {
            Condition::Success => config.on_success.iter().map(record).collect(),
            Condition::GivenUp(_) => {
                let letters = config.dead_letter.iter().map(letter);
                config.on_failure.iter().map(record).chain(letters).collect()
            }
        }
    }

    fn follow_up(&self, target: &Target, payload: Bytes) -> NewEvent {
        NewEvent {
            target: target.clone(),
            invocation: match target {
                Target::Function { .. } => InvocationId(uuid::Uuid::new_v4().to_string()),
                Target::File { .. } => self.event.invocation.clone(), // For the log: who finds it missing.
            },
            payload,
            trace_id: self.event.trace_id.clone(),
            hops: self.event.hops.saturating_add(1),
        }
    }

    fn function_error(&self) -> Option<&'static str> {
        (self.condition != Condition::Success && self.answer.is_some()).then_some("Unhandled")
    }

    fn record(&self) -> Bytes {
        let qualifier = self.qualifier.unwrap_or(LATEST);
        let record = DestinationRecord {
            event: self.event,
            function_arn: &format!("{}:{qualifier}", arn(self.region, self.name)),
            condition: self.condition,
            invoke_count: self.event.failures + u32::from(self.answer.is_some()),
            response: self.answer.map(|answer| Response {
                status: 200,
                executed_version: &answer.version,
                function_error: self.function_error(),
                payload: &answer.payload,
            }),
            now: self.now,
        };
        record.to_json(RECORD_MAX)
    }

    /// The event with the attributes of Lambda's dead letters.
    fn letter(&self) -> Bytes {
        let message = self.answer.map(|answer| error_message(&answer.payload));
        let letter = Letter {
            request_id: &self.event.invocation,
            error_code: if self.answer.is_some() { "200" } else { "429" },
            error_message: message.as_deref().unwrap_or("the function was not reached in time"),
            body: events::one_line(&self.event.payload),
        };
        serde_json::to_vec(&letter).map(Bytes::from).unwrap_or_default() // Text: it cannot fail.
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Letter<'a> {
    #[serde(rename = "RequestID")]
    request_id: &'a InvocationId,
    error_code: &'static str,
    error_message: &'a str,
    body: Option<Box<RawValue>>,
}

/// The message of an error as runtimes report it, cut to what Lambda passes on.
fn error_message(payload: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
    let text = match value["errorMessage"].as_str() {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(payload).into_owned(),
    };
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= ERROR_BYTES_MAX);
    text[..end.last().unwrap_or(0)].to_owned()
}
