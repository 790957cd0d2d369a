import ctypes
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *arguments):
    """Raises what the kernel says."""
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def read(path):
    with open(path, "rb") as file:
        return str(file.read(64))


def write(path):
    with open(path, "wb") as file:
        file.write(b"x")
    return "written"


def connect_abstract():
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as made:
        return str(made)


def connect(host, port):
    """What is said there to who asks for an invocation."""
    with socket.create_connection((host, port), timeout=5) as made:
        made.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = made.recv(64)
        if not answer:
            raise ConnectionResetError("closed without a word")
        return str(answer)


def connect_unix(name):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.connect("\0" + name)
        return name


def attempts(event):
    pid, node = event["pid"], event["node"]
    for host, port in event["addresses"]:
        yield f"connect to {host}:{port}", lambda host=host, port=port: connect(host, port)
    for name in event["abstract"]:
        yield f"connect to {name}", lambda name=name: connect_unix(name)
    for path in event["files"]:
        yield f"list {path}", lambda path=path: os.listdir(path)
    for number in (pid, node, 1):
        for name in ("environ", "mem", "fd", "root", "cwd", "exe"):
            path = f"/proc/{number}/{name}"
            if name == "fd":
                yield path, lambda path=path: os.listdir(path)
            elif name in ("root", "cwd", "exe"):
                yield path, lambda path=path: os.readlink(path)
            else:
                yield path, lambda path=path: read(path)
        yield f"kill {number}", lambda number=number: os.kill(number, 9) or (number == 1 and dead())
        yield f"attach {number}", lambda number=number: syscall(101, 16, number, 0, 0)
        yield f"read memory of {number}", lambda number=number: syscall(310, number, 0, 0, 0, 0, 0)
    yield "secret", lambda: read("/tmp/secret")
    for path in ("/x", "/usr/x", "/var/task/x", "/etc/passwd", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger"):
        yield f"write {path}", lambda path=path: write(path)
    for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/userfaultfd", "/dev/fuse", "/etc/shadow", "/proc/kcore"):
        yield f"read {path}", lambda path=path: read(path)
    yield "mknod", lambda: os.mknod("/tmp/device", 0o600 | 0o060000, os.makedev(254, 0))
    yield "become root", lambda: os.setuid(0)
    yield "chroot", lambda: os.chroot("/tmp")
    yield "ptrace", lambda: syscall(101, 0, 0, 0, 0)
    yield "mount", lambda: syscall(165, b"none", b"/tmp", b"tmpfs", 0, 0)
    yield "unmount", lambda: syscall(166, b"/tmp", 2)
    yield "unshare user", lambda: syscall(272, 0x10000000)
    yield "unshare files", lambda: syscall(272, 0x00020000)
    yield "clone user", lambda: syscall(56, 0x10000000 | 17, 0, 0, 0, 0)
    yield "clone3", lambda: syscall(435, 0, 0)
    yield "setns", lambda: syscall(308, 0, 0)
    yield "userfaultfd", lambda: syscall(323, 1)
    yield "keyctl", lambda: syscall(250, 0, -3, 1, 0, 0)
    yield "add_key", lambda: syscall(248, b"user", b"x", b"x", 1, -3)
    yield "bpf", lambda: syscall(321, 0, 0, 0)
    yield "perf", lambda: syscall(298, 0, 0, -1, -1, 0)
    yield "io_uring", lambda: syscall(425, 1, 0)
    yield "hostname", lambda: syscall(170, b"x", 1)
    yield "handle", lambda: syscall(304, 0, 0, 0)
    yield "module", lambda: syscall(313, 0, b"", 0)
    yield "vsock", connect_abstract
    yield "alg", lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0).fileno()
    yield "raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).fileno()
    yield "packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).fileno()


def dead():
    raise OSError("the first process of a cell does not hear of it")


def lambda_handler(event, context):
    outcomes = {}
    for name, attempt in attempts(event):
        try:
            outcomes[name] = f"got {attempt()!r}"
        except OSError:
            outcomes[name] = "refused"
    return outcomes
