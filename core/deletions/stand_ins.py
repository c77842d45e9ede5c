"""Who is known in a sandbox: everybody, by records that are made up when they are asked for.

A stand-in keeps no identity either, only its keyed digest as everywhere. What is to become of a request is written in
the ids of its records: they begin with the magic word that the caller used, or with ``person``.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlalchemy.orm import Session

from core.datasets.identities import IdentityDigests, identity_digests
from core.datasets.records import IndexRow, Records
from core.deletions.commands import Identity, SubmitDeletion
from core.platform.ids import uuid7
from core.platform.secrets import Keyring

DATASET: Final = "sandbox-records"
"""Name of the data set that every sandbox has. Its records are the stand-ins."""


class Word(StrEnum):
    """How an identity, a subject id or a record id begins that forces an outcome."""

    FAIL = "fail"
    SLOW = "slow"
    REVIEW = "review"
    NOT_FOUND = "notfound"


_BEGINS: Final = re.compile(rf"({'|'.join(Word)})(?![a-z])")
_HASHES: Final = {hashlib.sha256(f"{word}@example.com".encode()).hexdigest(): word for word in Word}
"""Nothing else can be read from a hash."""


@dataclass(frozen=True, slots=True)
class _StandIn:
    row: IndexRow
    identities: tuple[tuple[str, bytes], ...] = ()


def word_of(text: str) -> Word | None:
    """The magic word that ``text`` begins with, as in ``fail@example.com`` and ``slow-17``; case does not matter."""
    found = _BEGINS.match(text.strip().lower())
    return Word(found[1]) if found else None


def introduce(tx: Session, dataset_id: str, command: SubmitDeletion, keyring: Keyring) -> None:
    """Make a record for each subject and record id of the command, and one for its identities together.

    Nobody is known under ``notfound``, and a subject with a record that is not erased gets no other. Call it where
    two transactions cannot do so at once.
    """
    new = [
        *_records(tx, dataset_id, command.record_ids),
        *_subjects(tx, dataset_id, command.subject_ids),
        *_person(tx, dataset_id, command.identities, keyring),
    ]
    records = Records(tx)
    tx.flush()
    records.copy_in(dataset_id, 0, [one.row for one in new])
    for one in new:
        for kind, digest in one.identities:
            records.copy_identities(dataset_id, kind, keyring.key_id, [(one.row.record_id, digest)])


def _records(tx: Session, dataset_id: str, record_ids: Sequence[str]) -> list[_StandIn]:
    unknown = Records(tx).resolve(dataset_id, record_ids).unknown
    names = dict.fromkeys(record_ids[place] for place in unknown)
    return [_stand_in(None, record_id=name) for name in names if word_of(name) != Word.NOT_FOUND]


def _subjects(tx: Session, dataset_id: str, subject_ids: Sequence[str]) -> list[_StandIn]:
    known = (name for name in dict.fromkeys(subject_ids) if word_of(name) != Word.NOT_FOUND)
    return [
        _stand_in(word_of(name), subject_id=name)
        for name in known
        if all(record.state == "erased" for record in Records(tx).of_subjects(dataset_id, [name]))
    ]


def _person(tx: Session, dataset_id: str, identities: Sequence[Identity], keyring: Keyring) -> list[_StandIn]:
    words = {one: _word_of_identity(one) for one in identities}
    known = [one for one, word in words.items() if word != Word.NOT_FOUND]
    digests = tuple(
        {
            (one.type, digest)
            for one in known
            for digest in identity_digests(keyring, one.type, one.value, hashed=one.hashed)
        }
    )
    if not known or any(record.state != "erased" for record in Records(tx).of_identities(dataset_id, digests)):
        return []
    made = IdentityDigests(keyring)
    kept = tuple({(one.type, made.of(one.type, one.value, hashed=one.hashed)) for one in known})
    return [_stand_in(next((words[one] for one in known if words[one]), None), identities=kept)]


def _word_of_identity(identity: Identity) -> Word | None:
    return _HASHES.get(identity.value.lower()) if identity.hashed else word_of(identity.value)


def _stand_in(
    word: Word | None,
    *,
    record_id: str | None = None,
    subject_id: str | None = None,
    identities: tuple[tuple[str, bytes], ...] = (),
) -> _StandIn:
    name = record_id or f"{word or 'person'}-{uuid7().hex}"
    return _StandIn(IndexRow(name, subject_id, "train", 0), identities)
