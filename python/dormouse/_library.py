"""libdormouse.so, as `dormouse.h` describes it."""

import ctypes
import os
from typing import List, NamedTuple, Optional, Tuple

_FILE = "libdormouse.so"


class Stats(NamedTuple):
    """What this process has told the agent so far."""

    messages: int = 0
    ranges: int = 0
    bytes: int = 0
    refused: int = 0
    lost: int = 0
    unheard: int = 0
    listening: int = 0


class _Stats(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in Stats._fields]


class _Range(ctypes.Structure):
    _fields_ = [("addr", ctypes.c_void_p), ("len", ctypes.c_size_t)]


def _find() -> Optional[ctypes.CDLL]:
    """Where DORMOUSE_LIB says; else what is loaded already, so that there is one library with one count; else beside us."""
    named = os.environ.get("DORMOUSE_LIB")
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), _FILE)
    for place in [named] if named else [None, beside]:
        try:
            library = ctypes.CDLL(place)
            library.dormouse_status.restype = ctypes.c_char_p
            return library
        except (OSError, AttributeError):
            pass
    return None


class Library:
    """The library, or none: then it says so, and does nothing."""

    def __init__(self) -> None:
        self._library = _find()
        if self._library is not None:
            arguments = [ctypes.POINTER(_Range), ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)]
            self._library.dormouse_advise_ranges.argtypes = arguments
            self._library.dormouse_unadvise_ranges.argtypes = arguments
            self._library.dormouse_stats.argtypes = [ctypes.POINTER(_Stats)]

    def advise(self, ranges: List[Tuple[int, int]]) -> int:
        return self._tell("dormouse_advise_ranges", ranges)

    def unadvise(self, ranges: List[Tuple[int, int]]) -> int:
        return self._tell("dormouse_unadvise_ranges", ranges)

    def _tell(self, function: str, ranges: List[Tuple[int, int]]) -> int:
        if self._library is None or not ranges:
            return 0
        told = ctypes.c_size_t()
        # What went wrong is counted in `stats`; advice is no reason to fail.
        getattr(self._library, function)((_Range * len(ranges))(*ranges), len(ranges), ctypes.byref(told))
        return told.value

    def status(self) -> str:
        return "no library" if self._library is None else self._library.dormouse_status().decode()

    def stats(self) -> Stats:
        filled = _Stats()
        if self._library is not None:
            self._library.dormouse_stats(ctypes.byref(filled))
        return Stats(*(getattr(filled, name) for name in Stats._fields))


LIBRARY = Library()
