//! What can be asked over HTTP, for tools: an OpenAPI document made from the tables that routing is made from. Requests
//! and answers have Amazon's shapes, which their own documents describe.

use serde_json::{Map, Value, json};

use crate::control::OPERATIONS;

/// What invokes functions; routed by hand, as bodies and answers may be streams.
const INVOCATIONS: [(&str, &str, &str); 2] = [
    ("Invoke", "post", "/2015-03-31/functions/{FunctionName}/invocations"),
    (
        "InvokeWithResponseStream",
        "post",
        "/2021-11-15/functions/{FunctionName}/response-streaming-invocations",
    ),
];

/// The operations of the Lambda API that this server has, as OpenAPI 3.0.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    let controls =
        OPERATIONS.iter().map(|one| (one.name, one.method.as_str().to_ascii_lowercase(), one.path));
    let invocations = INVOCATIONS.into_iter().map(|(name, method, path)| (name, method.to_owned(), path));
    for (name, method, path) in controls.chain(invocations) {
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[&method] = operation(name, &method, path);
    }
    json!({
        "openapi": "3.0.3",
        "info": { "title": "dormouse: AWS Lambda's API", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
    })
}

fn operation(name: &str, method: &str, path: &str) -> Value {
    let in_path = path.split(['{', '}']).skip(1).step_by(2);
    let parameters: Vec<_> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut operation = json!({
        "operationId": name,
        "parameters": parameters,
        "externalDocs": { "url": format!("https://docs.aws.amazon.com/lambda/latest/api/API_{name}.html") },
        "responses": { "default": { "description": "as Amazon describes it" } },
    });
    if method == "post" || method == "put" {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": {} } } });
    }
    operation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_the_document() {
        let document = openapi();
        let paths = document["paths"].as_object().unwrap();
        let operations: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, OPERATIONS.len() + INVOCATIONS.len());
        let alias = &paths["/2015-03-31/functions/{FunctionName}/aliases/{Name}"]["put"];
        assert_eq!(
            (&alias["operationId"], &alias["parameters"][1]["name"]),
            (&json!("UpdateAlias"), &json!("Name"))
        );
    }
}
