//! What is out of the processes of a sandbox, ready to be found by address. To find that out takes milliseconds for a
//! large process, which no request should wait for: a thread does it while the working set is filled.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use linux::arena::MemfdArena;
use pages::{FillPlan, JobIndex, Manifest, PageRange, ReadError};

use crate::asleep::Space;
use crate::lazy_space::LazyError;
use crate::ranges::without;
use crate::remaining::Remaining;
use crate::{PageStore, WorkingSet};

/// What is out of one process.
pub(crate) struct Out {
    pub(crate) source: Arc<Source>,
    pub(crate) remaining: Remaining,
}

/// Where the content stands, by the addresses that the manifest knows.
pub(crate) struct Source {
    pub(crate) plan: FillPlan<MemfdArena>,
    pub(crate) index: JobIndex,
}

/// What is to be found.
#[derive(Clone)]
struct Question {
    store: Arc<PageStore>,
    /// For each process, what it had, and what of it is filled meanwhile.
    processes: Vec<(Arc<Manifest>, Vec<PageRange>)>,
}

impl Question {
    fn answer(&self) -> Result<Vec<Out>, ReadError> {
        let out = |(manifest, filled): &(Arc<Manifest>, Vec<PageRange>)| {
            let ranges = without(&manifest.content_ranges().collect::<Vec<_>>(), filled);
            let plan = self.store.plan(manifest, &ranges)?;
            let remaining = Remaining::of(ranges); // Fewer, longer ones than those of the jobs.
            let index = plan.index();
            Ok(Out { source: Arc::new(Source { plan, index }), remaining })
        };
        self.processes.iter().map(out).collect()
    }
}

/// A search under way. Dropping it waits for its end: it holds manifests, and who releases one must be its last holder.
pub(crate) struct Finding {
    thread: Option<JoinHandle<Result<Vec<Out>, ReadError>>>,
    /// Where there was no thread to be had.
    found: Option<Result<Vec<Out>, ReadError>>,
}

impl Finding {
    /// Looks for everything in `spaces` but the working set, which is filled meanwhile.
    pub(crate) fn start(store: &Arc<PageStore>, spaces: &[Space], working_set: &WorkingSet) -> Finding {
        let process =
            |(at, space): (usize, &Space)| (Arc::clone(&space.manifest), working_set.of_process(at).to_vec());
        let processes = spaces.iter().enumerate().map(process).collect();
        let question = Question { store: Arc::clone(store), processes };
        let same = question.clone();
        match Builder::new().name("find-out".to_owned()).spawn(move || same.answer()) {
            Ok(thread) => Finding { thread: Some(thread), found: None },
            Err(_) => Finding { thread: None, found: Some(question.answer()) },
        }
    }

    /// What was found, for each space in its order.
    pub(crate) fn found(mut self) -> Result<Vec<Out>, LazyError> {
        let joined = self.thread.take().and_then(|thread| thread.join().ok());
        let panicked =
            || LazyError::Follow { source: io::Error::other("the search for what is missing panicked") };
        let found = joined.or(self.found.take()).ok_or_else(panicked)?;
        found.map_err(|source| LazyError::Manifest { source })
    }
}

impl Drop for Finding {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // Nobody wants to know any more.
        }
    }
}
