"""Large files sealed chunk by chunk, so that memory never holds them.

AES-256-GCM over chunks of 1 MiB, after the STREAM construction (Hoang, Reyhanitabar, Rogaway & Vizár 2015): the nonce
counts the chunks and marks the last, so none can be changed, moved, left out or cut off. Each file has a key of its
own, derived from the caller's with a random salt that stands at its beginning.
"""

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
_SALT_BYTES = 32
_TAG_BYTES = 16
_CHUNK_BYTES = 1024 * 1024


def seal_file(source: BinaryIO, target: BinaryIO, *, key: bytes, context: bytes) -> None:
    """Write ``source`` to ``target``, sealed. ``context``: what the content belongs to; needed again for opening."""
    salt = os.urandom(_SALT_BYTES)
    target.write(salt)
    box = _box(key, salt)
    for nonce, chunk in _numbered(source, _CHUNK_BYTES):
        target.write(box.encrypt(nonce, chunk, context))


def open_file(source: BinaryIO, target: BinaryIO, *, key: bytes, context: bytes) -> None:
    """Write to ``target`` what was sealed into ``source``.

    Raises ``ValueError`` when it was sealed under another key or for another context, or is not whole; what has been
    written until then is to be thrown away.
    """
    box = _box(key, source.read(_SALT_BYTES))
    for nonce, chunk in _numbered(source, _CHUNK_BYTES + _TAG_BYTES):
        try:
            target.write(box.decrypt(nonce, chunk, context))
        except InvalidTag:
            raise ValueError("the sealed file does not open with this key, or is damaged") from None


def _box(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), KEY_BYTES, salt=salt, info=b"unlearn/sealed-file").derive(key))


def _numbered(source: BinaryIO, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Chunks with their nonces, at least one: eleven bytes of number, and one that is 1 for the last."""
    number, chunk = 0, source.read(size)
    while following := source.read(size):
        yield number.to_bytes(11, "big") + b"\0", chunk
        number, chunk = number + 1, following
    yield number.to_bytes(11, "big") + b"\1", chunk
