"""Tells of arrays, and of what looks like a module of torch."""

import mmap

import dormouse
import numpy

PAGE = mmap.PAGESIZE
heard = dormouse.status() == "merging"


def told(*objects):
    """How much is told of, and that it is as much as is said."""
    before = dormouse.stats().bytes
    count = dormouse.merge(*objects)
    assert dormouse.stats().bytes - before == count
    return count


class Storage:
    def __init__(self, array):
        self.array = array

    def data_ptr(self):
        return self.array.ctypes.data

    def nbytes(self):
        return self.array.nbytes


class Tensor:
    def __init__(self, array, device="cpu"):
        self.array, self.device = array, type("Device", (), {"type": device})

    def data_ptr(self):
        return self.array.ctypes.data

    def untyped_storage(self):
        return Storage(self.array)


class Module:
    def __init__(self, parameters, buffers):
        self._parameters, self._buffers = parameters, buffers

    def parameters(self):
        return iter(self._parameters)

    def buffers(self):
        return iter(self._buffers)


def pages(count):
    """Fresh memory that touches no other."""
    around = mmap.mmap(-1, (count + 2) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return numpy.frombuffer(around, numpy.uint8)[PAGE : -PAGE]


# The same memory in all its shapes is one range.
block = pages(16)
array = block.view(numpy.float64).reshape(64, -1)
print(array.ctypes.data, array.nbytes)
views = [array, array.T, array[::-1], {"some": array[3:9], "odd": (array[:, ::-2],)}]
assert told(*views) == (array.nbytes if heard else 0)
assert dormouse.unmerge(array) == (array.nbytes if heard else 0)

# What holds no whole page is told to nobody, and what has no memory is a mistake.
assert told(array[:1, :3], b"", b"small", [], numpy.float64(1)) == 0
for odd in ["text", 1, object(), [None]]:
    try:
        dormouse.merge(odd)
    except TypeError as error:
        assert "dormouse" in str(error) or "bytes-like" in str(error)
    else:
        raise AssertionError(odd)

# Read-only memory is memory.
mapped, fixed = mmap.mmap(-1, 3 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), bytes(64 * PAGE)
assert told(mapped, fixed) in ([0] if not heard else [66 * PAGE, 67 * PAGE])
mapped.close()  # Nobody holds on to it.

# A module: what a device has is not told of, and parameters that share memory are told of once.
parameters = [Tensor(pages(1)) for _ in range(99)]
module = Module(parameters + parameters[:10] + [Tensor(pages(1), "cuda")], [Tensor(pages(1))])
assert told(module) == (100 * PAGE if heard else 0)

print(dormouse.status())
print("done")
