//! Lambda's limits, and sandboxes that are ready before anybody calls.

use super::*;
use crate::Function;

impl Bench {
    /// The function `f` as the control API makes functions.
    fn throttling(&self) -> Function {
        let function = crate::load_function(&self.dir.path().join("functions/f")).unwrap();
        Function { throttles: true, ..function }
    }

    async fn until_available(&self, wanted: usize, available: usize) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            let state =
                self.server.deployer().provisioned(&"f".parse().unwrap(), Version::Latest).await.unwrap();
            assert_eq!(state.wanted, wanted);
            if state.available == available {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{state:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[track_caller]
fn check_throttled(seen: &Seen, reason: &str) {
    assert_eq!((seen.status, seen.header("x-amzn-errortype")), (429, Some("TooManyRequestsException")));
    assert_eq!((&seen.body["Reason"], &seen.body["Type"]), (&json!(reason), &json!("User")), "{seen:?}");
}

#[tokio::test]
async fn beyond_its_limit_a_function_is_throttled_at_once_and_says_which_limit_it_was() {
    let bench = bench("timeout_s = 60", |config| config.account_concurrency = 2).await;
    let deployer = bench.server.deployer();
    deployer.put(Version::Latest, bench.throttling()).await;
    let held = [bench.hold("go"), bench.hold("go")];
    bench.until("both are served", |record| record.cold_starts == 2).await;
    check_throttled(&bench.invoke(json!({})).await, "ConcurrentInvocationLimitExceeded");

    let name = "f".parse().unwrap();
    deployer.reserve(&name, Some(2)).await.unwrap();
    check_throttled(&bench.invoke(json!({})).await, "ReservedFunctionConcurrentInvocationLimitExceeded");
    bench.release("go");
    for seen in held {
        assert_eq!(seen.await.unwrap().status, 200);
    }
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    deployer.reserve(&name, Some(0)).await.unwrap();
    check_throttled(&bench.invoke(json!({})).await, "ReservedFunctionConcurrentInvocationLimitExceeded");
    deployer.reserve(&name, None).await.unwrap();
    assert_eq!(bench.invoke(json!({})).await.status, 200);
}

#[tokio::test]
async fn events_wait_while_what_is_reserved_is_in_use() {
    let bench = bench("timeout_s = 60", |_| {}).await;
    let deployer = bench.server.deployer();
    deployer.put(Version::Latest, bench.throttling()).await;
    deployer.reserve(&"f".parse().unwrap(), Some(1)).await.unwrap();
    let held = bench.hold("go");
    bench.until("it is served", |record| record.cold_starts == 1).await;
    let event = [("x-amz-invocation-type", "Event")];
    for _ in 0..3 {
        assert_eq!(send(bench.server.addr().unwrap(), "f", &event, "{}".into()).await.status, 202);
    }
    bench.until("an event was tried", |record| record.throttles > 0).await;
    bench.release("go");
    assert_eq!(held.await.unwrap().status, 200);
    bench.until("all are done", |record| record.invocations >= 4 + record.throttles).await;
    let record = bench.record().await;
    assert_eq!((record.cold_starts, record.sandboxes, record.errors), (1, 1, 0), "never two at once");
}

#[tokio::test]
async fn a_provisioned_sandbox_is_there_before_anybody_calls_and_comes_back_after_death() {
    let bench = bench("keep_warm_s = 0", |_| {}).await;
    let deployer = bench.server.deployer();
    deployer.put(Version::Latest, bench.throttling()).await;
    let name = "f".parse().unwrap();
    deployer.provision(&name, Version::Latest, 1).await.unwrap();
    bench.until_available(1, 1).await;
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    assert_eq!(bench.node.calls(), ["launch 1"], "it neither slept nor had to be started for the call");

    assert_eq!(bench.invoke(json!({"exit": 1})).await.header("x-amz-function-error"), Some("Unhandled"));
    bench.until_available(1, 0).await;
    bench.until_available(1, 1).await;
    deployer.put(Version::Latest, bench.throttling()).await; // The next revision keeps what was provisioned.
    bench.until_available(1, 1).await;
    assert_eq!(bench.invoke(json!({})).await.status, 200);
    let mut calls = bench.node.calls();
    calls.sort(); // The new one starts while the old one goes.
    assert_eq!(calls, ["launch 1", "launch 2", "launch 3", "purge 2"]);

    deployer.provision(&name, Version::Latest, 0).await.unwrap();
    bench.until_state(3, State::Dedup).await;
}
