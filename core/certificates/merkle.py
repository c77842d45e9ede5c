"""Salted digests of record ids and a Merkle tree over them: who was in the set can be shown one id at a time.

A record's *nonce* is HMAC-SHA-256 of its id under the certificate's secret salt, its *digest* is
SHA-256(0x00 ‖ nonce ‖ id). So nobody finds an id by guessing, not even who holds the proof of another id. The tree is
that of RFC 9162, 2.1: over the sorted digests, inner nodes SHA-256(0x01 ‖ left ‖ right), left halves as large as
the largest power of two below the size.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proof:
    """That one record id is in a tree. Digests in hexadecimal, ``path`` from the leaf upwards."""

    record_id: str
    nonce: str
    index: int
    count: int
    path: tuple[str, ...]
    root: str


def nonce(salt: bytes, record_id: str) -> bytes:
    """The record's own salt, from which neither ``salt`` nor another record's can be told."""
    return hmac.digest(salt, record_id.encode(), "sha256")


def digest(nonce: bytes, record_id: str) -> bytes:
    """What stands for the record in public."""
    return hashlib.sha256(b"\0" + nonce + record_id.encode()).digest()


def digests(salt: bytes, record_ids: Iterable[str]) -> tuple[bytes, ...]:
    """The leaves of the tree: sorted digests of the ids."""
    return tuple(sorted(digest(nonce(salt, record_id), record_id) for record_id in record_ids))


def root(leaves: Sequence[bytes]) -> bytes:
    """The hash of the whole tree. Raises ``ValueError`` for a tree without leaves."""
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    if len(leaves) == 1:
        return leaves[0]
    middle = _left(len(leaves))
    return _node(root(leaves[:middle]), root(leaves[middle:]))


def prove(salt: bytes, record_ids: Sequence[str], record_id: str) -> Proof:
    """Show that ``record_id`` is one of ``record_ids``. Raises ``KeyError`` when it is not."""
    if record_id not in record_ids:
        raise KeyError(record_id)
    leaves = digests(salt, record_ids)
    own = nonce(salt, record_id)
    index = leaves.index(digest(own, record_id))
    path = tuple(one.hex() for one in _path(leaves, index))
    return Proof(record_id, own.hex(), index, len(leaves), path, root(leaves).hex())


def holds(proof: Proof) -> bool:
    """Whether the path leads from the record to the root it names (RFC 9162, 2.1.3.2)."""
    try:
        climbed = digest(bytes.fromhex(proof.nonce), proof.record_id)
        path = [bytes.fromhex(one) for one in proof.path]
    except ValueError:
        return False
    place, last = proof.index, proof.count - 1
    if not 0 <= place <= last:
        return False
    for sibling in path:
        if last == 0:
            return False
        if place % 2 or place == last:
            climbed = _node(sibling, climbed)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            climbed = _node(climbed, sibling)
        place, last = place // 2, last // 2
    return last == 0 and climbed.hex() == proof.root


def _path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _left(len(leaves))
    if index < middle:
        return [*_path(leaves[:middle], index), root(leaves[middle:])]
    return [*_path(leaves[middle:], index - middle), root(leaves[:middle])]


def _left(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()
