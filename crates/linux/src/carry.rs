//! What a process may hold that would not survive a sleep. Such a process is left warm.

use std::fs;
use std::io;

use crate::maps::{Flags, Mapping};

/// Names one thing that cannot be carried, in words for a person; `None` when there is nothing.
pub fn obstacle(pid: i32, mappings: &[Mapping]) -> io::Result<Option<String>> {
    let watched = [Flags::USERFAULT_MISSING, Flags::USERFAULT_WRITE, Flags::USERFAULT_MINOR];
    if mappings.iter().any(|mapping| mapping.flags.any(&watched)) {
        return Ok(Some(format!("process {pid} watches its own memory with a userfaultfd")));
    }
    direct_writes(pid, mappings)
}

/// Names what writes to the memory of the process without a fault: it would write to a page that is no longer there,
/// and a write of it cannot be noted.
pub fn direct_writes(pid: i32, mappings: &[Mapping]) -> io::Result<Option<String>> {
    if mappings.iter().any(|mapping| mapping.name.starts_with("/[aio]")) {
        // A read in flight writes to the page it started with, not to the one that comes back.
        return Ok(Some(format!("process {pid} has an asynchronous I/O context (io_setup)")));
    }
    if let Some(mapping) = mappings.iter().find(|mapping| is_direct_access_device(&mapping.name)) {
        return Ok(Some(direct_access(pid, &mapping.name)));
    }
    descriptors(pid)
}

/// Devices that read and write the memory of programs by themselves (RDMA, GPU, accelerator): what they were told
/// are page frames, and a filled page is another frame.
fn is_direct_access_device(path: &str) -> bool {
    const DEVICES: [&str; 7] = ["infiniband/", "nvidia", "kfd", "dri/", "vfio/", "accel/", "habanalabs"];
    path.strip_prefix("/dev/").is_some_and(|name| DEVICES.iter().any(|device| name.starts_with(device)))
}

fn direct_access(pid: i32, device: &str) -> String {
    format!("process {pid} uses a device that reaches its memory directly ({device})")
}

/// Memory that stays where it is, although it is private: its owner, or the kernel, relies on that.
pub fn must_stay(mapping: &Mapping) -> bool {
    const STAY: [Flags; 8] = [
        Flags::DEVICE,
        Flags::PFN,
        Flags::MIXED,
        Flags::HUGETLB,
        Flags::LOCKED, // `mlock` promises that the content is never elsewhere.
        Flags::SEALED,
        Flags::SHADOW_STACK,
        Flags::WIPE_ON_FORK, // Often the state of a random generator: not to be copied.
    ];
    mapping.flags.any(&STAY)
}

/// Looks through the open descriptors.
fn descriptors(pid: i32) -> io::Result<Option<String>> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy();
        if is_direct_access_device(&link) {
            return Ok(Some(direct_access(pid, &link)));
        }
        if link == "anon_inode:[io_uring]"
            && let Some(why) = io_uring(pid, &entry.file_name().to_string_lossy())?
        {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Registered buffers are page frames that the kernel writes to: a filled page would be another frame. The same
/// holds for a direct read in flight, so nothing may be in flight at all.
fn io_uring(pid: i32, descriptor: &str) -> io::Result<Option<String>> {
    let info = fs::read(format!("/proc/{pid}/fdinfo/{descriptor}"))?;
    let text = |why| format!("process {pid} has {why} in io_uring (descriptor {descriptor})");
    Ok(parse_ring(&info).map(text))
}

/// Understands `fdinfo` of an io_uring: what in it cannot be carried.
pub fn parse_ring(info: &[u8]) -> Option<&'static str> {
    let info = String::from_utf8_lossy(info);
    let number = |key: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().parse::<u64>().ok()
    };
    // A kernel that tells nothing (the ring is locked by a call in progress) has something in flight.
    let (Some(submitted), Some(completed)) = (number("CachedSqHead"), number("CqTail")) else {
        return Some("a call in progress");
    };
    if number("UserBufs").is_some_and(|buffers| buffers > 0) {
        return Some("registered buffers");
    }
    (submitted != completed).then_some("requests in flight")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_carried_only_when_it_is_quiet() {
        let quiet = "SqMask:\t0x3\nCachedSqHead:\t5\nCqTail:\t5\nUserBufs:\t0\n";
        assert_eq!(parse_ring(quiet.as_bytes()), None);
        assert_eq!(
            parse_ring(quiet.replace("CqTail:\t5", "CqTail:\t4").as_bytes()),
            Some("requests in flight")
        );
        assert_eq!(
            parse_ring(quiet.replace("UserBufs:\t0", "UserBufs:\t1").as_bytes()),
            Some("registered buffers")
        );
        assert_eq!(parse_ring(b"pos: 0\n"), Some("a call in progress"));
    }

    #[test]
    fn devices_that_reach_memory_directly_are_known_by_their_path() {
        for device in ["/dev/infiniband/uverbs0", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/renderD128"] {
            assert!(is_direct_access_device(device), "{device}");
        }
        for other in ["/dev/null", "/dev/shm/x", "/tmp/dev/dri/card0", "socket:[5]", ""] {
            assert!(!is_direct_access_device(other), "{other}");
        }
    }

    #[test]
    fn we_ourselves_can_be_carried() {
        let pid = std::process::id() as i32;
        assert_eq!(obstacle(pid, &crate::maps::read(pid).unwrap()).unwrap(), None);
    }
}
