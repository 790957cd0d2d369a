//! What the processes of a cell see: a root of its own, in which little of the machine appears, read-only.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::pivot_root;

use super::{Cell, INSIDE_ID, Network, View, at};
use crate::sys;

/// Programs and libraries. Where one is a link, the cell has the link.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What programs look up: names, certificates, the clock's zone, where libraries lie. Nothing of the machine's users.
const SETTINGS: [&str; 20] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "gai.conf",
    "host.conf",
    "hosts",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "resolv.conf",
    "services",
    "ssl",
];

/// Devices that give and take bytes, and reach nothing.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// The root itself holds names only.
const ROOT_OPTIONS: &str = "mode=0755,size=1m,nr_inodes=4096";

/// Lambda's `/tmp` has no bound on files; each costs a kilobyte of kernel memory here.
const BYTES_PER_FILE: u64 = 16 << 10;

const ATTR_READ_ONLY: u64 = 1;
const ATTR_NO_SETUID: u64 = 2;
const ATTR_NO_DEVICES: u64 = 4;

/// Gives the calling process' mount namespace, which is not shared, this root. To be called by the first process of the
/// pid namespace: `/proc` shows that one.
pub(super) fn build(cell: &Cell) -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(io::Error::from).map_err(at("make mounts private"))?;
    // Before the new root covers some of it. All paths below are relative: they lie in the new root.
    let seen = seen(cell)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_new("tmpfs", &cell.scaffold, flags, ROOT_OPTIONS)?;
    std::env::set_current_dir(&cell.scaffold).map_err(at("enter the new root"))?;
    make_own(cell, flags)?;
    for (tree, target) in &seen {
        place(tree, target)?;
    }
    // The old root goes: nothing outside can be named any more.
    pivot_root(".", ".").map_err(io::Error::from).map_err(at("change the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(io::Error::from).map_err(at("leave the old root"))?;
    std::env::set_current_dir("/")?;
    let root = File::open("/")?;
    set_attributes(&root, ATTR_READ_ONLY, 0).map_err(at("make the root read-only"))
}

/// What is there of the machine, and where it goes.
fn seen(cell: &Cell) -> io::Result<Vec<(Tree, PathBuf)>> {
    let mut seen = Vec::new();
    for path in SYSTEM.iter().map(Path::new).filter(|path| path.exists()) {
        let tree = match fs::read_link(path) {
            Ok(to) => Tree::Link(to),
            Err(_) => Tree::Mount(open(path, READ_ONLY)?),
        };
        seen.push((tree, path.to_owned()));
    }
    for (name, path) in SETTINGS.iter().map(|name| (name, Path::new("/etc").join(name))) {
        let of_network = match &cell.network {
            Network::Named(network) => network.setting(name),
            _ => None,
        };
        let source = of_network.unwrap_or_else(|| path.clone());
        if source.exists() {
            seen.push((Tree::Mount(open(&source, READ_ONLY)?), path));
        }
    }
    for View { source, target } in &cell.views {
        // Where it is seen anyway, there is nothing to add, nor could anything be made.
        let is_seen = |(_, above): &(Tree, PathBuf)| source == target && target.starts_with(above);
        if !seen.iter().any(is_seen) {
            seen.push((Tree::Mount(open(source, READ_ONLY)?), target.clone()));
        }
    }
    for path in DEVICES.iter().map(|name| Path::new("/dev").join(name)) {
        seen.push((Tree::Mount(open(&path, ATTR_NO_SETUID)?), path));
    }
    seen.sort_by_key(|(_, target)| target.components().count()); // What lies in another comes after it.
    Ok(seen)
}

const READ_ONLY: u64 = ATTR_READ_ONLY | ATTR_NO_SETUID | ATTR_NO_DEVICES;

/// A part of the view.
enum Tree {
    Mount(OwnedFd),
    Link(PathBuf),
}

/// A file or folder of the machine, and all that is mounted below it, as a mount that is nowhere yet.
fn open(path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let what = || format!("show {}", path.display());
    let tree = open_tree(CWD, path, flags).map_err(io::Error::from).map_err(at(what()))?;
    set_attributes(&tree, attributes, libc::AT_RECURSIVE).map_err(at(what()))?;
    Ok(tree)
}

fn set_attributes(tree: impl AsFd, attributes: u64, flags: libc::c_int) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let argument = [attributes, 0, 0, 0]; // `struct mount_attr`: set, clear, propagation, user namespace.
    let (fd, flags) = (tree.as_fd().as_raw_fd(), libc::AT_EMPTY_PATH | flags);
    let (name, size) = (c"".as_ptr(), size_of_val(&argument));
    // SAFETY: the kernel reads an empty string and a structure of this size, both live.
    let set = unsafe { libc::syscall(libc::SYS_mount_setattr, fd, name, flags, argument.as_ptr(), size) };
    sys::check(set).map(drop)
}

/// What is the cell's own: `/proc`, `/tmp`, a few names.
fn make_own(cell: &Cell, flags: MountFlags) -> io::Result<()> {
    for folder in ["proc", "tmp", "etc", "dev", "var/task"] {
        fs::create_dir_all(folder).map_err(at(format!("make /{folder}")))?;
    }
    let files = (cell.tmp_bytes / BYTES_PER_FILE).max(1024);
    let options = format!("mode=1777,size={},nr_inodes={files}", cell.tmp_bytes);
    mount_new("tmpfs", Path::new("tmp"), flags, &options)?;
    mount_new("proc", Path::new("proc"), flags | MountFlags::NOEXEC, "")?;
    fs::write("etc/passwd", format!("sandbox:x:{INSIDE_ID}:{INSIDE_ID}::/tmp:/bin/sh\n"))?;
    fs::write("etc/group", format!("sandbox:x:{INSIDE_ID}:\n"))?;
    fs::write("etc/hostname", "sandbox\n")?;
    for (name, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(format!("/proc/self/{to}"), format!("dev/{name}"))?;
    }
    Ok(())
}

fn mount_new(kind: &str, target: &Path, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    let mounted = mount(kind, target, kind, flags, options.as_c_str());
    mounted.map_err(io::Error::from).map_err(at(format!("mount {kind} at {}", target.display())))
}

/// Puts a part in its place in the new root, which is the working directory.
fn place(tree: &Tree, target: &Path) -> io::Result<()> {
    let inside: PathBuf = target.components().filter(|part| !matches!(part, Component::RootDir)).collect();
    let what = || format!("show it at {}", target.display());
    if inside.components().any(|part| !matches!(part, Component::Normal(_))) || inside.as_os_str().is_empty()
    {
        return Err(at(what())(io::Error::from(io::ErrorKind::InvalidInput)));
    }
    if let Some(parent) = inside.parent() {
        fs::create_dir_all(parent).map_err(at(what()))?;
    }
    match tree {
        Tree::Link(to) => symlink(to, &inside).map_err(at(what())),
        Tree::Mount(tree) => {
            make_point(tree, &inside).map_err(at(what()))?;
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(tree, "", CWD, &inside, flags).map_err(io::Error::from).map_err(at(what()))
        }
    }
}

/// Something of the same kind to mount over.
fn make_point(tree: &OwnedFd, inside: &Path) -> io::Result<()> {
    let status = rustix::fs::fstat(tree)?;
    if rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir() {
        return fs::create_dir_all(inside);
    }
    File::options().create(true).append(true).open(inside).map(drop)
}
