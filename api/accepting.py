"""Which of several forms of an answer a caller wants."""

from collections.abc import Sequence

from api.errors import NotAcceptable


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The first media type of ``accept`` that is ``offered``; the first offer for ``*/*``, or when nothing is asked.

    Quality values are not weighed. Raises ``NotAcceptable``.
    """
    for wanted in (part.partition(";")[0].strip().lower() for part in accept.split(",")):
        for one in offered:
            if wanted in ("", "*/*", one) or (wanted.endswith("/*") and one.startswith(wanted[:-1])):
                return one
    raise NotAcceptable(f"This is given as {', '.join(offered)}.")
