//! Taking it back: what was merged is copied, and nothing of the processes is marked any more.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use linux::ksm::{self, Burst, Ksm, Others};
use linux::process;
use node::ksm::Marked;

use super::show::{Unmerge, UnmergedProcess};
use super::subject::told;
use super::{KEPT, failure, guard};
use crate::failure::Failure;
use crate::output;
use crate::stop::Stop;

pub(super) fn run(pids: &[i32], json: bool, stop: &Stop) -> Result<(), Failure> {
    let started = Instant::now();
    let ksm = Ksm::open().map_err(|error| failure(&error))?;
    let mut processes = Vec::new();
    for pid in pids {
        let merged = ksm::merged(*pid).unwrap_or_default();
        let outcome = node::ksm::unmark(*pid, &|| stop.is_asked());
        let (marked, problem) = match outcome {
            Ok(marked) => (marked, None),
            Err(error) => (Marked::default(), Some(told(&error))),
        };
        processes.push(UnmergedProcess {
            pid: *pid,
            name: process::named(*pid),
            unmerged_bytes: merged.pages * 4096,
            unmarked_bytes: marked.pages * 4096,
            longest_stop_us: marked.longest_stop.as_micros() as u64,
            problem,
        });
    }
    tidy(&ksm)?;
    let unmerge = Unmerge { processes, took_us: started.elapsed().as_micros() as u64 };
    match json {
        true => output::print_json(&unmerge)?,
        false => output::print(&unmerge.lines())?,
    }
    match unmerge.processes.iter().find_map(|process| process.problem.as_ref()) {
        None => Ok(()),
        Some(problem) => Err(Failure::new(problem).hint("try again: what was taken back already stays so")),
    }
}

/// Takes back what was merged of processes in a burst that is not over. Those that died meanwhile have nothing left.
pub(super) fn take_back(pids: &BTreeSet<i32>, burst: &mut Burst) -> Result<(), Failure> {
    for pid in pids {
        if let Err(error) = node::ksm::unmark(*pid, &|| false)
            && process::status(*pid).is_ok()
        {
            let again = format!("dormouse merge --unmerge {pid}");
            return Err(
                Failure::new(told(&error)).hint(format!("others may share pages with it; try {again}"))
            );
        }
    }
    burst.tidy().map_err(|error| failure(&error))
}

/// KSM counts pages as merged until it has looked there once more. Nothing is marked for it that was not before, so
/// nobody is asked.
fn tidy(ksm: &Ksm) -> Result<(), Failure> {
    if ksm.settings().map_err(|error| failure(&error))?.get("run") != Some("0") {
        return Ok(()); // It runs by itself and will come by.
    }
    let _guard = guard()?;
    let mut burst = Burst::start(ksm, Path::new(KEPT), Others::Accept).map_err(|error| failure(&error))?;
    burst.tidy().map_err(|error| failure(&error))?;
    burst.end().map_err(|error| failure(&error))
}
