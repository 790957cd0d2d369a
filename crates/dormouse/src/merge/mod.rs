//! `dormouse merge`: equal pages of processes that run become one page, by KSM. The processes are looked at from outside;
//! what has an equal is marked, KSM works on it for a moment, and is then as it was before.

mod show;
mod subject;
mod unmerge;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use linux::ksm::{self, Burst, Counters, Done, Ksm, KsmError, Others};
use linux::process;
use merge::{Choice, Index};
use node::KsmGuard;
use tokio::runtime::Runtime;

use self::show::{Merge, Process};
use self::subject::Subject;
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

/// Where the settings of KSM lie while it works: in memory, as they do not outlive a start of the machine either.
pub(crate) const KEPT: &str = "/run/dormouse-merge-ksm";

/// Pages that are looked at, of all processes: 64 GiB. The index takes less than a hundredth of that.
const PAGES_MAX: usize = 1 << 24;

/// Between two looks at whether somebody else has come to use KSM.
const OTHERS_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dormouse merge 4711 4712 4713          what these have in common is kept once
  dormouse merge --children $(pgrep -x gunicorn)
  dormouse merge --json 4711 4712 | jq .saved_bytes
  dormouse merge --unmerge 4711 4712     each has pages of its own again

Runs as root. The processes run on; each is stopped for some milliseconds now and then. Pages stay merged until they are \
written to, which copies them. Nothing is merged by itself later: run it again for what has changed since.

The processes of one call may share pages with each other, and with nobody else: who can time writes to its own memory can \
tell whether another has the same page. So name those together that may know that of each other; it is refused while \
others have pages merged.")]
pub(crate) struct Args {
    /// Processes, by number
    #[arg(value_name = "PID", required = true, value_parser = clap::value_parser!(i32).range(1..))]
    pids: Vec<i32>,
    /// Their children as well, and the children of these
    #[arg(long)]
    children: bool,
    /// Take it back: every page that was merged is copied
    #[arg(long, conflicts_with_all = ["across_domains", "limit"])]
    unmerge: bool,
    /// Merge although others have memory marked for KSM, and share pages with them
    #[arg(long)]
    across_domains: bool,
    /// Merge for so many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    limit: u64,
    /// Print a JSON record
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new("only root can have the kernel merge pages").hint("run it as root"));
    }
    let pids = subject::find(&args.pids, args.children)?;
    let runtime = Runtime::new().map_err(|error| Failure::io("start", &error))?;
    let stop = Stop::listen(runtime.handle()).map_err(|error| Failure::io("listen for Ctrl-C", &error))?;
    if args.unmerge {
        return unmerge::run(&pids, args.json, &stop);
    }
    let merge = Job { args, pids: pids.into_iter().collect(), stop }.run()?;
    match args.json {
        true => output::print_json(&merge)?,
        false => output::print(&show::table(&merge, output::width()))?,
    }
    match merge.processes.iter().filter(|process| process.problem.is_some()).count() {
        0 => Ok(()),
        some => {
            Err(Failure::new(format!("{some} of {} processes could not be merged", merge.processes.len()))
                .hint("the others are; what kept these from it is said above"))
        }
    }
}

/// One call.
struct Job<'a> {
    args: &'a Args,
    pids: BTreeSet<i32>,
    stop: Stop,
}

impl Job<'_> {
    fn run(&self) -> Result<Merge, Failure> {
        let (started, cpu) = (Instant::now(), cpu_time());
        let ksm = Ksm::open().map_err(|error| failure(&error))?;
        let _guard = guard()?;
        let is_ours = |pid| self.is_ours(pid);
        let others = if self.args.across_domains { Others::Accept } else { Others::Refuse(&is_ours) };
        let mut burst = Burst::start(&ksm, Path::new(KEPT), others).map_err(|error| failure(&error))?;
        let first = ksm.counters();
        let subjects = self.mark();
        fail_point::reach("merge-marked");
        let (done, strangers) = self.burst(&mut burst)?;
        let last = ksm.counters();
        if !strangers.is_empty() {
            unmerge::take_back(&self.pids, &mut burst)?;
            let by = strangers.iter().map(|pid| process::named(*pid)).collect::<Vec<_>>().join(", ");
            return Err(failure(&KsmError::InUse { by: format!("{by} had memory marked meanwhile") }));
        }
        burst.end().map_err(|error| failure(&error))?;
        Ok(self.result(subjects, &done, (first, last), started.elapsed(), cpu_time().saturating_sub(cpu)))
    }

    /// Looks at all processes, then marks in each what has an equal.
    fn mark(&self) -> Vec<Subject> {
        let mut index = Index::new(PAGES_MAX);
        let give_up = || self.stop.is_asked();
        let mut subjects: Vec<Subject> = Vec::new();
        for pid in &self.pids {
            subjects.push(Subject::look(*pid, &mut index, &give_up));
        }
        for subject in &mut subjects {
            subject.mark(&index, &Choice::default(), &give_up);
        }
        subjects
    }

    /// Has KSM work. Who marked memory meanwhile, although nobody was to, is returned; then it was broken off.
    fn burst(&self, burst: &mut Burst) -> Result<(Done, Vec<i32>), Failure> {
        let (mut strangers, mut looked) = (Vec::new(), Instant::now());
        let limit = Duration::from_secs(self.args.limit);
        let done = burst.merge(limit, &mut || {
            if !self.args.across_domains && looked.elapsed() >= OTHERS_EVERY {
                strangers = ksm::marked(&|pid| self.is_ours(pid));
                looked = Instant::now();
            }
            self.stop.is_asked() || !strangers.is_empty()
        });
        Ok((done.map_err(|error| failure(&error))?, strangers))
    }

    /// Whether a process is one of those that were named, or a descendant: what is marked is inherited.
    fn is_ours(&self, pid: i32) -> bool {
        let parent = |pid: &i32| process::status(*pid).ok().map(|status| status.parent);
        std::iter::successors(Some(pid), parent)
            .take_while(|pid| *pid > 0)
            .any(|pid| self.pids.contains(&pid))
    }

    fn result(
        &self,
        subjects: Vec<Subject>,
        done: &Done,
        (first, last): (Counters, Counters),
        took: Duration,
        cpu: Duration,
    ) -> Merge {
        let processes: Vec<Process> = subjects.into_iter().map(Subject::result).collect();
        let micros = |time: Duration| time.as_micros() as u64;
        Merge {
            backend: "ksm",
            reason: "the default for processes that dormouse did not start; it has no hazards",
            saved_bytes: last.saved_bytes() as i64 - first.saved_bytes() as i64,
            saved_in_all_bytes: last.saved_bytes(),
            processes,
            end: done.end,
            full_scans: done.full_scans,
            took_us: micros(took),
            burst_us: micros(done.took),
            cpu_us: micros(cpu),
            ksmd_cpu_us: done.ksmd.map(micros),
        }
    }
}

/// Should we be killed while KSM works, this sets it as it was.
pub(crate) fn guard() -> Result<KsmGuard, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::io("find this program", &error))?;
    KsmGuard::start(&program, Path::new(KEPT)).map_err(|error| Failure::io("start the guard", &error))
}

fn failure(error: &KsmError) -> Failure {
    Failure::of(error).hint(error.advice())
}

/// Processor time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
