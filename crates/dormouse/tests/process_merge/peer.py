# A process with memory of which half is the same in all that have the same first seed: `peer.py COMMON OWN`. Says where it lies, then
# does what it is told, a line each.
import hashlib
import mmap
import random
import sys

PAGE, PAGES = 4096, 1024
common, own = (random.Random(seed) for seed in sys.argv[1:3])
memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(common.randbytes(PAGES // 2 * PAGE) + own.randbytes(PAGES // 2 * PAGE))


def address():
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def churn(times):
    """Writes all over the common half, and looks whether every write is still there."""
    written = {}
    for _ in range(times):
        place, value = own.randrange(PAGES // 2 * PAGE), own.randrange(256)
        memory[place] = value
        written[place] = value
    return "kept" if all(memory[place] == value for place, value in written.items()) else "lost"


def act(words):
    match words:
        case ["sum"]:
            return hashlib.sha256(memory[:]).hexdigest()
        case ["write", page, value]:
            memory[int(page) * PAGE] = int(value)
            return "written"
        case ["churn", times]:
            return churn(int(times))


print(address(), flush=True)
for line in sys.stdin:
    print(act(line.split()), flush=True)
