//! What a test could leave behind on a machine: processes, cgroups, mounts, kernel settings. Taken before and
//! after, two censuses must be equal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Cgroups with this in their path are ours.
const OUR_CGROUP: &str = "dormouse";

/// The mount of a network that an operator, or a test that plays one, gave a name: none is ours.
const NAMED_NETWORK: &str = "nsfs /run/netns/";

/// Where cgroup trees are mounted.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

/// Folders deeper than this below it are not looked at.
const CGROUP_DEPTH_MAX: usize = 8;

/// Settings, not counters: the same before and after, unless somebody turned a knob.
const KNOBS: [&str; 16] = [
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/ksm/max_page_sharing",
    "/sys/kernel/mm/ksm/use_zero_pages",
    "/sys/kernel/mm/ksm/advisor_mode",
    "/sys/kernel/mm/ksm/smart_scan",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
    "/sys/module/zswap/parameters/enabled",
    "/proc/sys/vm/swappiness",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/max_map_count",
    "/proc/sys/vm/nr_hugepages",
    "/proc/sys/vm/unprivileged_userfaultfd",
    "/proc/sys/kernel/randomize_va_space",
];

/// Everything of ours that is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes of ours: descendants of this one, those in our cgroups, those whose executable was built here.
    pub processes: BTreeSet<String>,
    /// Cgroups of ours.
    pub cgroups: BTreeSet<PathBuf>,
    /// Mounts of this namespace.
    pub mounts: BTreeSet<String>,
    /// System V queues, semaphores and shared memory.
    pub queues: BTreeSet<String>,
    /// Kernel settings, swap areas and compressed disks.
    pub knobs: BTreeMap<PathBuf, String>,
}

/// What one node has, and nobody else on this machine: living descendants of this process, processes in the cgroup
/// directory `tree`, and the cgroups below it. Empty when the node has left nothing behind. Cheaper than a census,
/// and not disturbed by what others do meanwhile.
pub fn belongings(tree: &str) -> io::Result<Vec<String>> {
    let all = processes()?;
    let me = std::process::id() as i32;
    let parents: BTreeMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let inside =
        |pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(tree));
    let ours = |process: &&Process| {
        // Dead ones go when we do: nobody else will collect them, and nothing of them is left but their number.
        process.state != 'Z' && (ancestors(process.pid, &parents).any(|up| up == me) || inside(process.pid))
    };
    let processes =
        all.iter().filter(ours).map(|process| format!("process {} {}", process.pid, process.name));
    let mut cgroups = BTreeSet::new();
    collect_cgroups(Path::new(CGROUP_ROOT), CGROUP_DEPTH_MAX, &mut cgroups);
    let cgroups = cgroups.iter().map(|path| path.display().to_string()).filter(|path| path.contains(tree));
    Ok(processes.chain(cgroups.map(|path| format!("cgroup {path}"))).collect())
}

/// Takes the census. Reads nothing of other processes' memory, so sleepers do not hold it up.
pub fn census() -> io::Result<Census> {
    let mut cgroups = BTreeSet::new();
    collect_cgroups(Path::new(CGROUP_ROOT), CGROUP_DEPTH_MAX, &mut cgroups);
    Ok(Census {
        processes: our_processes()?,
        cgroups,
        mounts: lines("/proc/self/mounts")
            .into_iter()
            .filter(|line| !line.starts_with(NAMED_NETWORK))
            .collect(),
        queues: ["msg", "sem", "shm"]
            .iter()
            .flat_map(|kind| lines(format!("/proc/sysvipc/{kind}")))
            .collect(),
        knobs: knobs(),
    })
}

impl Census {
    /// What is here but was not in `before`, and settings and mounts that are not as they were; empty when nothing
    /// was left behind.
    pub fn differences(&self, before: &Census) -> Vec<String> {
        // A process that ended, or a cgroup that was removed meanwhile, was not left behind by anybody.
        let processes = self.processes.difference(&before.processes);
        let mut all: Vec<_> = processes.map(|process| format!("process left behind: {process}")).collect();
        let cgroups = self.cgroups.difference(&before.cgroups);
        all.extend(cgroups.map(|path| format!("cgroup left behind: {}", path.display())));
        all.extend(self.changes(before));
        all
    }

    /// Mounts, queues and settings that are not as they were in `before`: what others start meanwhile changes none.
    pub fn changes(&self, before: &Census) -> Vec<String> {
        let mut all = Vec::new();
        compare("mount", &before.mounts, &self.mounts, &mut all);
        compare("queue", &before.queues, &self.queues, &mut all);
        let text = |knobs: &BTreeMap<PathBuf, String>| {
            knobs.iter().map(|(path, value)| format!("{} = {value}", path.display())).collect()
        };
        compare("setting", &text(&before.knobs), &text(&self.knobs), &mut all);
        all
    }
}

fn compare(what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>, all: &mut Vec<String>) {
    all.extend(after.difference(before).map(|item| format!("{what} left behind: {item}")));
    all.extend(before.difference(after).map(|item| format!("{what} gone: {item}")));
}

/// A process as `/proc/PID/stat` has it.
struct Process {
    pid: i32,
    name: String,
    state: char,
    parent: i32,
    group: i32,
}

/// All processes; those that end while we read are left out.
fn processes() -> io::Result<Vec<Process>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter_map(|stat| parse_stat(&stat)).collect())
}

/// `PID (NAME) STATE PARENT GROUP …`; the name may hold spaces and brackets.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some(Process {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        state: words.next()?.chars().next()?,
        parent: words.next()?.parse().ok()?,
        group: words.next()?.parse().ok()?,
    })
}

/// The states of all processes and threads of a process group that are not dead.
pub(crate) fn group_states(group: i32) -> Vec<char> {
    let members = processes().unwrap_or_default().into_iter();
    let members = members.filter(|process| process.group == group && process.state != 'Z');
    members.flat_map(|process| thread_states(process.pid)).collect()
}

fn thread_states(pid: i32) -> Vec<char> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let stats =
        entries.filter_map(Result::ok).filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| parse_stat(&stat)).map(|thread| thread.state).collect()
}

fn our_processes() -> io::Result<BTreeSet<String>> {
    let all = processes()?;
    let me = std::process::id() as i32;
    let parents: BTreeMap<i32, i32> = all.iter().map(|process| (process.pid, process.parent)).collect();
    let built_here = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    // The runner and its other tests live in the same folder; they are not ours.
    let runners: BTreeSet<i32> = ancestors(me, &parents).collect();
    let ours = |process: &&Process| {
        let pid = process.pid;
        let built = || {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| {
                exe.parent().is_some_and(|folder| {
                    built_here.as_ref().is_some_and(|here| here.parent() == Some(folder))
                })
            })
        };
        let grouped =
            || fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(OUR_CGROUP));
        pid != me
            && !runners.contains(&pid)
            && (ancestors(pid, &parents).any(|up| up == me) || grouped() || built())
    };
    Ok(all.iter().filter(ours).map(|process| format!("{} {}", process.pid, process.name)).collect())
}

/// Parents of `pid`, nearest first.
fn ancestors(pid: i32, parents: &BTreeMap<i32, i32>) -> impl Iterator<Item = i32> {
    std::iter::successors(parents.get(&pid).copied(), |up| parents.get(up).copied()).take_while(|up| *up > 0)
}

fn collect_cgroups(folder: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    if depth == 0 {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            collect_cgroups(&path, depth - 1, found);
            if path.to_string_lossy().contains(OUR_CGROUP) {
                found.insert(path);
            }
        }
    }
}

fn knobs() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> = KNOBS.iter().map(PathBuf::from).collect();
    paths.push("/proc/swaps".into());
    let disks = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok);
    let zrams = disks.filter(|disk| disk.file_name().to_string_lossy().starts_with("zram"));
    paths.extend(zrams.map(|disk| disk.path().join("disksize")));
    let read = |path: PathBuf| fs::read_to_string(&path).ok().map(|text| (path, text.trim().to_owned()));
    paths.into_iter().filter_map(read).collect()
}

fn lines(path: impl AsRef<Path>) -> BTreeSet<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}
