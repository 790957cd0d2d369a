//! Advice about merging, which the kernel takes of nobody but the process itself; and a thread to give it that need not
//! wait, as processes are merged while they work.

use super::{InjectError, Vehicle};
use crate::maps::Mapping;
use crate::memory::Memory;
use crate::trace::{Stopped, Thread};

/// Where `struct rseq` (Linux) says which restartable sequence the thread is in.
const RSEQ_CS_OFFSET: u64 = 8;

impl<'a> Vehicle<'a> {
    /// Borrows a thread of `stopped`, whose mappings are `mappings`: one that waits in a system call, or else one that
    /// computes and is in no restartable sequence. That one goes on at the very instruction that it was stopped at.
    ///
    /// Not for calls that wait for something.
    pub fn borrow_any(stopped: &'a Stopped, mappings: &[Mapping]) -> Result<Vehicle<'a>, InjectError> {
        match Self::borrow(stopped, mappings) {
            Err(InjectError::Busy { .. }) => {
                Self::borrow_if(stopped, mappings, &|memory, thread, _| !is_in_sequence(memory, thread))
            }
            borrowed => borrowed,
        }
    }

    /// Lets KSM merge the pages of `ranges` (first and last address). What the process reads and writes there stays the
    /// same; a page that was merged is copied when it is written to.
    ///
    /// Only for memory of which [`ksm::may_mark`](crate::ksm::may_mark) says so.
    pub fn mark_mergeable(&mut self, ranges: &[(u64, u64)]) -> Result<(), InjectError> {
        self.advise_each(ranges, libc::MADV_MERGEABLE)
    }

    /// Takes the pages of `ranges` out of KSM's hands: each that was merged is copied before this returns, at some
    /// microseconds a page.
    pub fn unmark_mergeable(&mut self, ranges: &[(u64, u64)]) -> Result<(), InjectError> {
        self.advise_each(ranges, libc::MADV_UNMERGEABLE)
    }

    /// One call a range: `process_madvise` does not take advice about merging.
    fn advise_each(&mut self, ranges: &[(u64, u64)], advice: libc::c_int) -> Result<(), InjectError> {
        for (start, end) in ranges {
            // TRACEE: advice about merging changes no content; in which frame a page lies, the program cannot know.
            match self.call("madvise", libc::SYS_madvise, [*start, end - start, advice as u64, 0, 0, 0]) {
                // ENOMEM: part of it is unmapped by now. The rest has been done.
                Err(InjectError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENOMEM) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// Whether the thread says that it is in a restartable sequence. The kernel forgets that when the thread runs anything
/// else, and would not start the sequence again where it must. One that cannot be asked may be in one.
fn is_in_sequence(memory: &Memory, thread: &Thread) -> bool {
    let Some(area) = thread.rseq else { return false };
    let mut sequence = [0; 8];
    memory.read(area.address + RSEQ_CS_OFFSET, &mut sequence).is_err() || sequence != [0; 8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;
    use crate::process::Process;
    use crate::trace::registers;

    #[test]
    fn a_thread_that_computes_runs_a_system_call_and_goes_on_where_it_was() {
        let mut child = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        let mut borrowed = 0;
        while borrowed < 20 {
            let stopped = Stopped::seize(process.pid(), &|| false).unwrap();
            let mappings = maps::read_without_flags(process.pid()).unwrap();
            let before = registers(process.pid()).unwrap();
            if before.orig_rax as i64 >= 0 || !mappings.iter().any(|mapping| mapping.name == "[heap]") {
                continue; // It has not come that far.
            }
            let heap = mappings.iter().find(|mapping| mapping.name == "[heap]").unwrap();
            let mut vehicle = Vehicle::borrow_any(&stopped, &mappings).unwrap();
            vehicle.mark_mergeable(&[(heap.start, heap.end), (4096, 8192)]).unwrap();
            vehicle.unmark_mergeable(&[(heap.start, heap.end)]).unwrap();
            vehicle.put_back().unwrap();
            let after = registers(process.pid()).unwrap();
            let seen =
                |of: &libc::user_regs_struct| [of.rip, of.rsp, of.rax, of.rcx, of.r11, of.rdx, of.eflags];
            assert_eq!(seen(&after), seen(&before));
            borrowed += 1;
        }
        process.kill();
        child.wait().unwrap();
    }
}
