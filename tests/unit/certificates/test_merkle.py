"""Proofs of membership: they hold for members, for nobody else, and tell nothing of others."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.certificates import merkle

SALT = b"salt" * 8


def test_a_tree_of_three_by_hand() -> None:
    def leaf(record_id: str) -> bytes:
        nonce = hmac.digest(SALT, record_id.encode(), "sha256")
        return hashlib.sha256(b"\0" + nonce + record_id.encode()).digest()

    def node(left: bytes, right: bytes) -> bytes:
        return hashlib.sha256(b"\1" + left + right).digest()

    first, second, third = sorted(leaf(record_id) for record_id in ("a", "b", "c"))
    assert merkle.digests(SALT, ["c", "a", "b"]) == (first, second, third)
    assert merkle.root([first, second, third]) == node(node(first, second), third)
    assert merkle.root([first]) == first
    with pytest.raises(ValueError, match="at least one"):
        merkle.root([])


@given(st.sets(st.text(max_size=5), min_size=1, max_size=40), st.data())
def test_every_member_can_be_proven_and_a_touched_proof_does_not_hold(ids: set[str], data: st.DataObject) -> None:
    members = sorted(ids)
    one = data.draw(st.sampled_from(members))
    proof = merkle.prove(SALT, members, one)
    assert merkle.holds(proof)
    assert proof.count == len(members)
    for name, value in (
        ("record_id", one + "x"),
        ("nonce", "00" * 32),
        ("index", proof.index + 1),
        ("path", (*proof.path, "00" * 32)),
        ("root", "00" * 32),
    ):
        fields = {key: getattr(proof, key) for key in proof.__slots__} | {name: value}
        assert not merkle.holds(merkle.Proof(**fields)), name
    if proof.path:
        fields = {key: getattr(proof, key) for key in proof.__slots__} | {"path": proof.path[:-1]}
        assert not merkle.holds(merkle.Proof(**fields))


def test_who_is_not_in_the_set_has_no_proof() -> None:
    with pytest.raises(KeyError):
        merkle.prove(SALT, ["a"], "b")


def test_a_nonce_of_one_record_does_not_help_to_guess_another() -> None:
    own = merkle.nonce(SALT, "a")
    assert merkle.digest(own, "b") not in merkle.digests(SALT, ["a", "b"])
    assert merkle.digests(b"other" * 8, ["a"]) != merkle.digests(SALT, ["a"])
