//! Amazon's event stream, as far as an answer piece by piece needs it: messages of a few text headers and a
//! payload, with the sum of the head and that of the whole.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

/// Payload of one message; Amazon's decoders refuse more than 16 MiB, and pieces are smaller anyway.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Two lengths and the sum of them.
const PRELUDE_BYTES: usize = 12;

const SUM_BYTES: usize = 4;

/// The kind of a header's value that says: text.
const TEXT: u8 = 7;

/// A piece of the answer.
pub(crate) fn payload_chunk(payload: &[u8]) -> Bytes {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a piece is what one read brought");
    event("PayloadChunk", "application/octet-stream", payload)
}

/// How an answer failed.
pub(crate) struct Failure {
    /// The kind of error.
    pub(crate) code: String,
    /// The error as the runtime told it.
    pub(crate) details: String,
}

/// The end of the answer. `log_tail`: the end of the log in base64, if it was wanted.
pub(crate) fn invoke_complete(failure: Option<Failure>, log_tail: Option<String>) -> Bytes {
    let mut fields = Map::new();
    if let Some(Failure { code, details }) = failure {
        fields.insert("ErrorCode".to_owned(), code.into());
        fields.insert("ErrorDetails".to_owned(), details.into());
    }
    if let Some(log_tail) = log_tail {
        fields.insert("LogResult".to_owned(), log_tail.into());
    }
    event("InvokeComplete", "application/json", Value::Object(fields).to_string().as_bytes())
}

fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let mut headers = BytesMut::new();
    for (name, value) in [(":message-type", "event"), (":event-type", kind), (":content-type", content_type)]
    {
        headers.put_u8(name.len() as u8);
        headers.put_slice(name.as_bytes());
        headers.put_u8(TEXT);
        headers.put_u16(value.len() as u16);
        headers.put_slice(value.as_bytes());
    }
    let len = PRELUDE_BYTES + headers.len() + payload.len() + SUM_BYTES;
    let mut message = BytesMut::with_capacity(len);
    message.put_u32(len as u32);
    message.put_u32(headers.len() as u32);
    message.put_u32(crc32fast::hash(&message));
    message.put_slice(&headers);
    message.put_slice(payload);
    message.put_u32(crc32fast::hash(&message));
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_end_is_the_message_that_amazons_encoder_makes() {
        let message = invoke_complete(None, None);
        let text = b"\x0d:message-type\x07\x00\x05event\x0b:event-type\x07\x00\x0eInvokeComplete\
                     \x0d:content-type\x07\x00\x10application/json{}";
        assert_eq!(message[..8], [0, 0, 0, 102, 0, 0, 0, 84]);
        assert_eq!(message[12..98], text[..]);
        assert_eq!(crc32fast::hash(&message[..8]).to_be_bytes(), message[8..12]);
        assert_eq!(crc32fast::hash(&message[..98]).to_be_bytes(), message[98..]);
    }

    #[test]
    fn a_failure_and_the_log_are_fields_of_the_end() {
        let failure = Failure { code: "E".to_owned(), details: "{\"a\":1}".to_owned() };
        let message = invoke_complete(Some(failure), Some("bG9n".to_owned()));
        let text = String::from_utf8_lossy(&message);
        let fields = r#"{"ErrorCode":"E","ErrorDetails":"{\"a\":1}","LogResult":"bG9n"}"#;
        assert!(text.contains(fields), "{text}");
    }
}
