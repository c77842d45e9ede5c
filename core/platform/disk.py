"""A disk without room, as whoever writes to it says so."""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS = ("No space left on device", "Disk quota exceeded")


def is_full(error: BaseException) -> bool:
    """Whether ``error`` says that there is no room. Libraries that are not Python's give the kernel's words only."""
    return (isinstance(error, OSError) and error.errno in _FULL) or any(word in str(error) for word in _WORDS)
