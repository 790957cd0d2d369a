//! Lambda's API of a running server, over the operator's socket: no credentials, for whoever may open it is its owner.

use std::path::Path;

use front::{Client, ClientError, LambdaAnswer};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::data_dir;
use crate::failure::Failure;

/// A client of one server.
pub(crate) struct Lambda {
    client: Client,
    runtime: Runtime,
}

impl Lambda {
    /// The server of this data directory. Nothing is connected yet.
    pub(crate) fn connect(data: &Path) -> Result<Lambda, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::io("start", &error))?;
        Ok(Lambda { client: Client::new(data_dir::socket(data)), runtime })
    }

    /// What is there, or `None`.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Value>, Failure> {
        match self.call("GET", path, &[], Vec::new()) {
            Ok(answer) => read(&answer).map(Some),
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(Failure::of(&error)),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json("GET", path, Vec::new())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json("POST", path, body.to_string().into_bytes())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.json("PUT", path, body.to_string().into_bytes())
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call("DELETE", path, &[], Vec::new()).map(|_| ()).map_err(|error| Failure::of(&error))
    }

    /// Calls a function.
    pub(crate) fn invoke(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        payload: Vec<u8>,
    ) -> Result<LambdaAnswer, Failure> {
        self.call("POST", path, headers, payload).map_err(|error| Failure::of(&error))
    }

    fn json(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Value, Failure> {
        let answer = self.call(method, path, &[], body).map_err(|error| Failure::of(&error))?;
        read(&answer)
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<LambdaAnswer, ClientError> {
        self.runtime.block_on(self.client.lambda(method, path, headers, body))
    }
}

fn read(answer: &LambdaAnswer) -> Result<Value, Failure> {
    serde_json::from_slice(&answer.body).map_err(|error| Failure::of(&error))
}

/// A function as the command line names it, `NAME` or `NAME:QUALIFIER`, as a path.
pub(crate) fn path(function: &str, rest: &str) -> String {
    let encoded: String = function
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b':' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("/2015-03-31/functions/{encoded}{rest}")
}
