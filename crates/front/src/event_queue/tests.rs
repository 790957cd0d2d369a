//! What becomes of events, hour by hour, with functions that do as they are told. Time stands still until a test moves
//! it, so a test sees every attempt at its time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc;

use events::{AGE_MIN, Bounds, EventConfig, Target};
use prometheus_client::registry::Registry;
use protocol::{FunctionName, InvocationId};
use serde_json::{Value, json};

use super::follow_up::HOPS_MAX;
use super::hands::{Answer, Attempt};
use super::*;
use crate::hands::Work;

/// Long enough for a disk on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How an attempt is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    Busy,
    Gone,
    Nothing,
}

/// Functions that do as they are told, and keep what they got.
#[derive(Default)]
struct Functions {
    says: Mutex<BTreeMap<String, Says>>,
    configs: EventConfigs,
    /// Of each attempt: seconds since the start, which function, what it got.
    seen: Mutex<Vec<(u64, String, Value)>>,
    clock: Mutex<Option<Clock>>,
}

impl EventHands for Functions {
    fn invoke(&self, event: &Event, name: &FunctionName, _: Option<&str>) -> Work<Attempt> {
        let clock = self.clock.lock().unwrap().unwrap();
        let payload = serde_json::from_slice(&event.payload).unwrap();
        self.seen.lock().unwrap().push((clock.started.elapsed().as_secs(), name.to_string(), payload));
        let says = self.says.lock().unwrap().get(name.as_str()).copied().unwrap_or(Says::Yes);
        let answer = |text: &'static str| Answer { payload: text.into(), version: "$LATEST".to_owned() };
        Box::pin(async move {
            match says {
                Says::Yes => Attempt::Answered(answer(r#""well""#)),
                Says::No => Attempt::Failed(answer(r#"{"errorMessage":"no","errorType":"E"}"#)),
                Says::Busy => Attempt::Refused,
                Says::Gone => Attempt::NoFunction,
                Says::Nothing => std::future::pending().await,
            }
        })
    }

    fn config(&self, name: &FunctionName, qualifier: Option<&str>) -> Work<Result<EventConfig, String>> {
        Box::pin(std::future::ready(self.configs.find(name, qualifier)))
    }

    fn may_run(&self, _: &FunctionName) -> usize {
        2
    }
}

struct Bench {
    dir: tempfile::TempDir,
    functions: Arc<Functions>,
    metrics: EventMetrics,
    queue: EventQueue,
    task: EventTask,
    /// As long as it is there, time passes when a test says so only: tokio holds its paused clock while anything
    /// blocks.
    _still: mpsc::Sender<()>,
}

fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

fn function(text: &str) -> Option<Target> {
    Some(Target::Function { name: name(text), qualifier: None })
}

impl Bench {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap(), Functions::default())
    }

    fn within(dir: tempfile::TempDir, functions: Functions) -> Self {
        let (still, held) = mpsc::channel();
        tokio::task::spawn_blocking(move || held.recv().is_ok());
        let (clock, functions, metrics) = (Clock::start(), Arc::new(functions), EventMetrics::default());
        *functions.clock.lock().unwrap() = Some(clock);
        let queue = Queue::open(&dir.path().join("events.redb"), Bounds::default(), clock.now()).unwrap();
        let (queue, task) = EventQueue::start(Setup {
            queue,
            clock,
            hands: Arc::clone(&functions) as Arc<dyn EventHands>,
            destinations: Destinations::new(&[dir.path().to_owned()]),
            metrics: metrics.clone(),
            region: "r".into(),
        });
        Self { dir, functions, metrics, queue, task, _still: still }
    }

    /// Stops, and starts again with what is on the disk.
    async fn restart(mut self, functions: Functions) -> Self {
        self.task.rest(Duration::ZERO).await;
        self.task.close().await;
        Self::within(self.dir, functions)
    }

    fn says(&self, function: &str, says: Says) {
        self.functions.says.lock().unwrap().insert(function.to_owned(), says);
    }

    fn set(&self, function: &str, config: EventConfig) {
        self.functions.configs.set(name(function), None, config);
    }

    async fn accept(&self, to: &str, payload: &Value) {
        let event = NewEvent {
            target: function(to).unwrap(),
            invocation: InvocationId(format!("id of {payload}")),
            payload: payload.to_string().into(),
            trace_id: String::new(),
            hops: 0,
        };
        self.queue.accept(event).await.unwrap();
    }

    /// Waits until this holds, while time stands still.
    async fn until(&self, what: &str, holds: impl Fn(&Bench) -> bool) {
        let deadline = std::time::Instant::now() + WAIT_MAX;
        while !holds(self) {
            let seen = self.functions.seen.lock().unwrap().clone();
            assert!(std::time::Instant::now() < deadline, "never: {what}, but {seen:?}, {:?}", self.facts());
            self.give_way().await;
        }
    }

    /// Waits until attempts at these seconds were made, and have ended.
    async fn until_tried(&self, function: &str, times: &[u64]) {
        let ended = |bench: &Bench| bench.facts().iter().all(|facts| facts.running == 0);
        self.until("tried", |bench| bench.times(function) == times && ended(bench)).await;
    }

    /// Lets other threads work, and what they did be heard of.
    async fn give_way(&self) {
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }

    /// Lets so much time pass, and gives whoever may be woken by it a chance.
    async fn pass(&self, seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        for _ in 0..10 {
            self.give_way().await;
        }
    }

    fn facts(&self) -> Vec<events::LaneFacts> {
        self.queue.queue.facts()
    }

    /// When each attempt at events of this function was made, in seconds.
    fn times(&self, function: &str) -> Vec<u64> {
        let seen = self.functions.seen.lock().unwrap();
        seen.iter().filter(|(_, name, _)| name == function).map(|(at, ..)| *at).collect()
    }

    fn got(&self, function: &str) -> Vec<Value> {
        let seen = self.functions.seen.lock().unwrap();
        seen.iter().filter(|(_, name, _)| name == function).map(|(.., payload)| payload.clone()).collect()
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join(file)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn file(&self, file: &str) -> Option<Target> {
        Some(Target::File { path: self.dir.path().join(file) })
    }

    fn is_empty(&self) -> bool {
        self.facts().is_empty()
    }

    fn metrics(&self) -> String {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        self.queue.measure();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[track_caller]
    fn check_metric(&self, line: &str) {
        let text = self.metrics();
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_succeeds_is_tried_once() {
    let bench = Bench::new();
    bench.accept("f", &json!({"n": 1})).await;
    bench.until("done", Bench::is_empty).await;
    bench.pass(300).await;
    assert_eq!((bench.times("f"), bench.got("f")), (vec![0], vec![json!({"n": 1})]));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_is_tried_again_twice_and_then_told_of() {
    let bench = Bench::new();
    bench.says("f", Says::No);
    let (on_failure, dead_letter) = (bench.file("failed.jsonl"), function("letters"));
    let on_success = function("never");
    bench.set("f", EventConfig { on_failure, dead_letter, on_success, ..EventConfig::default() });
    bench.accept("f", &json!({"n": 1})).await;
    bench.until_tried("f", &[0]).await;
    bench.pass(59).await;
    assert_eq!(bench.times("f"), [0]);
    bench.check_metric("events_waiting{target=\"f\"} 1");
    bench.check_metric("events_oldest_age_seconds{target=\"f\"} 59");
    bench.pass(1).await;
    bench.until_tried("f", &[0, 60]).await;
    bench.pass(119).await;
    assert_eq!(bench.times("f"), [0, 60]);
    bench.pass(1).await;
    bench.until("given up", Bench::is_empty).await;
    assert_eq!(bench.times("f"), [0, 60, 180]);
    assert_eq!((bench.got("letters"), bench.got("never")), (vec![json!({"n": 1})], vec![]));
    let lines = bench.lines("failed.jsonl");
    let [record] = &lines[..] else { panic!("{lines:?}") };
    let context = json!({
        "requestId": "id of {\"n\":1}",
        "functionArn": "arn:aws:lambda:r:000000000000:function:f:$LATEST",
        "condition": "RetriesExhausted",
        "approximateInvokeCount": 3,
    });
    assert_eq!((&record["requestContext"], &record["requestPayload"]), (&context, &json!({"n": 1})));
    assert_eq!(record["responseContext"]["functionError"], "Unhandled");
    assert_eq!(record["responsePayload"]["errorMessage"], "no");
    bench.check_metric("event_retries_total{function=\"f\"} 2");
    bench.check_metric("events_given_up_total{function=\"f\",reason=\"RetriesExhausted\"} 1");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_success_goes_to_a_function() {
    let bench = Bench::new();
    bench.set("f", EventConfig { on_success: function("after"), ..EventConfig::default() });
    bench.accept("f", &json!([1])).await;
    bench.until("done", Bench::is_empty).await;
    let got = bench.got("after");
    let [record] = &got[..] else { panic!("{got:?}") };
    assert_eq!(record["requestContext"]["condition"], "Success");
    assert_eq!((&record["requestPayload"], &record["responsePayload"]), (&json!([1]), &json!("well")));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_in_a_file_says_what_amazons_attributes_do() {
    let bench = Bench::new();
    bench.says("f", Says::No);
    let dead_letter = bench.file("letters.jsonl");
    bench.set("f", EventConfig { retries: 0, dead_letter, ..EventConfig::default() });
    bench.accept("f", &json!({"n": 1})).await;
    bench.until("done", Bench::is_empty).await;
    let expected = json!({
        "RequestID": "id of {\"n\":1}", "ErrorCode": "200", "ErrorMessage": "no", "Body": {"n": 1},
    });
    assert_eq!((bench.lines("letters.jsonl"), bench.times("f")), (vec![expected], vec![0]));
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_busy_is_asked_less_and_less_until_the_event_is_too_old() {
    let bench = Bench::new();
    bench.says("f", Says::Busy);
    let on_failure = bench.file("failed.jsonl");
    bench.set("f", EventConfig { max_age: AGE_MIN, on_failure, ..EventConfig::default() });
    bench.accept("f", &json!(1)).await;
    let expected = [0, 1, 3, 7, 15, 31];
    for (number, time) in expected.into_iter().enumerate() {
        bench.until_tried("f", &expected[..=number]).await;
        let next = expected.get(number + 1).copied().unwrap_or(60);
        bench.pass(next - time).await;
    }
    bench.until("given up", Bench::is_empty).await;
    assert_eq!(bench.times("f"), expected);
    let lines = bench.lines("failed.jsonl");
    assert_eq!(lines[0]["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(lines[0]["requestContext"]["approximateInvokeCount"], 0);
    assert!(lines.len() == 1 && lines[0].get("responsePayload").is_none(), "{lines:?}");
    bench.check_metric("events_given_up_total{function=\"f\",reason=\"EventAgeExceeded\"} 1");
}

#[tokio::test(start_paused = true)]
async fn a_busy_function_holds_no_other_up() {
    let bench = Bench::new();
    bench.says("busy", Says::Busy);
    bench.says("slow", Says::Nothing);
    for n in 0..100 {
        bench.accept("busy", &json!(n)).await;
        bench.accept("slow", &json!(n)).await;
    }
    bench.accept("f", &json!(1)).await;
    bench.until("the others", |bench| bench.times("f").len() == 1 && bench.times("slow").len() == 2).await;
    assert!(bench.times("busy").len() <= 2, "{:?}", bench.times("busy"));
}

#[tokio::test(start_paused = true)]
async fn events_of_a_function_that_is_gone_are_dropped() {
    let bench = Bench::new();
    bench.says("f", Says::Gone);
    bench.accept("f", &json!(1)).await;
    bench.until("dropped", Bench::is_empty).await;
    bench.check_metric("events_given_up_total{function=\"f\",reason=\"NoFunction\"} 1");
}

#[tokio::test(start_paused = true)]
async fn a_function_that_is_its_own_destination_ends_after_sixteen_hops() {
    let bench = Bench::new();
    bench.set("f", EventConfig { on_success: function("f"), ..EventConfig::default() });
    bench.accept("f", &json!(1)).await;
    bench.until("the end", Bench::is_empty).await;
    assert_eq!(bench.times("f").len(), 1 + usize::from(HOPS_MAX));
    bench.check_metric("destination_failures_total{target=\"f\",reason=\"loop\"} 1");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_is_tried_again() {
    let bench = Bench::new();
    let path = bench.dir.path().join("records");
    std::fs::create_dir(&path).unwrap();
    bench.set("f", EventConfig { on_success: bench.file("records"), ..EventConfig::default() });
    bench.accept("f", &json!(1)).await;
    bench.until_tried("f", &[0]).await;
    bench.pass(2).await;
    std::fs::remove_dir(&path).unwrap();
    bench.pass(300).await;
    bench.until("written", Bench::is_empty).await;
    assert_eq!(bench.lines("records").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_goes_on_after_a_restart() {
    let bench = Bench::new();
    bench.says("fails", Says::No);
    bench.says("slow", Says::Nothing);
    bench.accept("fails", &json!(1)).await;
    bench.until_tried("fails", &[0]).await;
    bench.accept("slow", &json!(2)).await;
    bench.until("it runs", |bench| bench.times("slow") == [0]).await;
    let bench = bench.restart(Functions::default()).await;
    bench.until("what was cut off is tried at once", |bench| bench.times("slow") == [0]).await;
    bench.until("it is done", |bench| bench.facts().len() == 1).await;
    assert_eq!(bench.times("fails"), [0; 0]);
    bench.pass(61).await;
    bench.until("what failed is tried in its time", Bench::is_empty).await;
    assert_eq!(bench.times("fails").len(), 1);
}
