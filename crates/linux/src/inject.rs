//! Running system calls inside a stopped process, as if it had made them.
//!
//! A thread that is blocked in a system call is borrowed: its registers and signal mask are kept, it is made to
//! execute the `syscall` instruction of the vDSO, and is put back so that the kernel restarts the interrupted call
//! by itself. Nothing executable is put into the process, no signal is raised in it, and none of its own code runs.

mod merging;

use std::io;

use crate::maps::Mapping;
use crate::memory::Memory;
use crate::process::Process;
use crate::trace::{self, RseqArea, Stop, Stopped, TraceError};

/// `syscall` in x86-64 machine code.
const SYSCALL_INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// Code segment of 64-bit programs (x86-64 Linux).
const CS_64_BIT: u64 = 0x33;

/// Pages of scratch memory mapped into the process for arguments.
const SCRATCH_BYTES: u64 = 16 * 4096;

/// A vector of ranges for `process_madvise` may have this many (`UIO_MAXIOV`).
const RANGES_PER_CALL: usize = 1024;

/// The calling process itself, as a pidfd (Linux 6.14).
const PIDFD_SELF: i64 = -10001;

/// System calls cannot be run in the process. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// No thread waits in a system call: the process is busy.
    #[error("process {pid} is busy: no thread of it waits in a system call")]
    Busy {
        /// The process.
        pid: i32,
    },
    /// It is not a 64-bit program with a vDSO.
    #[error("process {pid} is no 64-bit program with a vDSO")]
    Foreign {
        /// The process.
        pid: i32,
    },
    /// Tracing failed.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The kernel refused the call.
    #[error("{what} in process {pid}")]
    Refused {
        /// Which call.
        what: &'static str,
        /// The process.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    /// Its memory could not be read or written.
    #[error("reach the memory of process {pid}")]
    Memory {
        /// The process.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
}

/// A borrowed thread of a stopped process. Dropping it puts the thread back.
#[derive(Debug)]
pub struct Vehicle<'a> {
    stopped: &'a Stopped,
    memory: Memory,
    tid: i32,
    rseq: Option<RseqArea>,
    saved: libc::user_regs_struct,
    saved_mask: u64,
    /// Address of a `syscall` instruction.
    instruction: u64,
    /// Whether the thread has run since it was borrowed.
    used: bool,
    scratch: Option<u64>,
    /// Descriptors that were created for us, and are closed when the thread is put back.
    descriptors: Vec<i32>,
    /// One of them: the device of userfaultfds.
    pub(crate) lent_device: Option<i32>,
    /// `SIGSTOP` came meanwhile: it cannot be blocked, and is sent again when the thread is put back.
    stop_came: bool,
}

impl<'a> Vehicle<'a> {
    /// Borrows a thread of `stopped`, whose mappings are `mappings`. It waits in a system call, so it is never inside a
    /// restartable sequence, which moving it would break.
    pub fn borrow(stopped: &'a Stopped, mappings: &[Mapping]) -> Result<Vehicle<'a>, InjectError> {
        Self::borrow_if(stopped, mappings, &|_, _, registers| registers.orig_rax as i64 >= 0)
    }

    /// Borrows a 64-bit thread of which `is_fit` says so.
    fn borrow_if(
        stopped: &'a Stopped,
        mappings: &[Mapping],
        is_fit: &dyn Fn(&Memory, &trace::Thread, &libc::user_regs_struct) -> bool,
    ) -> Result<Vehicle<'a>, InjectError> {
        let pid = stopped.pid();
        let memory = Memory::open(pid).map_err(|source| InjectError::Memory { pid, source })?;
        let instruction = find_instruction(pid, &memory, mappings)?;
        for thread in &stopped.threads {
            let saved = trace::registers(thread.tid)?;
            if saved.cs == CS_64_BIT && is_fit(&memory, thread, &saved) {
                let saved_mask = trace::signal_mask(thread.tid)?;
                // TRACEE: its own signals wait until the thread is put back; `Drop` restores the mask.
                trace::set_signal_mask(thread.tid, u64::MAX)?;
                let (tid, rseq) = (thread.tid, thread.rseq);
                return Ok(Vehicle {
                    stopped,
                    memory,
                    tid,
                    rseq,
                    saved,
                    saved_mask,
                    instruction,
                    used: false,
                    scratch: None,
                    descriptors: Vec::new(),
                    lent_device: None,
                    stop_came: false,
                });
            }
        }
        Err(InjectError::Busy { pid })
    }

    /// Where the kernel may write while this thread is used. Must stay resident meanwhile.
    pub fn rseq_area(&self) -> Option<RseqArea> {
        self.rseq
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.stopped.pid()
    }

    /// The process' memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Runs one system call; `Err` holds what it returned.
    ///
    /// The caller answers for what the call does to the process.
    pub fn call(&mut self, what: &'static str, number: i64, args: [u64; 6]) -> Result<u64, InjectError> {
        self.call_while(what, number, args, &mut || {})
    }

    /// The same, and calls `meanwhile` again and again until the call returns: for one that waits for us.
    fn call_while(
        &mut self,
        what: &'static str,
        number: i64,
        args: [u64; 6],
        meanwhile: &mut dyn FnMut(),
    ) -> Result<u64, InjectError> {
        let pid = self.stopped.pid();
        let mut registers = self.saved;
        registers.orig_rax = u64::MAX; // Not in a system call: the kernel must not restart one now.
        registers.rax = number as u64;
        registers.rip = self.instruction;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = args;
        self.used = true;
        // TRACEE: all its threads are stopped; this one is put back by `Drop`.
        trace::set_registers(self.tid, &registers)?;
        self.run_to_system_call(meanwhile)?; // Entry,
        self.run_to_system_call(meanwhile)?; // and exit.
        let result = trace::registers(self.tid)?.rax as i64;
        if (-4095..0).contains(&result) {
            let source = io::Error::from_raw_os_error(-result as i32);
            return Err(InjectError::Refused { what, pid, source });
        }
        Ok(result as u64)
    }

    fn run_to_system_call(&mut self, meanwhile: &mut dyn FnMut()) -> Result<(), InjectError> {
        let pid = self.stopped.pid();
        let mut meanwhile = || {
            meanwhile();
            Ok(())
        };
        trace::cont_to_system_call(self.tid)?;
        loop {
            match trace::wait_for_stop_while(pid, self.tid, &mut meanwhile)? {
                Stop::SystemCall => return Ok(()),
                Stop::Interrupted | Stop::Group => {}
                // Every signal that can be blocked is; what remains is SIGSTOP.
                Stop::Signal(_) => self.stop_came = true,
            }
            trace::cont_to_system_call(self.tid)?;
        }
    }

    /// Anonymous memory in the process for arguments, unmapped when the thread is put back. Called early, it shows
    /// whether the process can be emptied at all.
    pub fn scratch(&mut self) -> Result<u64, InjectError> {
        if let Some(scratch) = self.scratch {
            return Ok(scratch);
        }
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        // TRACEE: at an address that the kernel finds free, and unmapped again before the process runs.
        let at = self.call("mmap", libc::SYS_mmap, [0, SCRATCH_BYTES, 3, flags, u64::MAX, 0])?;
        self.scratch = Some(at);
        Ok(at)
    }

    /// Gives the memory of `ranges` (first and last address) back to the kernel: they read as zeros from now on.
    /// `meanwhile` reads the events that the kernel waits for where a userfaultfd is told of such ranges: slow, so not for
    /// many.
    pub fn empty(&mut self, ranges: &[(u64, u64)], meanwhile: &mut dyn FnMut()) -> Result<(), InjectError> {
        let scratch = self.scratch()?;
        let pid = self.stopped.pid();
        for ranges in ranges.chunks(RANGES_PER_CALL) {
            let total: u64 = ranges.iter().map(|(start, end)| end - start).sum();
            let vector: Vec<u8> = ranges
                .iter()
                .flat_map(|(start, end)| [start.to_le_bytes(), (end - start).to_le_bytes()].concat())
                .collect();
            // TRACEE: into our own scratch pages.
            self.memory.write(scratch, &vector).map_err(|source| InjectError::Memory { pid, source })?;
            let advice = libc::MADV_DONTNEED as u64;
            let args = [PIDFD_SELF as u64, scratch, ranges.len() as u64, advice, 0, 0];
            // TRACEE: the caller has put every page of `ranges` into the store before.
            let done = self.call_while("process_madvise", libc::SYS_process_madvise, args, meanwhile);
            if done.as_ref().is_ok_and(|bytes| *bytes == total) {
                continue;
            }
            // Before Linux 6.14, or where a range was skipped: one by one, which is harmless to repeat.
            for (start, end) in ranges {
                let args = [*start, end - start, advice, 0, 0, 0];
                // TRACEE: as above.
                self.call_while("madvise", libc::SYS_madvise, args, meanwhile)?;
            }
        }
        Ok(())
    }

    /// Puts fresh anonymous memory in the place of a range, with the same access rights. What was there is gone.
    pub fn replace_by_anonymous(&mut self, start: u64, end: u64, prot: u64) -> Result<(), InjectError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let args = [start, end - start, prot, flags as u64, u64::MAX, 0];
        // TRACEE: the caller has put every page of the range into the store before, and fills it again.
        self.call("mmap", libc::SYS_mmap, args).map(drop)
    }

    /// Takes charge of a descriptor that was created for us earlier and was left open.
    pub fn adopt(&mut self, fd: i32) {
        self.descriptors.push(fd);
    }

    /// Leaves a descriptor that was created for us open in the process.
    pub fn leave_open(&mut self, fd: i32) {
        self.descriptors.retain(|ours| *ours != fd);
    }

    /// Closes a descriptor that was created for us.
    pub fn close(&mut self, fd: i32) -> Result<(), InjectError> {
        self.leave_open(fd);
        // TRACEE: a descriptor of ours, unknown to the program.
        self.call("close", libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]).map(drop)
    }

    /// Puts the thread back as it was. Errors mean that the process is dead or beyond help: kill it.
    pub fn put_back(mut self) -> Result<(), InjectError> {
        let tidied = self.tidy_up();
        self.go_back()?;
        tidied
    }

    /// Takes out of the process what was put there for us.
    fn tidy_up(&mut self) -> Result<(), InjectError> {
        while let Some(fd) = self.descriptors.last() {
            self.close(*fd)?;
        }
        if let Some(scratch) = self.scratch.take() {
            // TRACEE: our own scratch pages.
            self.call("munmap", libc::SYS_munmap, [scratch, SCRATCH_BYTES, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    /// Gives the thread its own registers and signal mask back.
    fn go_back(&mut self) -> Result<(), InjectError> {
        if self.used {
            // Stop once more in the place where the kernel looks for signals: from there it restarts the
            // interrupted system call by itself, given the registers as they were. With the interrupt pending no
            // instruction of the program runs in between.
            trace::interrupt(self.tid)?;
            trace::cont(self.tid, 0)?;
            loop {
                match trace::wait_for_stop(self.stopped.pid(), self.tid)? {
                    Stop::Interrupted => break,
                    Stop::Signal(_) => self.stop_came = true, // As above.
                    Stop::SystemCall | Stop::Group => {}
                }
                trace::cont(self.tid, 0)?;
            }
            // TRACEE: exactly the registers that it had.
            trace::set_registers(self.tid, &self.saved)?;
            self.used = false;
        }
        // TRACEE: exactly the mask that it had.
        trace::set_signal_mask(self.tid, self.saved_mask)?;
        if std::mem::take(&mut self.stop_came)
            && let Some(pid) = rustix::process::Pid::from_raw(self.stopped.pid())
        {
            // ESRCH: it was killed meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::STOP);
        }
        Ok(())
    }
}

impl Drop for Vehicle<'_> {
    fn drop(&mut self) {
        // After `put_back` this only sets the mask again. What the process does not let us tidy up stays in it: a
        // descriptor or some empty pages, which do no harm.
        let _ = self.tidy_up();
        if self.go_back().is_err()
            && let Ok(process) = Process::open(self.stopped.pid())
        {
            // It is dead, or does not stop any more, and must not run on with registers that are ours.
            process.kill();
        }
    }
}

fn find_instruction(pid: i32, memory: &Memory, mappings: &[Mapping]) -> Result<u64, InjectError> {
    let vdso = mappings.iter().find(|m| m.name == "[vdso]").ok_or(InjectError::Foreign { pid })?;
    let mut code = vec![0; vdso.len_bytes() as usize];
    memory.read(vdso.start, &mut code).map_err(|source| InjectError::Memory { pid, source })?;
    let at = code.windows(2).position(|bytes| bytes == SYSCALL_INSTRUCTION);
    Ok(vdso.start + at.ok_or(InjectError::Foreign { pid })? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maps;
    use crate::process::Process;

    #[test]
    fn a_system_call_runs_in_the_other_process_and_leaves_no_trace() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::open(child.id() as i32).unwrap();
        while !std::fs::read_to_string(format!("/proc/{}/wchan", process.pid()))
            .unwrap()
            .contains("nanosleep")
        {
            std::thread::yield_now();
        }
        let stopped = Stopped::seize(process.pid(), &|| false).unwrap();
        let mappings = maps::read(process.pid()).unwrap();
        let before = trace::registers(process.pid()).unwrap();
        let mut vehicle = Vehicle::borrow(&stopped, &mappings).unwrap();
        assert_eq!(vehicle.call("getpid", libc::SYS_getpid, [0; 6]).unwrap(), process.pid() as u64);
        let refused = vehicle.call("close", libc::SYS_close, [999, 0, 0, 0, 0, 0]).unwrap_err();
        let InjectError::Refused { source, .. } = refused else { panic!("{refused}") };
        assert_eq!(source.raw_os_error(), Some(libc::EBADF));
        let fd = vehicle.create_userfaultfd(None).unwrap();
        vehicle.close(fd).unwrap();
        let heap = mappings.iter().find(|m| m.name == "[heap]").unwrap();
        vehicle.empty(&[(heap.start, heap.start + 4096)], &mut || {}).unwrap();
        let mut heap_now = [1; 4096];
        vehicle.memory().read(heap.start, &mut heap_now).unwrap();
        assert_eq!(heap_now, [0; 4096]);
        vehicle.put_back().unwrap();
        let after = trace::registers(process.pid()).unwrap();
        assert_eq!((before.rip, before.rsp, before.orig_rax), (after.rip, after.rsp, after.orig_rax));
        let mappings_after = maps::read(process.pid()).unwrap();
        assert_eq!(mappings_after.len(), mappings.len());
        stopped.release();
        process.kill();
        child.wait().unwrap();
    }
}
