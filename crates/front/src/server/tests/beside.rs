//! What runs beside a handler: snapshot hooks, and extensions.

use super::*;

const HOOKS: &str = r#"
import os
from snapshot_restore_py import register_after_restore, register_before_snapshot
ran = []
register_before_snapshot(lambda: ran.append("before"))
register_after_restore(lambda: ran.append("after"))
def lambda_handler(event, context):
    return ran + [os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
"#;

#[tokio::test]
async fn snapshot_hooks_run_around_the_first_sleep_which_is_before_anybody_asks() {
    if !testkit::require_python(&["awslambdaric", "runtime_client", "snapshot_restore_py"]) {
        return;
    }
    let python = |config: &mut ServerConfig| config.python = Some(testkit::python());
    let bench = bench_with(HOOKS, "snap_start = true\nkeep_warm_s = 3600", python).await;
    bench.until_state(1, State::Dedup).await;
    for _ in 0..2 {
        assert_eq!(bench.invoke(json!({})).await.body, json!(["before", "after", "snap-start"]));
    }
    assert_eq!(bench.node.calls(), ["launch 1", "sleep 1", "wake 1"]);
}

#[tokio::test]
async fn a_hook_that_fails_after_the_snapshot_fails_its_invocation_and_costs_the_sandbox() {
    if !testkit::require_python(&["awslambdaric", "runtime_client", "snapshot_restore_py"]) {
        return;
    }
    let code = HOOKS.replace(r#"lambda: ran.append("after")"#, "lambda: 1 / 0");
    let python = |config: &mut ServerConfig| config.python = Some(testkit::python());
    let bench = bench_with(&code, "snap_start = true", python).await;
    bench.until_state(1, State::Dedup).await;
    let seen = bench.invoke(json!({})).await;
    assert_eq!(seen.header("x-amz-function-error"), Some("Unhandled"), "{seen:?}");
    assert!(seen.body["errorMessage"].as_str().unwrap().contains("division by zero"), "{seen:?}");
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
}

/// Writes every event that it hears of into the file `HEARD`.
const EXTENSION: &str = r#"#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension
id=$(curl -sD - -o /dev/null -H "Lambda-Extension-Name: ${0##*/}" -d '{"events": ["INVOKE", "SHUTDOWN"]}' \
    "$api/register" | tr -d '\r' | sed -n 's/^lambda-extension-identifier: //p')
while event=$(curl -sf -H "Lambda-Extension-Identifier: $id" "$api/event/next"); do
    printf '%s\n' "$event" >> "$HEARD"
    case $event in *SHUTDOWN*) exit 0 ;; esac
done
"#;

#[tokio::test]
async fn an_extension_of_the_package_hears_of_invocations_and_of_the_end() {
    let heard = tempfile::NamedTempFile::new().unwrap();
    let toml = format!(
        "timeout_s = 20\nconcurrency = 1\nkeep_warm_s = 3600\n[environment]\nHEARD = {:?}",
        heard.path()
    );
    let bench = bench_with(HANDLER, &toml, |config| {
        let root = config.data_dir.with_file_name("functions").join("f");
        let extension = root.join("extensions/listener");
        std::fs::create_dir(root.join("extensions")).unwrap();
        std::fs::write(&extension, EXTENSION).unwrap();
        std::fs::set_permissions(extension, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    })
    .await;
    for number in 0..3 {
        assert_eq!(bench.invoke(json!({ "number": number })).await.status, 200);
    }
    bench.until_state(1, State::Warm).await;
    bench.client.purge(SandboxId(1)).await.unwrap();
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
    let heard = std::fs::read_to_string(heard.path()).unwrap();
    let kinds: Vec<Value> =
        heard.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["eventType"].clone()).collect();
    assert_eq!(kinds, ["INVOKE", "INVOKE", "INVOKE", "SHUTDOWN"]);
    assert_eq!(bench.record().await.cold_starts, 1);
}
