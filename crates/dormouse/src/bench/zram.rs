//! The common answer to idle memory: freeze, and swap out to compressed memory. The device and the swap area are
//! set up for the bench and put back after it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::error::{BenchError, with_causes};
use super::frozen::{freeze, thaw};
use super::keep::{Asleep, Keep, Woken, micros_since};
use super::worker::Worker;
use super::workshop::{Kind, Workshop};

/// The fastest algorithm that kernels commonly have.
const ALGORITHM: &str = "lz4";
/// Room for every worker; memory is taken only for what is swapped out.
const SIZE: &str = "2G";
/// Before any other swap area, so that pages go nowhere else.
const PRIORITY: &str = "32767";

/// The device, as the system shows it.
#[derive(Clone, Debug)]
struct Device {
    settings: PathBuf,
    node: PathBuf,
}

/// A swap area in compressed memory. Dropping it puts everything back.
#[derive(Debug)]
pub(crate) struct Zram {
    device: Device,
    /// What was chosen before us.
    algorithm: String,
    is_swap: bool,
}

/// Why there can be no such swap area here; `None`: there can.
pub(crate) fn what_lacks() -> Option<String> {
    let device = Device::first();
    match fs::read_to_string(device.settings.join("disksize")) {
        Err(_) => Some("no /dev/zram0: load the module zram".to_owned()),
        Ok(size) if size.trim() != "0" => Some("/dev/zram0 is in use and left alone (after a killed bench: swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset)".to_owned()),
        Ok(_) if !rustix::process::geteuid().is_root() => Some("setting up swap needs root".to_owned()),
        Ok(_) => None,
    }
}

impl Zram {
    /// Sets it up, or says why not, in words for the table; then nothing has changed.
    pub(crate) fn set_up() -> Result<Zram, String> {
        what_lacks().map_or(Ok(()), Err)?;
        let device = Device::first();
        let algorithms = device.read("comp_algorithm").map_err(|error| with_causes(&error))?;
        let mut zram = Zram { algorithm: chosen(&algorithms).to_owned(), device, is_swap: false };
        // From here on dropping `zram` puts things back.
        zram.swap_on().map_err(|error| with_causes(&error))?;
        Ok(zram)
    }

    fn swap_on(&mut self) -> Result<(), BenchError> {
        self.device.write("comp_algorithm", ALGORITHM)?;
        self.device.write("disksize", SIZE)?;
        run("mkswap", &["-q".as_ref(), &self.device.node])?;
        run("swapon", &["-p".as_ref(), PRIORITY.as_ref(), &self.device.node])?;
        self.is_swap = true;
        Ok(())
    }

    /// Memory that the compressed pages take, the allocator's loss included.
    fn held_bytes(&self) -> Result<u64, BenchError> {
        let numbers = self.device.read("mm_stat")?;
        let used = numbers.split_ascii_whitespace().nth(2).and_then(|word| word.parse().ok());
        used.ok_or_else(|| BenchError::system("read mm_stat of zram")(io::ErrorKind::InvalidData.into()))
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        let off = if self.is_swap { run("swapoff", &[&self.device.node]) } else { Ok(()) };
        let reset = self.device.write("reset", "1");
        let algorithm = self.device.write("comp_algorithm", &self.algorithm);
        for error in [off, reset, algorithm].into_iter().filter_map(Result::err) {
            tracing::error!("zram could not be put back: {}", with_causes(&error));
        }
    }
}

impl Device {
    fn first() -> Device {
        Device { settings: PathBuf::from("/sys/block/zram0"), node: PathBuf::from("/dev/zram0") }
    }

    fn read(&self, file: &str) -> Result<String, BenchError> {
        fs::read_to_string(self.settings.join(file))
            .map_err(BenchError::system(format!("read {file} of zram")))
    }

    fn write(&self, file: &str, value: &str) -> Result<(), BenchError> {
        fs::write(self.settings.join(file), value)
            .map_err(BenchError::system(format!("write {value} to {file} of zram")))
    }
}

/// The algorithm in brackets.
fn chosen(algorithms: &str) -> &str {
    let inner = algorithms.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or("lzo-rle", |(name, _)| name)
}

/// Runs a tool of the system, which need not be in an ordinary user's `PATH`.
fn run(tool: &str, args: &[&Path]) -> Result<(), BenchError> {
    let path =
        ["/usr/sbin", "/sbin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(tool)).find(|p| p.exists());
    let output = Command::new(path.unwrap_or_else(|| tool.into())).args(args).output();
    let output = output.map_err(BenchError::system(format!("run {tool}")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(BenchError::Program {
            program: tool.to_owned(),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

/// A worker that is frozen and swapped out.
pub(crate) struct Swapped<'a> {
    zram: &'a Zram,
    worker: Worker,
    /// What zram held before the worker went.
    held_before_bytes: u64,
}

impl<'a> Swapped<'a> {
    /// Starts a worker and waits until it is warm.
    pub(crate) fn start(workshop: &Workshop, kind: Kind, zram: &'a Zram) -> Result<Swapped<'a>, BenchError> {
        let worker = workshop.start(kind, "zramed", true)?;
        worker.line().ask_when_ready(0)?.answer()?;
        Ok(Swapped { held_before_bytes: zram.held_bytes()?, zram, worker })
    }
}

impl Keep for Swapped<'_> {
    fn sleep(&mut self) -> Result<Asleep, BenchError> {
        // Pages that were swapped out before and not touched since are still this worker's own.
        let before =
            linux::process::status(self.worker.pid()).map_err(BenchError::system("read a status"))?;
        let warm_bytes = before.anonymous_bytes + before.swap_bytes;
        // Looking for the ranges is not counted against this way: a real one would know them.
        let ranges = own_ranges(self.worker.pid()).map_err(BenchError::system("read a worker's mappings"))?;
        let started = Instant::now();
        freeze(&self.worker)?;
        linux::advise::page_out(self.worker.pid(), &ranges)
            .map_err(BenchError::system("swap out a worker"))?;
        let sleep_us = Some(micros_since(started));
        let memory = self.worker.memory()?;
        let held_bytes = self.zram.held_bytes()?.saturating_sub(self.held_before_bytes);
        Ok(Asleep {
            warm_bytes,
            kept_bytes: memory.private_bytes + memory.kernel_bytes + held_bytes,
            kept_parts: None,
            sleep_us,
        })
    }

    fn wake(&mut self, number: u64) -> Result<Woken, BenchError> {
        let asked = self.worker.line().ask(number)?;
        let started = Instant::now();
        thaw(&self.worker)?;
        let answer = asked.answer()?;
        Ok(Woken { wake_us: micros_since(started), answer })
    }
}

/// Where private pages are: anonymous memory and data of libraries. Program text is left out, as paging it out would
/// throw it out of the page cache, which no system does to a function that will be needed.
fn own_ranges(pid: i32) -> io::Result<Vec<Range<u64>>> {
    let mappings = linux::maps::read(pid)?;
    let own =
        mappings.iter().filter(|map| map.is_private_anonymous() || (map.is_private_file() && map.write));
    Ok(own.map(|map| map.start..map.end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(algorithms: &str, expected: &str) {
        assert_eq!(chosen(algorithms), expected);
    }

    #[test]
    fn the_algorithm_in_brackets_is_put_back() {
        check("[lzo-rle] lzo lz4 \n", "lzo-rle");
        check("lzo-rle lzo [lz4]", "lz4");
    }
}
