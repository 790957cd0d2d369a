//! What the demo does with one function: start several sandboxes, call them warm, put them to sleep, wake them by
//! calls, and compare every answer and every byte.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use protocol::{SandboxId, SandboxRecord, State};
use report::demo::{Checked, DemoRow};
use report::stats::Summary;

use super::functions::Function;
use super::server::{Called, Server};
use crate::client;
use crate::failure::Failure;
use crate::stop::Stop;

/// Steps that the progress bar shows for each function.
pub(crate) const STEPS: u64 = 5;
/// Enough for a median.
const CALLS: usize = 11;
/// A sandbox that has answered is idle within microseconds; a busy machine may take longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// One function's part of the demo.
pub(crate) struct Journey<'a> {
    /// Where it is served.
    pub(crate) server: &'a Server,
    /// Which.
    pub(crate) function: &'static Function,
    /// How many sandboxes it is to have.
    pub(crate) sandboxes: u64,
    /// Ctrl-C.
    pub(crate) stop: &'a Stop,
    /// For whoever waits.
    pub(crate) progress: &'a ProgressBar,
}

impl Journey<'_> {
    /// All of it.
    pub(crate) fn run(&self) -> Result<DemoRow, Failure> {
        let mut row = DemoRow { function: self.function.name.to_owned(), ..DemoRow::default() };
        self.step("starts")?;
        let cold = self.call_at_once()?;
        let expected = cold.first().and_then(|called| called.answer.clone());
        row.cold_us = self.judge(&cold, expected.as_deref(), &mut row.answers);

        self.step("answers warm")?;
        let warm = self.call_in_turn(|| Ok(()))?;
        row.warm_us = self.judge(&warm, expected.as_deref(), &mut row.answers);

        self.step("falls asleep")?;
        self.sleep_all()?;
        let asleep = self.own_sandboxes()?;
        row.sandboxes = asleep.len() as u64;
        row.warm_bytes = asleep.iter().map(|sandbox| sandbox.account.warm_bytes).sum();
        row.asleep_bytes = asleep.iter().map(|sandbox| sandbox.account.kept_bytes()).sum();

        self.step("wakes for each call")?;
        let woken = self.call_in_turn(|| self.sleep_all())?;
        row.wake_us = self.judge(&woken, expected.as_deref(), &mut row.answers);

        self.step("is compared byte by byte")?;
        for sandbox in self.own_sandboxes()? {
            self.go_on()?;
            client::wake(self.server.data(), sandbox.id)?;
            row.memories.count(client::check(self.server.data(), sandbox.id)?.is_same());
        }
        Ok(row)
    }

    /// As many calls at the same time as there are to be sandboxes: each gets one of its own.
    fn call_at_once(&self) -> Result<Vec<Called>, Failure> {
        std::thread::scope(|scope| {
            let calls: Vec<_> =
                (0..self.sandboxes).map(|_| scope.spawn(|| self.server.invoke(self.function))).collect();
            let died = || Err(Failure::new("a thread of the demo died"));
            calls.into_iter().map(|call| call.join().unwrap_or_else(|_| died())).collect()
        })
    }

    /// One call after the other, with `between` after each.
    fn call_in_turn(&self, between: impl Fn() -> Result<(), Failure>) -> Result<Vec<Called>, Failure> {
        let call = |_| {
            self.go_on()?;
            let called = self.server.invoke(self.function)?;
            between()?;
            Ok(called)
        };
        (0..CALLS).map(call).collect()
    }

    /// Compares answers, and gives the median time.
    fn judge(&self, calls: &[Called], expected: Option<&[u8]>, answers: &mut Checked) -> Option<u64> {
        for called in calls {
            answers.count(called.answer.is_some() && called.answer.as_deref() == expected);
        }
        let times: Vec<u64> = calls.iter().map(|called| called.took_us).collect();
        Summary::of(&times).map(|summary| summary.p50)
    }

    /// Until all sleep. One that has just answered is asked again until it is idle.
    fn sleep_all(&self) -> Result<(), Failure> {
        let started = Instant::now();
        for sandbox in self.own_sandboxes()? {
            while self.state(sandbox.id)? != Some(State::Dedup) {
                self.go_on()?;
                match client::sleep(self.server.data(), sandbox.id) {
                    Ok(_) => break,
                    Err(failure) if started.elapsed() > IDLE_TIMEOUT => return Err(failure),
                    Err(_) => std::thread::sleep(LOOK_INTERVAL),
                }
            }
        }
        Ok(())
    }

    fn state(&self, id: SandboxId) -> Result<Option<State>, Failure> {
        Ok(self.own_sandboxes()?.iter().find(|sandbox| sandbox.id == id).map(|sandbox| sandbox.state))
    }

    fn own_sandboxes(&self) -> Result<Vec<SandboxRecord>, Failure> {
        let mut sandboxes = client::sandboxes(self.server.data())?;
        sandboxes.retain(|sandbox| sandbox.name == self.function.name);
        Ok(sandboxes)
    }

    fn step(&self, what: &str) -> Result<(), Failure> {
        self.progress.set_message(format!("{} {what}", self.function.name));
        self.progress.inc(1);
        self.go_on()
    }

    fn go_on(&self) -> Result<(), Failure> {
        if self.stop.is_asked() { Err(Failure::new("interrupted; nothing is left behind")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir;
    use std::io::{BufRead as _, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::sync::{Arc, Mutex};

    static FUNCTION: Function =
        Function { name: "hello", source: "", settings: "", event: "{}", module: None };
    const SANDBOXES: usize = 3;

    /// What a double of a server remembers: which sandboxes sleep, and how many calls came.
    #[derive(Default)]
    struct Double {
        sleeps: [bool; SANDBOXES],
        calls: usize,
        /// This call, counted from one, is answered wrongly.
        wrong_call: usize,
    }

    impl Double {
        fn answer(&mut self, path: &str) -> String {
            let id = || path.split('/').nth(3).and_then(|id| id.parse::<usize>().ok()).unwrap() - 1;
            if path.ends_with("/invocations") {
                self.calls += 1;
                // A call wakes the first one, as it would where that was used last.
                self.sleeps[0] = false;
                let is_wrong = self.calls == self.wrong_call;
                return if is_wrong { "\"wrong\"".to_owned() } else { "\"right\"".to_owned() };
            }
            if path.ends_with("/sleep") || path.ends_with("/wake") {
                self.sleeps[id()] = path.ends_with("/sleep");
                return serde_json::to_string(&record(id(), self.sleeps[id()])).unwrap();
            }
            if path.ends_with("/check") {
                let hash_after = if id() == 2 { "other" } else { "" }.to_owned();
                let record = protocol::CheckRecord { hash_after, ..Default::default() };
                return serde_json::to_string(&record).unwrap();
            }
            let records: Vec<_> = (0..SANDBOXES).map(|place| record(place, self.sleeps[place])).collect();
            serde_json::to_string(&records).unwrap()
        }
    }

    fn record(place: usize, sleeps: bool) -> SandboxRecord {
        let account = protocol::Account {
            warm_bytes: 1000,
            resident_bytes: if sleeps { 10 } else { 1000 },
            ..Default::default()
        };
        SandboxRecord {
            id: SandboxId(place as u64 + 1),
            name: "hello".to_owned(),
            state: if sleeps { State::Dedup } else { State::Warm },
            pid: 1,
            depth: protocol::Depth::Deep,
            account,
            state_age_ms: 0,
            invocations: 0,
            sleeps: 0,
            wakes: 0,
            left_warm: None,
            last_sleep: None,
            last_wake: None,
        }
    }

    fn serve(mut stream: impl Read + Write, double: &Mutex<Double>) {
        let mut reader = BufReader::new(&mut stream);
        let mut request = String::new();
        reader.read_line(&mut request).unwrap();
        let mut line = String::new();
        let mut body_len = 0;
        while reader.read_line(&mut line).unwrap() > 2 {
            body_len = line
                .to_lowercase()
                .strip_prefix("content-length: ")
                .map_or(body_len, |len| len.trim().parse().unwrap());
            line.clear();
        }
        reader.read_exact(&mut vec![0; body_len]).unwrap();
        let body = double.lock().unwrap().answer(request.split(' ').nth(1).unwrap());
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    }

    /// The threads of the double end with the test's process.
    fn start(wrong_call: usize, runtime: &tokio::runtime::Runtime) -> Server {
        let data = tempfile::tempdir().unwrap();
        let double = Arc::new(Mutex::new(Double { wrong_call, ..Double::default() }));
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(data_dir::socket(data.path())).unwrap();
        let address = tcp.local_addr().unwrap();
        let other = Arc::clone(&double);
        std::thread::spawn(move || tcp.incoming().for_each(|stream| serve(stream.unwrap(), &double)));
        std::thread::spawn(move || unix.incoming().for_each(|stream| serve(stream.unwrap(), &other)));
        Server { address, data, runtime: runtime.handle().clone(), running: None }
    }

    #[track_caller]
    fn check(wrong_call: usize, expected_answers: Checked) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = start(wrong_call, &runtime);
        let (stop, progress) = (Stop::default(), ProgressBar::hidden());
        let journey = Journey {
            server: &server,
            function: &FUNCTION,
            sandboxes: SANDBOXES as u64,
            stop: &stop,
            progress: &progress,
        };
        let row = journey.run().unwrap();
        assert_eq!((row.sandboxes, row.warm_bytes, row.asleep_bytes), (3, 3000, 30));
        assert_eq!(row.answers, expected_answers);
        assert_eq!(row.memories, Checked { same: 2, failed: 1 });
    }

    #[test]
    fn every_answer_and_every_memory_counts() {
        check(0, Checked { same: 25, failed: 0 });
    }

    #[test]
    fn a_wrong_answer_of_a_woken_sandbox_is_found() {
        check(20, Checked { same: 24, failed: 1 });
    }
}
