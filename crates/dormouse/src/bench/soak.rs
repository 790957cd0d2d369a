//! `dormouse bench soak`: many sandboxes live, sleep, wake and die at random, and every promise is looked after. What
//! happens is chosen in `soak/act.rs` and done in `soak/stage.rs`.

mod accounts;
mod act;
mod chance;
mod crew;
mod left;
mod machine;
mod stage;
mod tally;
mod turnover;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use report::soak::{AccountCheck, SoakBench, SoakSetting};
use tokio::runtime::Handle;

use self::act::Act;
use self::chance::Chance;
use self::crew::{At, THREADS, deal};
use self::left::Belongings;
use self::stage::{Seat, Stage};
use self::tally::{Promise, Tally};
use super::error::BenchError;
use super::files::Json;
use super::workshop::{Kind, Placing, Workshop};
use super::{environment, ours, progress, start};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

const SECONDS_PER_MINUTE: f64 = 60.0;
/// More than a month of soaking is a typing error.
const MINUTES_MAX: f64 = 60.0 * 24.0 * 31.0;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse bench soak --minutes 2 --sandboxes 40
  dormouse bench soak --workers hello,hello,pandas --layout random --json soak.json
  dormouse bench soak --seed 4711     the choices of the soak that printed this seed

Fails if any promise was broken. A worker that is named twice gets twice as many sandboxes. Needs Python, and Node and \
Java for one worker each; workers that cannot run are left out unless they are named. DORMOUSE_PYTHON names another \
interpreter.")]
pub(crate) struct Args {
    /// How long, fractions allowed; starting and the last looks come on top
    #[arg(long, default_value_t = 30.0, value_parser = parse_minutes)]
    minutes: f64,
    /// How many live at a time
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    sandboxes: u64,
    /// What to run, in equal parts, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    workers: Vec<Kind>,
    /// Where memory lies
    #[arg(long, value_enum, default_value_t = Placing::Pinned)]
    layout: Placing,
    /// Makes the choices of an earlier soak again [default: a new one, which is printed]
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    json: Json,
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| "a number of minutes, such as 0.5".to_owned())?;
    match minutes {
        0.0..=MINUTES_MAX => Ok(minutes),
        _ => Err(format!("between 0 and {MINUTES_MAX}")),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (runtime, stop) = start()?;
    // Short enough to be typed.
    let seed = args.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 40);
    output::note(&format!("seed {seed}")); // Said first: whatever happens, it can be had again.
    let bench = soak(args, seed, runtime.handle(), stop)?;
    args.json.write(&bench, &bench.table(output::width()))?;
    match bench.broken() {
        0 => Ok(()),
        broken => Err(Failure::new(format!("{broken} promises were broken"))
            .hint(format!("--seed {seed} makes the same choices again"))),
    }
}

/// All of it, from the first sandbox to the look at what is left.
fn soak(args: &Args, seed: u64, runtime: &Handle, stop: Stop) -> Result<SoakBench, BenchError> {
    let workshop = Workshop::open(args.layout, stop)?;
    let (kinds, mut notes) = workshop.runnable(&args.workers, &Kind::ALL)?;
    let progress = progress::bar((args.minutes * SECONDS_PER_MINUTE) as u64);
    let tally = Tally::default();
    let before = Belongings::now();
    let node = ours::start_node(&workshop, "soak", THREADS)?;
    let cgroups: Vec<PathBuf> = node.cgroups().map(PathBuf::from).collect();
    let mut soaking = Soaking {
        args,
        seed,
        stage: Stage::new(&workshop, runtime, node, &tally),
        progress: &progress,
        seats: Vec::new(),
        rounds: 0,
    };
    let accounts = soaking.run(&kinds)?;
    let (rounds, own_before_bytes) = (soaking.rounds, soaking.stage.own_before_bytes);
    linux::heap::give_back();
    let own_after_bytes = soaking.stage.node.record().own_resident_bytes;
    drop(soaking);
    let at = At { seed, round: rounds, what: "the end" };
    tally.judge(at, Promise::NothingLeft, Belongings::left_since(&before, &cgroups));
    progress.finish_and_clear();
    notes.extend(how_it_counts());
    Ok(SoakBench {
        environment: environment::look(&workshop, None),
        setting: SoakSetting {
            seed,
            minutes: args.minutes,
            sandboxes: args.sandboxes,
            workers: kinds.iter().map(|kind| kind.name().to_owned()).collect(),
            layout: args.layout.name().to_owned(),
            threads: THREADS as u64,
        },
        rounds,
        acts: tally.acts(),
        promises: tally.promises(),
        accounts,
        own_before_bytes,
        own_after_bytes,
        failures: tally.failures(),
        notes,
    })
}

/// A soak in progress.
struct Soaking<'a> {
    args: &'a Args,
    seed: u64,
    progress: &'a ProgressBar,
    seats: Vec<Seat>,
    rounds: u64,
    stage: Stage<'a>,
}

impl Soaking<'_> {
    fn run(&mut self, kinds: &[Kind]) -> Result<Vec<AccountCheck>, BenchError> {
        self.step("starting")?;
        self.fill_seats(kinds)?;
        self.step("looking at the account")?;
        let mut accounts = vec![self.stage.check_account(self.at("start"), "fresh", &mut self.seats)?];
        self.rounds(kinds)?;
        if !self.stage.tally.must_end() {
            self.step("comparing all memory")?;
            let at = self.at("last comparison");
            self.stage.each(at, self.seats.iter_mut().collect(), |_| Act::Check);
            self.step("looking at the account")?;
            accounts.push(self.stage.check_account(self.at("last account"), "soaked", &mut self.seats)?);
        }
        self.step("ending")?;
        self.end();
        self.step("looking for what is left")?;
        Ok(accounts)
    }

    /// Starts all sandboxes, and learns from the first of each kind what is right.
    fn fill_seats(&mut self, kinds: &[Kind]) -> Result<(), BenchError> {
        let wanted = kinds.iter().copied().cycle().enumerate().take(self.args.sandboxes as usize).collect();
        let seats = Mutex::new(Vec::new());
        deal(wanted, |_, hand| {
            for &mut (number, kind) in hand {
                let seat = self.stage.seat(number, kind);
                seats.lock().unwrap_or_else(PoisonError::into_inner).push(seat);
            }
        });
        let seats = seats.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.seats = seats.into_iter().collect::<Result<_, _>>()?;
        self.seats.sort_unstable_by_key(|seat| seat.number());
        for &kind in kinds {
            if let Some(seat) = self.seats.iter().find(|seat| seat.kind == kind) {
                self.stage.learn(seat)?;
            }
        }
        Ok(())
    }

    fn rounds(&mut self, kinds: &[Kind]) -> Result<(), BenchError> {
        let (started, chance) = (Instant::now(), Chance::new(self.seed));
        let length = Duration::from_secs_f64(self.args.minutes * SECONDS_PER_MINUTE);
        while started.elapsed() < length && !self.stage.tally.must_end() {
            self.rounds += 1;
            self.step(&format!("round {}", self.rounds))?;
            let mut chance = chance.of(self.rounds);
            self.stage.round(self.at("acts"), &mut self.seats, &chance);
            if let Some(kind) = chance.pick(kinds) {
                self.stage.turn_over(self.at("new base"), kind, &mut self.seats, &mut chance);
            }
            self.look_at_node();
            self.progress.set_position(started.elapsed().as_secs());
        }
        Ok(())
    }

    /// What the node counts of itself.
    fn look_at_node(&self) {
        let (at, tally) = (self.at("between rounds"), self.stage.tally);
        if self.stage.workshop.stop.is_asked() || tally.must_end() {
            return;
        }
        let record = self.stage.node.record();
        let is_sound = record.store_strays == 0 && record.pages_damaged == 0;
        let said = format!("{} strays, {} pages damaged", record.store_strays, record.pages_damaged);
        tally.judge(at, Promise::Store, is_sound.then_some(()).ok_or(said));
        // Who died unasked is told once.
        let (deaths, wanted) = (record.deaths, self.stage.deaths.swap(record.deaths, Ordering::Relaxed));
        let said = format!("{deaths} sandboxes died, {wanted} were to die");
        tally.judge(at, Promise::Obeys, (deaths == wanted).then_some(()).ok_or(said));
    }

    /// All die, asleep as they are.
    fn end(&mut self) {
        let at = self.at("the end");
        for seat in self.seats.drain(..) {
            if let Err(broken) = self.stage.end(&seat) {
                self.stage.tally.broken(format_args!("{at}: {}", seat.describe()), &broken);
            }
        }
        self.stage.await_all_back(at);
        let cgroups = self.stage.node.cgroups().flat_map(left::below).collect::<Vec<_>>();
        let said = || format!("cgroups {cgroups:?}");
        let result = cgroups.is_empty().then_some(()).ok_or_else(said);
        self.stage.tally.judge(at, Promise::NothingLeft, result);
    }

    fn at(&self, what: &'static str) -> At {
        At { seed: self.seed, round: self.rounds, what }
    }

    fn step(&self, what: &str) -> Result<(), BenchError> {
        self.progress.set_message(what.to_owned());
        if self.stage.workshop.stop.is_asked() { Err(BenchError::Interrupted) } else { Ok(()) }
    }
}

fn how_it_counts() -> [String; 2] {
    [
        "by the account: what all sandboxes cost awake, less what they cost asleep with all of the page store and the \
         growth of this process"
            .to_owned(),
        "by the kernel: the rise of MemAvailable, with free pages that lie ready for one processor, and without what \
         processes that are not ours did meanwhile"
            .to_owned(),
    ]
}
