"""Where the memory of objects lies. Nothing is imported for it: what looks like a tensor or a module is one."""

import ctypes
from typing import Any, Iterable, Iterator, List, Tuple

Range = Tuple[int, int]  # Address and length in bytes.

_STRIDED_READ_ONLY = 0x18  # PyBUF_STRIDES: any layout that can be computed, readable.


class _Buffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("suboffsets", ctypes.POINTER(ctypes.c_ssize_t)),
        ("internal", ctypes.c_void_p),
    ]


_get = ctypes.pythonapi.PyObject_GetBuffer
_get.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_Buffer)]
_release.restype = None


def ranges_of(objects: Iterable[Any]) -> List[Range]:
    """The memory of all these objects, sorted; what touches or overlaps is one range."""
    joined: List[Range] = []
    for start, length in sorted(found for thing in objects for found in _find(thing) if found[1] > 0):
        if joined and start <= sum(joined[-1]):
            before, _ = joined[-1]
            joined[-1] = (before, max(sum(joined[-1]), start + length) - before)
        else:
            joined.append((start, length))
    return joined


def _find(thing: Any) -> Iterator[Range]:
    if isinstance(thing, dict):
        thing = thing.values()
    if isinstance(thing, (list, tuple, type({}.values()))):
        for one in thing:
            yield from _find(one)
    elif callable(getattr(thing, "parameters", None)) and callable(getattr(thing, "buffers", None)):
        for tensor in [*thing.parameters(), *thing.buffers()]:
            yield from _of_tensor(tensor)
    elif callable(getattr(thing, "data_ptr", None)):
        yield from _of_tensor(thing)
    else:
        yield _of_buffer(thing)


def _of_tensor(tensor: Any) -> Iterator[Range]:
    """All of what it is a view of. Memory of other devices is not ours to tell of."""
    if getattr(getattr(tensor, "device", None), "type", "cpu") != "cpu":
        return
    of_storage = getattr(tensor, "untyped_storage", None) or tensor.storage  # The second before torch 2.
    storage = of_storage()
    yield storage.data_ptr(), storage.nbytes()


def _of_buffer(thing: Any) -> Range:
    view = _Buffer()
    try:
        _get(thing, ctypes.byref(view), _STRIDED_READ_ONLY)
    except BufferError as error:
        raise TypeError(f"dormouse.merge: {type(thing).__name__} does not show its memory: {error}") from error
    try:
        return _span(view)
    finally:
        _release(ctypes.byref(view))


def _span(view: _Buffer) -> Range:
    """From its lowest to its highest byte, with what a stride leaves out in between: other memory merges as well."""
    if view.len == 0 or not view.strides or not view.shape:
        return view.buf or 0, view.len
    reaches = [(view.shape[axis] - 1) * view.strides[axis] for axis in range(view.ndim)]
    below = sum(reach for reach in reaches if reach < 0)
    above = sum(reach for reach in reaches if reach > 0)
    return view.buf + below, above - below + view.itemsize
