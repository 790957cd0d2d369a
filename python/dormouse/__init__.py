"""Tells dormouse which memory of this program is worth merging: what other sandboxes of the same function have, too.

    import dormouse
    dormouse.merge(model)            # a torch.nn.Module: its parameters and buffers
    dormouse.merge(table)            # a numpy array, bytes, an mmap: whatever has a buffer
    dormouse.merge([a, {"b": b}])    # lists, tuples and dicts of those
    dormouse.status()                # "merging", "no agent", "off" or "no library"

A call sends a message for every 64 ranges of memory and returns; nobody waits for what becomes of it. Where nobody merges
it does nothing. Merging never changes what memory holds.
"""

from typing import Any

from ._library import LIBRARY, Stats
from ._memory import ranges_of

__all__ = ["Stats", "merge", "stats", "status", "unmerge"]


def merge(*objects: Any) -> int:
    """Says that the memory of these objects may be merged; of how many bytes the agent was told.

    0 where nobody listens, and for what holds no whole page. TypeError: something has no memory that could be told of.
    """
    return LIBRARY.advise(ranges_of(objects))


def unmerge(*objects: Any) -> int:
    """Says that the memory of these objects is to be left alone from now on; of how many bytes the agent was told."""
    return LIBRARY.unadvise(ranges_of(objects))


def status() -> str:
    """Whether advice leads to anything now.

    "merging"; "no agent": nobody listens where one should; "off": this program was not given an agent; "no library":
    libdormouse.so was not found.
    """
    return LIBRARY.status()


def stats() -> Stats:
    """What this process has told the agent so far."""
    return LIBRARY.stats()
