"""What a certificate says of a run, and what it must never say."""

from core.certificates import merkle
from core.certificates.canonical import canonical
from core.certificates.claims import MOST_DIGESTS, build
from tests.builders.evidence import AT, ISSUER, SALT, claims, facts


def test_no_record_id_stands_in_the_claims() -> None:
    made = claims()
    assert b"r-1" not in canonical(made)
    worst = made["metrics"]["worst_records"][0]
    assert worst["digest"] == merkle.digest(merkle.nonce(SALT, "r-1"), "r-1").hex()
    assert worst["digest"] in made["records"]["digests"]
    assert worst["loss_after"] == 0.2


def test_the_same_records_have_other_digests_in_another_certificate() -> None:
    other = build(facts(), id="crt_2", issuer=ISSUER, salt=b"t" * 32, at=AT)
    assert not set(other["records"]["digests"]) & set(claims()["records"]["digests"])


def test_many_records_appear_by_their_root_alone() -> None:
    known = facts()
    many = [f"r-{i}" for i in range(MOST_DIGESTS + 1)]
    for count, listed in ((MOST_DIGESTS, True), (MOST_DIGESTS + 1, False)):
        some = type(known)(**{**{n: getattr(known, n) for n in known.__slots__}, "record_ids": many[:count]})
        records = build(some, id="crt_2", issuer=ISSUER, salt=SALT, at=AT)["records"]
        assert (records["count"], records["digests"] is not None) == (count, listed)
        assert records["root"] == merkle.root(merkle.digests(SALT, many[:count])).hex()


def test_the_parameters_stand_once_and_the_code_by_itself() -> None:
    made = claims()
    assert "parameters" not in made["policy"]["settings"]
    assert (made["method"], made["seed"], made["parameters"]["learning_rate"]) == ("hamu-q", 7, 1e-3)
    assert made["code"] == {"version": "0.1.0", "commit": None}
    assert made["worker"] == {"device": "cpu", "torch": "2", "threads": 1}


def test_the_targets_that_were_missed_are_said() -> None:
    missed = {"name": "membership_auc", "value": 0.41, "limit": 0.45, "reason": "No steps left."}
    assert claims()["run"]["unmet_targets"] == []
    assert claims(stop_reason="targets_unmet", unmet_targets=[missed])["run"]["unmet_targets"] == [missed]
