//! Functions that fail, sandboxes that die, and a node that cannot do what it is asked.

use super::*;

#[tokio::test]
async fn a_failed_wake_costs_a_cold_start_and_no_invocation() {
    let bench = bench("keep_warm_s = 0", |_| {}).await;
    bench.invoke(json!({})).await;
    bench.until_state(1, State::Dedup).await;
    bench.node.faults().wake.store(true, SeqCst);
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    assert_eq!(bench.record().await.cold_starts, 2);
}

#[tokio::test]
async fn a_sandbox_that_cannot_sleep_keeps_serving() {
    let bench = bench("keep_warm_s = 0", |_| {}).await;
    bench.node.faults().sleep.store(true, SeqCst);
    let first = bench.invoke(json!({})).await;
    let second = bench.invoke(json!({})).await;
    assert_eq!(first.body["pid"], second.body["pid"]);
}

#[tokio::test]
async fn an_invocation_for_a_sandbox_that_died_unnoticed_gets_another() {
    let bench = bench("", |_| {}).await;
    bench.invoke(json!({})).await;
    bench.node.faults().begin_once.store(true, SeqCst);
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    assert_eq!(bench.record().await.errors, 0);
}

#[tokio::test]
async fn an_error_of_the_function_is_passed_on_and_costs_no_sandbox() {
    let bench = bench("", |_| {}).await;
    let seen = bench.invoke(json!({"fail": "no luck"})).await;
    check_error(&seen, "ValueError", "no luck");
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    let record = bench.record().await;
    assert_eq!((record.errors, record.cold_starts), (1, 1));
}

#[tokio::test]
async fn a_crash_is_told_as_lambda_does_and_the_next_invocation_is_served() {
    let bench = bench("", |_| {}).await;
    let seen = bench.invoke(json!({"exit": 3})).await;
    check_error(&seen, "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: exit status 3");
    let seen = bench.invoke(json!({"signal": 9})).await;
    check_error(&seen, "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: signal: killed");
    assert_eq!(bench.invoke(json!({})).await.status, 200);
}

#[tokio::test]
async fn a_timeout_kills_the_sandbox_and_is_told_as_lambda_does() {
    let bench = bench("timeout_s = 0.25", |_| {}).await;
    let seen = bench.invoke(json!({"wait_for": "/never"})).await;
    check_error(&seen, "Sandbox.Timedout", "RequestId: ID Error: Task timed out after 0.25 seconds");
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
    let record = bench.record().await;
    assert_eq!((record.timeouts, record.errors), (1, 0));
}

#[tokio::test]
async fn an_init_error_is_told_to_the_invocation_and_starts_no_loop() {
    let bench = bench_with("import nowhere_to_be_found", "", |_| {}).await;
    let seen = bench.invoke(json!({})).await;
    assert_eq!(seen.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(seen.body["errorType"], "Runtime.ImportModuleError");
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
    let launches = bench.node.calls().iter().filter(|call| call.starts_with("launch")).count();
    assert_eq!(launches, 1);
}

#[tokio::test]
async fn a_crash_in_init_is_told_to_the_invocation() {
    let bench = bench_with("import os; os._exit(4)", "", |_| {}).await;
    let seen = bench.invoke(json!({})).await;
    check_error(&seen, "Runtime.ExitError", "RequestId: ID Error: Runtime exited with error: exit status 4");
}

#[tokio::test]
async fn an_init_that_takes_too_long_is_a_timeout() {
    let code = "import time\ntime.sleep(1000)";
    let short = |config: &mut ServerConfig| config.init_timeout = Duration::from_millis(250);
    let bench = bench_with(code, "timeout_s = 1", short).await;
    let seen = bench.invoke(json!({})).await;
    check_error(&seen, "Sandbox.Timedout", "RequestId: ID Error: Task timed out after 1.00 seconds");
    bench.until("no sandbox", |record| record.sandboxes == 0).await;
}

#[tokio::test]
async fn an_init_may_take_the_time_of_an_invocation() {
    let code = "import time\ntime.sleep(0.5)\ndef lambda_handler(event, context): return 7";
    let short = |config: &mut ServerConfig| config.init_timeout = Duration::from_millis(50);
    let bench = bench_with(code, "timeout_s = 60", short).await;
    assert_eq!(bench.invoke(json!({})).await.body, 7);
}

#[tokio::test]
async fn a_launch_that_fails_is_our_error() {
    let bench = bench("", |_| {}).await;
    bench.node.faults().launch.store(true, SeqCst);
    let seen = bench.invoke(json!({})).await;
    assert_eq!((seen.status, seen.header("x-amzn-errortype")), (500, Some("ServiceException")));
    assert_eq!(seen.body["Type"], "Service");
}
