//! Reading and writing the memory of another process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The memory of one process. Reading needs the right to trace it.
#[derive(Debug)]
pub struct Memory {
    pid: i32,
    /// Reaches pages that the process itself may not read or write (`PROT_NONE`, read-only).
    mem: File,
}

impl Memory {
    /// Opens the memory of `pid` as it is now: after an `exec` this still is the old memory.
    pub fn open(pid: i32) -> io::Result<Memory> {
        let mem = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Memory { pid, mem })
    }

    /// Fills `buffer` from `address` on, or fails.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> io::Result<()> {
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: buffer.len() };
        // SAFETY: `local` covers `buffer`, ours alone for this call; the kernel checks `remote` against the other
        // process and never follows it in ours.
        let n = unsafe { libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        let done = usize::try_from(n).unwrap_or(0);
        if done == buffer.len() {
            return Ok(());
        }
        // A page in it may not be read by the process itself; `/proc/PID/mem` may.
        self.mem.read_exact_at(&mut buffer[done..], address + done as u64)
    }

    /// Writes `bytes` at `address`, also where the process itself may only read.
    ///
    /// The caller answers for the process: it is stopped, and these bytes belong there.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: bytes.len() };
        // SAFETY: the kernel only reads `local`, which covers `bytes`; it checks `remote` against the other process.
        // TRACEE: every caller holds the process stopped and writes only what was read from the same place, or
        // into a scratch page of our own.
        let n = unsafe { libc::process_vm_writev(self.pid, &raw const local, 1, &raw const remote, 1, 0) };
        let done = usize::try_from(n).unwrap_or(0);
        if done == bytes.len() {
            return Ok(());
        }
        // TRACEE: as above; this way also reaches pages without the write bit.
        self.mem.write_all_at(&bytes[done..], address + done as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_can_be_read_and_written() {
        let mut there = vec![7u8; 10_000];
        let memory = Memory::open(std::process::id() as i32).unwrap();
        let mut here = vec![0u8; 10_000];
        memory.read(there.as_ptr() as u64, &mut here).unwrap();
        assert_eq!(here, there);
        memory.write(there.as_mut_ptr() as u64, &[9; 3]).unwrap();
        assert_eq!(std::hint::black_box(&there)[..4], [9, 9, 9, 7]);
    }

    #[test]
    fn a_hole_is_an_error() {
        let memory = Memory::open(std::process::id() as i32).unwrap();
        assert!(memory.read(4096, &mut [0; 8]).is_err());
    }
}
