//! Where our own cgroup lies, from what `/proc` says.

use std::path::{Path, PathBuf};

/// Our own cgroup's directory: of version 2 (`None`), or of a version 1 controller.
pub(super) fn own_place(mounts: &str, own: &str, controller: Option<&str>) -> Option<PathBuf> {
    let (root, mount) = mounts.lines().find_map(|line| parse_mount(line, controller))?;
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let found = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|word| word == name),
        };
        found.then_some(path)
    })?;
    // In a container the mount shows a part of the tree only: `root` is where that part begins.
    let path = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

/// Root and mount point, if this line of `mountinfo` is the hierarchy that is looked for.
fn parse_mount<'a>(line: &'a str, controller: Option<&str>) -> Option<(&'a str, &'a str)> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, mount) = (front.next()?, front.next()?);
    let mut back = back.split(' ');
    let (kind, options) = (back.next()?, back.nth(1)?);
    let found = match controller {
        None => kind == "cgroup2",
        Some(name) => kind == "cgroup" && options.split(',').any(|word| word == name),
    };
    found.then_some((root, mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 24 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 /docker/1 /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer";
    const OWN: &str = "6:freezer:/docker/1/a\n4:memory:/user/x\n0::/y";

    #[track_caller]
    fn check(controller: Option<&str>, expected: Option<&str>) {
        assert_eq!(own_place(MOUNTS, OWN, controller), expected.map(PathBuf::from));
    }

    #[test]
    fn our_own_cgroup_is_found_in_each_hierarchy() {
        check(None, Some("/sys/fs/cgroup/unified/y"));
        check(Some("memory"), Some("/sys/fs/cgroup/memory/user/x"));
        check(Some("freezer"), Some("/sys/fs/cgroup/freezer/a"));
        check(Some("pids"), None);
    }
}
