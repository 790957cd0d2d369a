//! Does to a sandbox what was chosen, and looks whether promises were kept.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use node::{CheckError, Node, Sandbox, SleepError};
use protocol::{Depth, State};
use tokio::runtime::Handle;

use super::act::{Act, Death, Moment, NUMBERS};
use super::tally::{Broken, Promise, Tally};
use crate::bench::error::BenchError;
use crate::bench::line::Line;
use crate::bench::ours;
use crate::bench::workshop::{Kind, Workshop};

/// The slowest act seen took 3 s, on a machine that was busy with other things.
const ACT_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that acts need.
pub(super) struct Stage<'a> {
    pub(super) workshop: &'a Workshop,
    pub(super) runtime: &'a Handle,
    pub(super) node: Node,
    pub(super) tally: &'a Tally,
    /// Private memory of this process and the guard before there were sandboxes.
    pub(super) own_before_bytes: u64,
    /// What workers answered before anybody slept.
    answers: HashMap<(&'static str, u64), String>,
    /// Sandboxes that were to die.
    pub(super) deaths: AtomicU64,
}

/// A place for a sandbox. When it dies, another one of its kind comes.
pub(super) struct Seat {
    number: usize,
    pub(super) kind: Kind,
    pub(super) sandbox: Sandbox,
    line: Line,
}

impl Seat {
    pub(super) fn is_asleep(&self) -> bool {
        self.sandbox.state() == State::Dedup
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// For failures.
    pub(super) fn describe(&self) -> String {
        format!("sandbox {} ({}, process {})", self.sandbox.id(), self.kind.name(), self.sandbox.pid())
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        workshop: &'a Workshop,
        runtime: &'a Handle,
        node: Node,
        tally: &'a Tally,
    ) -> Stage<'a> {
        let own_before_bytes = node.record().own_resident_bytes;
        let (answers, deaths) = (HashMap::new(), AtomicU64::new(0));
        Stage { workshop, runtime, node, tally, own_before_bytes, answers, deaths }
    }

    /// Starts a sandbox and waits until it is warm.
    pub(super) fn seat(&self, number: usize, kind: Kind) -> Result<Seat, BenchError> {
        // Every third one sleeps lightly.
        let depth = if number % 3 == 2 { Depth::Light } else { Depth::Deep };
        let (spec, line) = ours::launch_spec(self.workshop, (kind, depth), number);
        let sandbox = self.node.launch(spec).map_err(BenchError::ours("launch a sandbox"))?;
        line.ask_when_ready(0)?.answer()?;
        sandbox.mark_ready().map_err(BenchError::ours("mark a sandbox ready"))?;
        Ok(Seat { number, kind, sandbox, line })
    }

    /// Learns from a sandbox that never slept what its kind has to answer.
    pub(super) fn learn(&mut self, seat: &Seat) -> Result<(), BenchError> {
        for number in 0..NUMBERS {
            let answer = seat.line.ask(number)?.answer()?;
            self.answers.insert((seat.kind.name(), number), answer);
        }
        Ok(())
    }

    /// Does it.
    pub(super) fn perform(&self, seat: &mut Seat, act: Act) -> Result<(), Broken> {
        self.tally.count(act.name());
        match act {
            Act::Invoke(number) => self.invoke(seat, number),
            Act::Wake => self.wake(seat),
            Act::Sleep => self.sleep(seat),
            Act::Interrupt(after, number) => self.interrupt(seat, after, number),
            Act::Check => self.check(seat),
            Act::Die(death, moment) => self.die(seat, death, moment),
        }
    }

    /// Ends what sits there, however it is, and starts another one.
    pub(super) fn replace(&self, seat: &mut Seat) -> Result<(), Broken> {
        if self.node.sandbox(seat.sandbox.id()).is_some() {
            self.deaths.fetch_add(1, Ordering::Relaxed);
        }
        self.end(seat)?;
        *seat = self.seat(seat.number, seat.kind)?;
        Ok(())
    }

    /// Ends what sits there.
    pub(super) fn end(&self, seat: &Seat) -> Result<(), Broken> {
        seat.sandbox.purge();
        self.within("die", seat.sandbox.exit()).map(drop)
    }

    fn invoke(&self, seat: &Seat, number: u64) -> Result<(), Broken> {
        let asked = seat.line.ask(number)?;
        self.wake(seat)?;
        seat.sandbox.begin_invocation().map_err(Broken::obeys("begin an invocation"))?;
        let answer = asked.answer()?;
        seat.sandbox.end_invocation().map_err(Broken::obeys("end an invocation"))?;
        self.compare(seat, number, &answer)
    }

    fn compare(&self, seat: &Seat, number: u64, answer: &str) -> Result<(), Broken> {
        let right = self.answers.get(&(seat.kind.name(), number)).map_or("", String::as_str);
        if right != answer {
            return Err(Broken::new(Promise::Answer, format!("answers {answer:?} instead of {right:?}")));
        }
        self.tally.kept(Promise::Answer);
        Ok(())
    }

    fn wake(&self, seat: &Seat) -> Result<(), Broken> {
        self.within("wake", seat.sandbox.wake())?.map(drop).map_err(Broken::obeys("wake"))
    }

    fn sleep(&self, seat: &Seat) -> Result<(), Broken> {
        self.slept(self.within("sleep", seat.sandbox.sleep())?.map(drop), false)
    }

    /// What a sleep came to. A sandbox that is left warm is no failure, but it is counted.
    fn slept(&self, result: Result<(), SleepError>, may_be_interrupted: bool) -> Result<(), Broken> {
        match result {
            Ok(()) => Ok(()),
            Err(SleepError::Interrupted) if may_be_interrupted => {
                self.tally.count("sleeps broken off");
                Ok(())
            }
            Err(SleepError::LeftWarm { why }) => {
                tracing::info!(why, "left warm");
                self.tally.count("sandboxes left warm");
                Ok(())
            }
            Err(error) => Err(Broken::obeys("sleep")(error)),
        }
    }

    fn interrupt(&self, seat: &Seat, after: Duration, number: u64) -> Result<(), Broken> {
        let come = async {
            tokio::time::sleep(after).await;
            seat.line.ask(number).map(|asked| (asked, seat.sandbox.wake()))
        };
        let come = async {
            let (asked, wake) = come.await?;
            Ok::<_, BenchError>((asked, wake.await))
        };
        let both = async { tokio::join!(seat.sandbox.sleep(), come) };
        let (slept, come) = self.within("sleep and be woken", both)?;
        self.slept(slept.map(drop), true)?;
        let (asked, woken) = come?;
        woken.map_err(Broken::obeys("wake"))?;
        seat.sandbox.begin_invocation().map_err(Broken::obeys("begin an invocation"))?;
        let answer = asked.answer()?;
        seat.sandbox.end_invocation().map_err(Broken::obeys("end an invocation"))?;
        self.compare(seat, number, &answer)
    }

    fn check(&self, seat: &Seat) -> Result<(), Broken> {
        self.wake(seat)?;
        match self.within("be compared", seat.sandbox.check())? {
            Ok(record) if record.is_same() => {
                self.tally.kept(Promise::Memory);
                Ok(())
            }
            Ok(record) => Err(Broken::new(
                Promise::Memory,
                format!(
                    "{} pages with hash {} went to sleep, {} with hash {} woke",
                    record.pages_before, record.hash_before, record.pages_after, record.hash_after
                ),
            )),
            Err(CheckError::Sleep(error)) => self.slept(Err(error), false),
            Err(error) => Err(Broken::obeys("be compared")(error)),
        }
    }

    fn die(&self, seat: &mut Seat, death: Death, moment: Moment) -> Result<(), Broken> {
        let (id, pid) = (seat.sandbox.id(), seat.sandbox.pid());
        let process = linux::process::Process::open(pid).map_err(Broken::obeys("find its process"))?;
        let end = || match death {
            Death::Kill => process.kill(),
            Death::Purge => seat.sandbox.purge(),
        };
        let later = async |wait| {
            tokio::time::sleep(wait).await;
            end();
        };
        self.deaths.fetch_add(1, Ordering::Relaxed);
        match moment {
            Moment::Still => end(),
            // What it was doing may have ended well, or not: it dies in any case.
            Moment::FallingAsleep(wait) => {
                let both = async { tokio::join!(seat.sandbox.sleep(), later(wait)) };
                drop(self.within("die while it falls asleep", both)?);
            }
            Moment::Waking(wait) => {
                let both = async { tokio::join!(seat.sandbox.wake(), later(wait)) };
                drop(self.within("die while it wakes", both)?);
            }
        }
        self.within("die", seat.sandbox.exit())?;
        if self.node.sandbox(id).is_some() {
            return Err(Broken::new(Promise::Forgotten, "is dead, and still in the list"));
        }
        self.tally.kept(Promise::Forgotten);
        *seat = self.seat(seat.number, seat.kind)?;
        Ok(())
    }

    fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, Broken> {
        let timed = async { tokio::time::timeout(ACT_TIMEOUT, future).await };
        let late = |_| Broken::new(Promise::Obeys, format!("did not {what} within {ACT_TIMEOUT:?}"));
        self.runtime.block_on(timed).map_err(late)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.node.shutdown();
    }
}
