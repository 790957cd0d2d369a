//! A filter of system calls: what a function in a cell has no use for, and attackers have.
//!
//! It names what is refused, not what is allowed, so that programs of any kind run. What dormouse itself has run in a
//! stopped process (`mmap`, `munmap`, `madvise`, `process_madvise`, `close`) must stay allowed: only root can suspend a
//! filter.

use std::io;

use crate::sys;

/// Refused with `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // What is seen of the machine.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    // Parts of the kernel that exploits are made of. A process that watches its own memory could not sleep, either.
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_lookup_dcookie,
    libc::SYS_syslog,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_vhangup,
];

/// Refused with `ENOSYS`, as on an older kernel: programs then do without.
const UNKNOWN: &[libc::c_long] = &[
    libc::SYS_clone3, // A filter cannot see what it asks for; the C library falls back to `clone`.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_memfd_secret, // Nobody could put it to sleep.
];

/// A thread or process, but no namespaces.
const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// Sockets to the hypervisor, and into the kernel's ciphers.
const SOCKETS: [u32; 2] = [libc::AF_VSOCK as u32, libc::AF_ALG as u32];

/// Typing into a terminal as if the user had done so.
const TERMINAL: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;

/// From here on numbers are those of x32 programs, of which there are none.
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`; of arguments, the lower half.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const fn argument_at(index: u32) -> u32 {
    16 + 8 * index
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const SAY_UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Puts the filter on the calling thread, and all that it becomes and starts. It must have given up the right to get new
/// rights.
pub(crate) fn install() -> io::Result<()> {
    let program = program();
    let head = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the head and as many instructions as it says, all live.
    sys::check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const head) })
        .map(drop)
}

fn program() -> Vec<libc::sock_filter> {
    let mut program = Vec::new();
    program.push(load(ARCH_AT));
    unless(&mut program, IF_EQUAL, ARCH, libc::SECCOMP_RET_KILL_PROCESS);
    program.push(load(NUMBER_AT));
    when(&mut program, IF_AT_LEAST, X32, SAY_UNKNOWN);
    for (numbers, answer) in [(REFUSED, REFUSE), (UNKNOWN, SAY_UNKNOWN)] {
        numbers.iter().for_each(|number| when(&mut program, IF_EQUAL, *number as u32, answer));
    }
    for (number, argument, test, values) in [
        (libc::SYS_clone, 0, IF_ANY_BIT, &[NAMESPACES][..]),
        (libc::SYS_socket, 0, IF_EQUAL, &SOCKETS),
        (libc::SYS_ioctl, 1, IF_EQUAL, &TERMINAL),
    ] {
        // Past the load, the tests and the return, if it is another call.
        let skip = 1 + 2 * values.len() as u8 + 1;
        program.push(step(IF_EQUAL, number as u32, 0, skip));
        program.push(load(argument_at(argument)));
        values.iter().for_each(|value| when(&mut program, test, *value, REFUSE));
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    program
}

fn step(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn load(at: u32) -> libc::sock_filter {
    step(LOAD, at, 0, 0)
}

fn when(program: &mut Vec<libc::sock_filter>, test: u16, value: u32, answer: u32) {
    program.extend([step(test, value, 0, 1), step(RETURN, answer, 0, 0)]);
}

fn unless(program: &mut Vec<libc::sock_filter>, test: u16, value: u32, answer: u32) {
    program.extend([step(test, value, 1, 0), step(RETURN, answer, 0, 0)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by the few instructions that it has.
    fn answer(arch: u32, number: i64, arguments: [u32; 2]) -> u32 {
        let program = program();
        let (mut at, mut word) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let mut jump = |is_true| at += usize::from(if is_true { step.jt } else { step.jf });
            match step.code {
                LOAD => {
                    word = match step.k {
                        NUMBER_AT => number as u32,
                        ARCH_AT => arch,
                        k if k == argument_at(0) => arguments[0],
                        k if k == argument_at(1) => arguments[1],
                        k => panic!("loads {k}"),
                    }
                }
                IF_EQUAL => jump(word == step.k),
                IF_AT_LEAST => jump(word >= step.k),
                IF_ANY_BIT => jump(word & step.k != 0),
                RETURN => return step.k,
                code => panic!("code {code}"),
            }
        }
    }

    #[test]
    fn what_is_dangerous_is_refused_and_the_rest_is_not() {
        let of = |number, arguments| answer(ARCH, number, arguments);
        assert_eq!(of(libc::SYS_mount, [0, 0]), REFUSE);
        assert_eq!(of(libc::SYS_vhangup, [0, 0]), REFUSE);
        assert_eq!(of(libc::SYS_clone3, [0, 0]), SAY_UNKNOWN);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_NEWUSER as u32, 0]), REFUSE);
        assert_eq!(of(libc::SYS_clone, [libc::CLONE_VM as u32, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(of(libc::SYS_socket, [libc::AF_ALG as u32, 0]), REFUSE);
        assert_eq!(of(libc::SYS_socket, [libc::AF_INET as u32, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(of(libc::SYS_ioctl, [0, libc::TIOCSTI as u32]), REFUSE);
        assert_eq!(of(libc::SYS_ioctl, [libc::TIOCSTI as u32, 0]), libc::SECCOMP_RET_ALLOW);
        assert_eq!(of(i64::from(X32) + libc::SYS_read, [0, 0]), SAY_UNKNOWN);
        assert_eq!(answer(ARCH + 1, libc::SYS_read, [0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
        for ours in
            [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_madvise, libc::SYS_process_madvise, libc::SYS_close]
        {
            assert_eq!(of(ours, [0, 0]), libc::SECCOMP_RET_ALLOW);
        }
    }
}
