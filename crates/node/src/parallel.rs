//! The same work on several threads.

use std::thread::{Builder, ScopedJoinHandle};

/// Runs `work` on this thread and on up to `threads - 1` others, which share out among themselves what there is to
/// do; the first error counts. A machine that has no more threads to give does it with fewer.
pub(crate) fn on_threads<E: Send>(threads: usize, work: impl Fn() -> Result<(), E> + Sync) -> Result<(), E> {
    std::thread::scope(|scope| {
        let start = |_| Builder::new().spawn_scoped(scope, &work).ok();
        let others: Vec<_> = (1..threads).map_while(start).collect();
        let own = work();
        let join = |other: ScopedJoinHandle<'_, _>| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        others.into_iter().map(join).fold(own, Result::and)
    })
}

/// The same on other threads only, if there are any to be had. A driver lives as long as its sandbox, and the allocator
/// keeps up to 200 KiB of small blocks that a living thread has freed: what needs many of them is done by threads that
/// end.
pub(crate) fn on_other_threads<E: Send>(
    threads: usize,
    work: impl Fn() -> Result<(), E> + Sync,
) -> Result<(), E> {
    std::thread::scope(|scope| match Builder::new().spawn_scoped(scope, || on_threads(threads, &work)) {
        Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => on_threads(threads, &work),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_is_done_once_and_an_error_of_any_thread_counts() {
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        let result = on_threads(3, || {
            while next.fetch_add(1, Ordering::Relaxed) < 100 {
                if done.fetch_add(1, Ordering::Relaxed) == 50 {
                    return Err("the fifty-first");
                }
            }
            Ok(())
        });
        assert_eq!(result, Err("the fifty-first"));
        assert!((51..=100).contains(&done.into_inner()));
        assert_eq!(on_threads(0, || Ok::<(), ()>(())), Ok(()));
    }
}
