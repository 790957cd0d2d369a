"""Gives the kernel all kinds of advice by the C library, and looks whether the kernel has followed it."""

import ctypes
import errno
import mmap

import dormouse

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def address(memory):
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def flags(memory):
    """What the kernel notes of the mapping with its first page."""
    with open("/proc/self/smaps") as file:
        is_it = False
        for line in file:
            bounds = line.split(" ")[0].split("-")
            if len(bounds) == 2:
                is_it = int(bounds[0], 16) <= address(memory) < int(bounds[1], 16)
            elif is_it and line.startswith("VmFlags:"):
                return line.split()[1:]
    raise AssertionError("no such mapping")


def refused(start, length, advice, code):
    ctypes.set_errno(0)
    assert libc.madvise(start, length, advice) == -1, (start, length, advice)
    assert ctypes.get_errno() == code, errno.errorcode[ctypes.get_errno()]


memory = mmap.mmap(-1, 5 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = address(memory)

# Advice that the kernel follows at once, and shows.
memory[:] = b"x" * len(memory)
memory.madvise(mmap.MADV_DONTNEED)
assert memory[:] == bytes(len(memory)), "emptied"
for name, opposite, flag in [("DONTFORK", "DOFORK", "dc"), ("DONTDUMP", "DODUMP", "dd"), ("SEQUENTIAL", "NORMAL", "sr")]:
    memory.madvise(getattr(mmap, f"MADV_{name}"))
    assert flag in flags(memory), (name, flags(memory))
    memory.madvise(getattr(mmap, f"MADV_{opposite}"))
    assert flag not in flags(memory), (opposite, flags(memory))

# What cannot be is refused as ever, and what can leaves `errno` alone.
refused(start + 1, PAGE, mmap.MADV_MERGEABLE, errno.EINVAL)
refused(start, PAGE, 9999, errno.EINVAL)
refused(start + 1, PAGE, mmap.MADV_DONTNEED, errno.EINVAL)
refused(start, (1 << 64) - PAGE, mmap.MADV_MERGEABLE, errno.EINVAL)
refused(0, PAGE, mmap.MADV_WILLNEED, errno.ENOMEM)
ctypes.set_errno(errno.EXDEV)
assert libc.madvise(start, 0, mmap.MADV_MERGEABLE) == 0
assert ctypes.get_errno() == errno.EXDEV

# A length is rounded up.
assert libc.madvise(start, 4 * PAGE + 1, mmap.MADV_MERGEABLE) == 0
is_marked = "mg" in flags(memory)
assert libc.madvise(start, PAGE, mmap.MADV_UNMERGEABLE) == 0
assert "mg" not in flags(memory)
print(start, len(memory))
print(f"marked: {is_marked}, {dormouse.status()}")
