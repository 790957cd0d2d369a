//! What this machine can do: the facts behind `dormouse doctor`.

use std::fs;
use std::io;
use std::path::Path;

use crate::cell::{self, Network};
use crate::cgroup::Hierarchy;
use crate::ksm::Ksm;
use crate::userfault::{Userfault, Watch};
use crate::userfault_device::{self, UserfaultDevice};

/// How good an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, but something is lost by it.
    Lacking,
    /// dormouse cannot put anything to sleep here.
    Fatal,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What it means, and what to do; empty when all is well.
    pub advice: &'static str,
}

/// Looks at everything that matters. Changes nothing that lasts: a cgroup is made and removed.
pub fn look() -> Vec<Finding> {
    vec![
        kernel(),
        privilege(),
        tracing(),
        userfault(),
        userfault_of_others(),
        poison(),
        freezer(),
        controllers(),
        page_map(),
        map_count(),
        merging(),
    ]
}

/// Whether functions can be kept apart here, and in which networks. `builder` is the program that builds cells,
/// `scaffold` any folder.
pub fn cells(builder: &Path, scaffold: &Path) -> Vec<Finding> {
    let attempt = |what, network: Network, good: &str, advice| match cell::try_one(
        builder.to_owned(),
        scaffold.to_owned(),
        network,
    ) {
        Ok(()) => finding(what, Verdict::Good, good, ""),
        Err(error) => finding(what, Verdict::Lacking, error.to_string(), advice),
    };
    vec![
        attempt(
            "cells",
            Network::Host,
            "namespaces, users, mounts and a filter",
            "functions cannot be kept apart here, and `serve` wants to be told `--isolation none`: run as root, or allow user \
             namespaces (kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces) and, in a container, an \
             unmasked /proc; Linux 5.12 or later",
        ),
        attempt(
            "cell network: none",
            Network::None,
            "a loopback interface of its own",
            "functions in cells have the machine's network here: allow network namespaces (user.max_net_namespaces)",
        ),
        named_networks(),
    ]
}

/// The operator's own networks.
fn named_networks() -> Finding {
    let (what, advice) =
        ("cell network: netns:NAME", "to put functions into networks of your own, run as root");
    if !rustix::process::geteuid().is_root() {
        return finding(what, Verdict::Lacking, "ordinary user", advice);
    }
    let names = cell::named_networks();
    let found = if names.is_empty() {
        "none made: `ip netns add NAME` makes one".to_owned()
    } else {
        names.join(", ")
    };
    finding(what, Verdict::Good, found, "")
}

/// Whether faults of another process can be served here, those in system calls included, while it runs and forks.
pub fn can_userfault(device: Option<&UserfaultDevice>) -> io::Result<()> {
    create_userfault(device, Watch::AllEvents).map(drop)
}

fn create_userfault(device: Option<&UserfaultDevice>, watch: Watch) -> io::Result<Userfault> {
    let by_device = |error| device.map_or(Err(error), UserfaultDevice::create);
    userfault_device::create_by_call().or_else(by_device).and_then(|fd| Userfault::set_up(fd, watch))
}

fn finding(what: &'static str, verdict: Verdict, found: impl Into<String>, advice: &'static str) -> Finding {
    Finding { what, verdict, found: found.into(), advice: if verdict == Verdict::Good { "" } else { advice } }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = match version {
        (6, 7..) | (7.., _) => Verdict::Good,
        (5, 10..) | (6, _) => Verdict::Lacking,
        _ => Verdict::Fatal,
    };
    let advice = "Linux 6.7 or later scans page tables in one call (PAGEMAP_SCAN) and poisons pages that are out \
                  (UFFDIO_POISON); from 5.10 on it works with slower scans; older kernels lack pidfd_getfd and cgroup freezing";
    finding("kernel", verdict, release, advice)
}

/// Who we are, and what root could do that we cannot.
pub fn privilege() -> Finding {
    let root = rustix::process::geteuid().is_root();
    let found = if root { "root" } else { "ordinary user" };
    let advice = "as root, sandboxes get cgroups with limits, sleep without being traced, and wake lazily; as an ordinary user \
                  they are stopped by ptrace and filled whole before they run";
    finding("privilege", if root { Verdict::Good } else { Verdict::Lacking }, found, advice)
}

fn tracing() -> Finding {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let (verdict, found) = match scope.trim() {
        "" | "0" => (Verdict::Good, "any process of the same user"),
        "1" => (Verdict::Good, "own descendants"),
        "2" if rustix::process::geteuid().is_root() => (Verdict::Good, "root only"),
        "2" => (Verdict::Fatal, "root only (yama)"),
        _ => (Verdict::Fatal, "nobody (yama)"),
    };
    finding(
        "ptrace",
        verdict,
        found,
        "set kernel.yama.ptrace_scope to 1: system calls are injected by ptrace",
    )
}

fn userfault() -> Finding {
    match can_userfault(UserfaultDevice::open().ok().as_ref()) {
        Ok(()) => finding("userfaultfd", Verdict::Good, "faults of programs and of system calls", ""),
        Err(error) => finding(
            "userfaultfd",
            Verdict::Lacking,
            error.to_string(),
            "without it memory is filled whole before a wake, by writing; run as root (forks of others are told to \
             CAP_SYS_PTRACE alone)",
        ),
    }
}

fn userfault_of_others() -> Finding {
    const WHAT: &str = "userfaultfd device";
    match UserfaultDevice::open() {
        Ok(_) => finding(WHAT, Verdict::Good, "available", ""),
        Err(error) => finding(
            WHAT,
            Verdict::Lacking,
            error.to_string(),
            "root opens /dev/userfaultfd (Linux 6.1; in a container it must be let in) for sandboxes that may not make a \
             userfaultfd themselves; without it these are held by ptrace while they sleep, and filled whole before they run",
        ),
    }
}

fn poison() -> Finding {
    let advice = "from Linux 6.6 on, pages that are out of small sandboxes are poisoned, so that one thawed by somebody \
                  else dies instead of reading zeros; here only the freezer stands before that";
    let poison = create_userfault(UserfaultDevice::open().ok().as_ref(), Watch::Faults)
        .is_ok_and(|userfault| userfault.can_poison());
    let (verdict, found) =
        if poison { (Verdict::Good, "available") } else { (Verdict::Lacking, "not available") };
    finding("page poison", verdict, found, advice)
}

fn trial() -> Hierarchy {
    Hierarchy::create(&format!("dormouse-doctor-{}", std::process::id()))
}

fn freezer() -> Finding {
    let trial = trial();
    let found = trial.describe();
    let can = trial.can_freeze();
    let removed = trial.remove();
    let advice = "mount cgroup2 (and run as root, or in a delegated cgroup): without a freezer sandboxes are held by ptrace while \
                  they sleep, one thread of dormouse each";
    match removed {
        Ok(()) => finding("freezer", if can { Verdict::Good } else { Verdict::Lacking }, found, advice),
        Err(error) => finding("freezer", Verdict::Lacking, error.to_string(), advice),
    }
}

fn controllers() -> Finding {
    let trial = trial();
    let memory = trial.has_memory();
    // A failure shows in the finding about the freezer.
    let _ = trial.remove();
    let (verdict, found) = if memory { (Verdict::Good, "memory") } else { (Verdict::Lacking, "none") };
    let advice = "without a memory controller the memory limit of functions is not enforced and kernel memory is not counted";
    finding("cgroup controllers", verdict, found, advice)
}

fn page_map() -> Finding {
    let mut runs = Vec::new();
    let looked = (|| {
        let pid = std::process::id() as i32;
        let mappings = crate::maps::read(pid)?;
        let mut map = crate::pagemap::PageMap::open(pid)?;
        mappings.iter().filter(|m| m.is_private_anonymous()).try_for_each(|m| map.own_pages(m, &mut runs))
    })();
    match looked {
        Ok(()) if !runs.is_empty() => finding("page map", Verdict::Good, "readable", ""),
        Ok(()) => finding("page map", Verdict::Fatal, "empty", "own pages cannot be told from shared ones"),
        Err(error) => finding("page map", Verdict::Fatal, error.to_string(), "mount /proc without hidepid"),
    }
}

fn map_count() -> Finding {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let count = text.trim().parse::<u64>().unwrap_or(0);
    let verdict = if count >= 65_530 { Verdict::Good } else { Verdict::Lacking };
    finding(
        "vm.max_map_count",
        verdict,
        count.to_string(),
        "set it to 65530 or more: a sleep splits mappings",
    )
}

fn merging() -> Finding {
    const WHAT: &str = "merging (KSM)";
    let looked = Ksm::open().and_then(|ksm| Ok((ksm.settings()?, ksm.counters().saved_bytes())));
    let (settings, saved_bytes) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let advice = "`dormouse merge` needs a kernel with CONFIG_KSM and its /sys/kernel/mm/ksm; nothing else does";
            return finding(WHAT, Verdict::Lacking, error.to_string(), advice);
        }
    };
    let saved = format!("{} MiB saved", saved_bytes >> 20);
    match settings.get("run") {
        _ if !rustix::process::geteuid().is_root() => {
            finding(WHAT, Verdict::Lacking, "ordinary user", "`dormouse merge` runs as root")
        }
        Some("0") => finding(WHAT, Verdict::Good, format!("stands still, {saved}"), ""),
        _ => finding(
            WHAT,
            Verdict::Lacking,
            format!("in use, {saved}"),
            "KSM merges whatever is marked, whoever it belongs to, so `dormouse merge` leaves it to those who use it: stop them \
             (echo 0 > /sys/kernel/mm/ksm/run), or accept sharing with them by --across-domains",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_good_says_what_to_do() {
        for finding in look() {
            assert_eq!(finding.verdict == Verdict::Good, finding.advice.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty(), "{finding:?}");
        }
    }
}
