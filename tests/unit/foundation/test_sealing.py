"""Sealed files open only whole, only with their key, and only for what they were sealed for."""

import io

import pytest

from core.platform import sealing
from core.platform.sealing import open_file, seal_file

KEY, OTHER = b"k" * 32, b"o" * 32
SALT, CHUNK = 32, 8 + 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_CHUNK_BYTES", 8)


def sealed(content: bytes) -> bytes:
    target = io.BytesIO()
    seal_file(io.BytesIO(content), target, key=KEY, context=b"run")
    return target.getvalue()


def opened(content: bytes, *, key: bytes = KEY, context: bytes = b"run") -> bytes:
    target = io.BytesIO()
    open_file(io.BytesIO(content), target, key=key, context=context)
    return target.getvalue()


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 40])
def test_what_was_sealed_is_opened(size: int) -> None:
    content = bytes(range(size))
    found = sealed(content)
    assert opened(found) == content
    assert len(found) == SALT + size + 16 * max(1, -(-size // 8))
    assert size < 2 or content not in found


def test_the_same_content_is_never_sealed_the_same_way() -> None:
    assert sealed(b"x" * 8) != sealed(b"x" * 8)


def chunks(found: bytes) -> tuple[bytes, list[bytes]]:
    return found[:SALT], [found[i : i + CHUNK] for i in range(SALT, len(found), CHUNK)]


def test_whatever_is_changed_is_noticed() -> None:
    whole = sealed(b"0123456789abcdefghijklmn")
    salt, (first, second, third) = chunks(whole)
    damaged = {
        "a bit of the salt": bytes([whole[0] ^ 1]) + whole[1:],
        "a bit of the text": whole[:40] + bytes([whole[40] ^ 1]) + whole[41:],
        "cut off between chunks": salt + first + second,
        "cut off within a chunk": whole[:-1],
        "swapped": salt + second + first + third,
        "left out": salt + first + third,
        "repeated": salt + first + first + third,
        "lengthened": whole + b"x",
        "empty": b"",
    }
    for what, found in damaged.items():
        with pytest.raises(ValueError, match="does not open"):
            pytest.fail(f"opened though {what}: {opened(found)!r}")


def test_another_key_or_context_opens_nothing() -> None:
    found = sealed(b"content")
    for key, context in ((OTHER, b"run"), (KEY, b"another run")):
        with pytest.raises(ValueError, match="does not open"):
            opened(found, key=key, context=context)
