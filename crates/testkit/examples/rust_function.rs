//! A function in Rust with Amazon's own runtime client, unmodified: what `bench serve` loads, and tests deploy. It
//! answers with the event that it got, unless that is a text that says what else to do.

use std::time::Duration;

use lambda_runtime::streaming::{Body, channel};
use lambda_runtime::{Error, FunctionResponse, LambdaEvent, StreamResponse, run, service_fn};
use serde_json::{Value, json};

type Answer = FunctionResponse<Value, Body>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    run(service_fn(async |event: LambdaEvent<Value>| answer(event).await)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Answer, Error> {
    // A function URL is asked by its path.
    let asked = event.payload.as_str().or(event.payload["rawPath"].as_str());
    Ok(FunctionResponse::BufferedResponse(match asked {
        Some("fail") => return Err("so it is".into()),
        #[allow(clippy::panic)] // What becomes of it is the question.
        Some("panic") => panic!("that cannot be"),
        Some("stream" | "/stream") => return Ok(stream()),
        Some("wait") => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Value::Null
        }
        // A file of its package, which tells one deploy from the next.
        Some("read") => json!(std::fs::read_to_string("says")?),
        Some("context") => json!({
            "id": event.context.request_id,
            "arn": event.context.invoked_function_arn,
            "name": event.context.env_config.function_name,
            "version": event.context.env_config.version,
            "memory": event.context.env_config.memory,
            "deadline": event.context.deadline,
            "custom": event.context.client_context.map(|context| context.custom),
        }),
        _ => event.payload,
    }))
}

/// Its answer in three pieces.
fn stream() -> Answer {
    let (mut sender, body) = channel();
    tokio::spawn(async move {
        for piece in ["one ", "two ", "three"] {
            if sender.send_data(piece.into()).await.is_err() {
                return; // Nobody listens any more.
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    FunctionResponse::StreamingResponse(StreamResponse::from(body))
}
