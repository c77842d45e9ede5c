"""Split words, fingerprints, identities and column maps."""

import pytest

from core.datasets.columns import ColumnMap, check_columns
from core.datasets.errors import InvalidColumns
from core.datasets.fingerprint import fingerprint
from core.datasets.identities import identity_digests
from core.datasets.splits import split_of
from core.platform.secrets import Keyring
from core.unlearning.job import StoredFile


@pytest.mark.parametrize("word", ["train", "training", "TRAIN", " Train "])
def test_words_for_what_was_trained_on(word: str) -> None:
    assert split_of(word) == "train"


@pytest.mark.parametrize("word", ["test", "holdout", "validation", "eval", "Test"])
def test_words_for_what_was_held_out(word: str) -> None:
    assert split_of(word) == "test"


@pytest.mark.parametrize("word", ["", "trains", "dev", "0"])
def test_other_words_mean_neither(word: str) -> None:
    assert split_of(word) is None


A = StoredFile("a", "s3://x/a", 1, "1" * 64)
B = StoredFile("b", "s3://x/b", 2, "2" * 64)


def test_a_fingerprint_is_of_content_and_columns_only() -> None:
    columns = {"record_id": "id", "text": "t"}
    base = fingerprint([A, B], columns)
    moved = StoredFile("a", "s3://elsewhere/a", 1, "1" * 64)
    assert fingerprint([B, moved], dict(reversed(columns.items()))) == base
    assert len(base) == 64
    renamed = StoredFile("c", "s3://x/a", 1, "1" * 64)
    changed = StoredFile("a", "s3://x/a", 1, "3" * 64)
    others = [([renamed, B], columns), ([changed, B], columns), ([A], columns), ([A, B], {**columns, "text": "u"})]
    assert len({base, *(fingerprint(files, cols) for files, cols in others)}) == 5


def test_spellings_of_one_address_have_one_digest() -> None:
    keys = Keyring(b"k" * 32)
    (digest,) = identity_digests(keys, "email", "josé@example.org")
    assert identity_digests(keys, "email", "  JOSE\u0301@Example.ORG ") == (digest,)
    assert len(digest) == 32
    assert identity_digests(keys, "phone", "josé@example.org") != (digest,)
    assert identity_digests(Keyring(b"o" * 32), "email", "josé@example.org") != (digest,)
    assert identity_digests(keys, "customer", "A") != identity_digests(keys, "customer", "a")


IMAGE = ColumnMap("id", image="png", label="y")
TEXT = ColumnMap("id", prompt="q", response="a")


@pytest.mark.parametrize(
    ("columns", "task", "shape"),
    [
        (IMAGE, "image-classification", None),
        (IMAGE, "image-classification", (8, 8, 1)),
        (TEXT, "causal-lm", None),
        (ColumnMap("id", response="a"), "causal-lm", None),
        (ColumnMap("id", text="t", identities={"email": "mail"}), "causal-lm", None),
        (ColumnMap("id", response="a", paraphrase="p", perturbed="w"), "causal-lm", None),
    ],
)
def test_maps_that_fit_their_task(columns: ColumnMap, task: str, shape: tuple[int, int, int] | None) -> None:
    check_columns(columns, task=task, image_shape=shape)


@pytest.mark.parametrize(
    ("columns", "task", "shape", "pointer"),
    [
        (TEXT, "image-classification", None, "/columns/image"),
        (IMAGE, "causal-lm", None, "/columns/response"),
        (ColumnMap("id", image="png"), "image-classification", None, "/columns/label"),
        (IMAGE, "image-classification", (8, 8, 2), "/image_shape"),
        (IMAGE, "image-classification", (0, 8, 1), "/image_shape"),
        (TEXT, "causal-lm", (8, 8, 1), "/image_shape"),
        (ColumnMap("id", prompt="q"), "causal-lm", None, "/columns/response"),
        (ColumnMap("id", text="t", response="a"), "causal-lm", None, "/columns/text"),
        (ColumnMap("id", text="t", identities={"E Mail": "m"}), "causal-lm", None, "/columns/identities"),
        (ColumnMap("id", response="a", paraphrase="p"), "causal-lm", None, "/columns/paraphrase"),
        (ColumnMap("id", text="t", paraphrase="p", perturbed="w"), "causal-lm", None, "/columns/paraphrase"),
        (ColumnMap("id", image="png", label="y", perturbed="w"), "image-classification", None, "/columns/perturbed"),
    ],
)
def test_maps_that_do_not(columns: ColumnMap, task: str, shape: tuple[int, int, int] | None, pointer: str) -> None:
    with pytest.raises(InvalidColumns) as refusal:
        check_columns(columns, task=task, image_shape=shape)
    assert pointer in [problem.pointer for problem in refusal.value.problems]
