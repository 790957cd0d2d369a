//! Functions that change while they are called.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::{Alias, Function};

const CALLERS: usize = 64;
const DEPLOYS: u64 = 6;

/// Answers between two deploys: enough that each revision has served, and sandboxes of it are busy.
const ANSWERS_BETWEEN: u64 = 200;

/// Tells which revision it is of.
const TELLS: &str = r#"
import os
def lambda_handler(event, context):
    return {
        "deploy": int(os.environ.get("DEPLOY", "0")),
        "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
        "stream": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
        "arn": context.invoked_function_arn,
    }
"#;

/// Says with a file that it began, and waits for another.
const MARKS: &str = r#"
import os, time
def lambda_handler(event, context):
    for name in ("began", "wait_for"):
        if name == "began" and name in event:
            open(event[name], "w").close()
        while name in event and not os.path.exists(event[name]):
            time.sleep(0.005)
    return {}
"#;

impl Bench {
    /// The function `f` as its folder has it, but for the number of its deploy.
    pub(super) fn deploy(&self, number: u64) -> Function {
        let mut function = crate::load_function(&self.dir.path().join("functions/f")).unwrap();
        function.environment.insert("DEPLOY".to_owned(), number.to_string());
        function
    }

    async fn call(&self, name: &str) -> Seen {
        send(self.server.addr().unwrap(), name, &[], Bytes::new()).await
    }
}

#[tokio::test]
async fn no_invocation_fails_while_64_callers_see_a_function_deployed_again_and_again() {
    let bench = Arc::new(bench_with(TELLS, "concurrency = 4", |_| {}).await);
    let (deployed, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (bench, deployed, answers) = (bench.clone(), deployed.clone(), answers.clone());
            tokio::spawn(async move {
                while deployed.load(SeqCst) < DEPLOYS {
                    let at_least = deployed.load(SeqCst);
                    let seen = bench.call("f").await;
                    assert_eq!(seen.status, 200, "{seen:?}");
                    assert!(seen.body["deploy"].as_u64().unwrap() >= at_least, "an old revision: {seen:?}");
                    answers.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    for number in 1..=DEPLOYS {
        let enough = answers.load(SeqCst) + ANSWERS_BETWEEN;
        let deadline = tokio::time::Instant::now() + 3 * WAIT_MAX;
        while answers.load(SeqCst) < enough {
            assert!(tokio::time::Instant::now() < deadline, "the callers got no answers");
            assert!(callers.iter().all(|caller| !caller.is_finished()), "a caller failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.server.deployer().put(Version::Latest, bench.deploy(number)).await;
        deployed.store(number, SeqCst);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let record = bench.record().await;
    assert_eq!((record.errors, record.throttles, record.timeouts), (0, 0, 0));
    bench.until("only sandboxes of the last revision", |record| record.sandboxes <= 4).await;
}

#[tokio::test]
async fn a_published_version_stays_while_the_latest_changes_and_says_who_it_is() {
    let bench = bench_with(TELLS, "", |_| {}).await;
    let deployer = bench.server.deployer();
    deployer.put(Version::Number(1), bench.deploy(1)).await;
    deployer.put(Version::Latest, bench.deploy(2)).await;
    let name = "f".parse().unwrap();
    deployer.put_alias(&name, "live".to_owned(), Alias { version: Version::Number(1), also: None });

    let latest = bench.call("f").await;
    assert_eq!((&latest.body["deploy"], &latest.body["version"]), (&json!(2), &json!("$LATEST")));
    assert_eq!(latest.header("x-amz-executed-version"), Some("$LATEST"));
    assert_eq!(latest.body["arn"], "arn:aws:lambda:us-east-1:000000000000:function:f");
    for name in ["f:1", "f?Qualifier=live"] {
        let seen = bench.call(name).await;
        assert_eq!((&seen.body["deploy"], &seen.body["version"]), (&json!(1), &json!("1")), "{name}");
        assert_eq!(seen.header("x-amz-executed-version"), Some("1"));
        assert!(seen.body["stream"].as_str().unwrap().starts_with("[1]"), "{seen:?}");
        let asked = name.rsplit([':', '=']).next().unwrap();
        assert!(seen.body["arn"].as_str().unwrap().ends_with(&format!(":function:f:{asked}")), "{seen:?}");
    }
    let record = bench.record().await;
    assert_eq!((record.cold_starts, record.sandboxes), (2, 2), "{record:?}");
}

#[tokio::test]
async fn what_is_removed_is_not_found_and_its_sandboxes_go() {
    let bench = bench_with(HANDLER, "timeout_s = 60\nconcurrency = 1", |_| {}).await;
    let (served, waiting) = (bench.hold("go"), bench.hold("go"));
    bench.until("one served, one queued", |r| r.cold_starts == 1 && r.queued == 1).await;
    bench.server.deployer().remove(&"f".parse().unwrap()).await;
    for seen in [waiting.await.unwrap(), bench.call("f").await] {
        assert_eq!((seen.status, seen.header("x-amzn-errortype")), (404, Some("ResourceNotFoundException")));
    }
    bench.release("go");
    assert_eq!(served.await.unwrap().status, 200, "it was being served already");
    let deadline = tokio::time::Instant::now() + WAIT_MAX;
    while !bench.client.sandboxes().await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "its sandbox stays");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Callers of the alias `live`.
impl Bench {
    fn call_live(
        &self,
        began: &str,
        headers: &'static [(&'static str, &'static str)],
        wait: bool,
    ) -> JoinHandle<Seen> {
        let path = |name: &str| self.dir.path().join(name);
        let mut event = json!({ "began": path(began) });
        if wait {
            event["wait_for"] = json!(path(&format!("{began}-go")));
        }
        let addr = self.server.addr().unwrap();
        tokio::spawn(async move { send(addr, "f:live", headers, event.to_string().into()).await })
    }

    pub(super) async fn until_there(&self, name: &str) {
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        while !self.dir.path().join(name).exists() {
            assert!(tokio::time::Instant::now() < deadline, "never: {name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn publish(&self, number: u64) {
        let (deployer, version) = (self.server.deployer(), Version::Number(number));
        deployer.put(version, self.deploy(number)).await;
        assert!(deployer.put_alias(&"f".parse().unwrap(), "live".to_owned(), Alias { version, also: None }));
    }
}

#[tokio::test]
async fn who_names_an_alias_is_served_though_the_version_that_it_stood_for_is_deleted() {
    const EVENT: &[(&str, &str)] = &[("x-amz-invocation-type", "Event")];
    let bench = bench_with(MARKS, "timeout_s = 60\nconcurrency = 1", |_| {}).await;
    let name = "f".parse().unwrap();
    bench.publish(1).await;
    for number in 1..=3 {
        let served = bench.call_live(&format!("served-{number}"), &[], true);
        bench.until_there(&format!("served-{number}")).await;
        let waiting = bench.call_live(&format!("waiting-{number}"), &[], false);
        let event = bench.call_live(&format!("event-{number}"), EVENT, false);
        bench.until("both wait", |record| record.queued == 2).await;
        bench.publish(number + 1).await;
        bench.server.deployer().remove_version(&name, Version::Number(number)).await;
        let seen = waiting.await.unwrap();
        let next = (number + 1).to_string();
        assert_eq!(
            (seen.status, seen.header("x-amz-executed-version")),
            (200, Some(next.as_str())),
            "{seen:?}"
        );
        assert_eq!(event.await.unwrap().status, 202);
        bench.until_there(&format!("event-{number}")).await;
        bench.release(&format!("served-{number}-go"));
        assert_eq!(served.await.unwrap().status, 200);
    }
    let served = bench.call_live("last", &[], true);
    bench.until_there("last").await;
    let waiting = bench.call_live("never", &[], false);
    bench.until("it waits", |record| record.queued == 1).await;
    bench.server.deployer().remove_alias(&name, "live");
    bench.server.deployer().remove_version(&name, Version::Number(4)).await;
    let seen = waiting.await.unwrap();
    assert_eq!(seen.status, 404);
    assert!(seen.body["Message"].as_str().unwrap().ends_with(":function:f:live"), "{seen:?}");
    bench.release("last-go");
    assert_eq!(served.await.unwrap().status, 200);
    // However often it was passed on, each has ended once; the one without an answer as an error.
    let record = bench.record().await;
    assert_eq!((record.invocations, record.errors), (3 * 3 + 2, 1), "{record:?}");
}
