"""From what a model answered to measurements: which records are compared with which, and what is nan."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from core.evaluation.observations import ClassAnswers, Observation, TokenAnswers
from core.evaluation.scores import SetScores
from core.unlearning.controls import draw_placebo
from core.unlearning.measuring import Facts, measure, surprises, targets
from core.unlearning.observing import Look, match
from core.unlearning.record_table import record_rows, worst

NOTHING = Observation.empty()


def classes(
    losses: Sequence[float], labels: Sequence[int] | None = None, right: Sequence[int] | None = None
) -> Observation:
    n = len(losses)
    scores = SetScores(np.array(losses), np.array(right if right is not None else [1] * n), np.ones(n, dtype=np.int64))
    return Observation(scores, ClassAnswers(np.array(labels or [0] * n), -np.array(losses)))


def text(*records: Sequence[float]) -> Observation:
    """Records by the log-probabilities of their tokens; above −1 the token was the likeliest."""
    tokens = np.array([value for record in records for value in record], dtype=np.float32)
    lengths = np.array([len(record) for record in records])
    said = TokenAnswers(tokens, tokens > -1, np.full_like(tokens, -2), np.ones_like(tokens), lengths)
    correct = np.array([sum(value > -1 for value in record) for record in records])
    return Observation(SetScores(np.array([-np.mean(record) for record in records]), correct, lengths), said)


def facts(look: Look, **more: object) -> Facts:
    told = {"pool": np.arange(len(look.retain)), "displacement": 1.0, "owed": 1.0, "seed": 0, **more}
    return Facts(match(look, seed=0), **told)  # pyright: ignore[reportArgumentType]


BEFORE = Look(classes([0.01] * 20), classes([0.01] * 50), classes([1.0] * 20))


def test_a_forget_set_where_strangers_are_is_measured_as_such() -> None:
    after = Look(classes([1.0] * 20), classes([0.01] * 50), classes([1.0] * 20))
    found = {name: estimate.value for name, estimate in measure(BEFORE, after, facts(BEFORE)).items()}
    way = float((surprises(np.array([1.0])) - surprises(np.array([0.01])))[0])
    assert found["promise_kept"] == pytest.approx(way, rel=0.05)  # all of it, but for what the last nats count less
    assert found["gap_closed"] == pytest.approx(1)
    assert (found["specificity"], found["forget_loss_ratio"], found["forget_loss_p95_ratio"]) == (0, 1, 1)
    assert (found["membership_auc_loss"], found["retain_accuracy_drop"], found["holdout_accuracy_drop"]) == (0.5, 0, 0)


def test_beyond_strangers_is_over_forgotten_by_every_measure() -> None:
    after = Look(classes([3.0] * 20), BEFORE.retain, BEFORE.holdout)
    found = measure(BEFORE, after, facts(BEFORE))
    assert found["forget_loss_ratio"].value == pytest.approx(3)
    assert found["forget_loss_p95_ratio"].value == pytest.approx(3)
    assert found["membership_auc_loss"].value == 0
    assert found["gap_closed"].value == 1  # it is not lacking: that it went too far is not this one's to say


def test_the_yardstick_is_between_the_holdout_before_and_now() -> None:
    after = Look(classes([2.0] * 20), BEFORE.retain, classes([4.0] * 20))
    assert measure(BEFORE, after, facts(BEFORE))["forget_loss_ratio"].value == pytest.approx(2 / math.sqrt(1 * 4))
    goals = targets(BEFORE, after, match(BEFORE, seed=0))
    assert goals is not None
    assert goals.tolist() == pytest.approx([2.0] * 20)


def test_only_records_with_a_match_are_compared_with_strangers() -> None:
    labels = [0] * 9 + [1]
    before = Look(classes([0.01] * 10, labels), classes([0.01] * 50), classes([1.0] * 9 + [50.0], [0] * 9 + [2]))
    after = Look(classes([1.0] * 9 + [0.01], labels), before.retain, before.holdout)
    assert measure(before, after, facts(before))["forget_loss_ratio"].value == pytest.approx(1)


def test_without_a_holdout_what_needs_one_is_not_measured() -> None:
    before = Look(BEFORE.forget, BEFORE.retain, NOTHING)
    found = measure(before, before, facts(before))
    assert set(found) == {"displacement", "gap_closed", "specificity", "promise_kept", "retain_accuracy_drop"}
    assert not found["gap_closed"].known


def test_where_nothing_was_promised_no_promise_was_kept() -> None:
    assert not measure(BEFORE, BEFORE, facts(BEFORE, owed=0.0))["promise_kept"].known
    assert "promise_kept" not in measure(BEFORE, BEFORE, facts(BEFORE, owed=None))


def test_text_is_measured_by_its_tokens() -> None:
    known, guessed = (-0.1, -0.1, -0.1, -0.1), (-3.0, -0.1, -3.0, -0.1)
    before = Look(text(*[known] * 4), text(known, known), text(*[guessed] * 4))
    found = measure(before, before, facts(before))
    assert found["memorisation_gap"].value == pytest.approx(1 - 0.5)
    assert found["extraction_gap"].value == pytest.approx(1 - 0.25)
    assert found["membership_auc_min_k"].value == found["membership_auc_min_k_plus"].value == 1
    assert found["retain_perplexity_ratio"].value == 1
    after = Look(before.forget, text([value - 0.1 for value in known], known), before.holdout)
    assert measure(before, after, facts(before))["retain_perplexity_ratio"].value == pytest.approx(math.exp(0.05))


def test_text_is_matched_by_length() -> None:
    look = Look(text([-1.0] * 4), text([-1.0]), text([-1.0] * 40, [-1.0] * 4))
    assert match(look, seed=0).holdout.tolist() == [1]


def test_rows_say_where_each_record_lies_and_the_best_known_come_first() -> None:
    after = Look(classes([3.0, 0.5, 0.5], right=[0, 1, 1]), BEFORE.retain, classes([1.0, 2.0]))
    before = Look(classes([0.3, 0.1, 0.2]), BEFORE.retain, classes([1.0, 2.0]))
    rows = record_rows(
        before, after, holdout=np.array([1.0, 2.0]), targets=np.array([2.0, 1.0, 1.5]), record_ids=["a", "b", "c"]
    )
    assert [row["record_id"] for row in rows] == ["b", "c", "a"]
    assert [row["percentile"] for row in rows] == [0, 0, 1]
    assert rows[2] == {
        "record_id": "a",
        "loss_before": 0.3,
        "loss_after": 3.0,
        "correct_before": 1.0,
        "correct_after": 0.0,
        "target": 2.0,
        "percentile": 1.0,
    }
    assert worst(rows)[0] == {"record_id": "b", "loss_before": 0.1, "loss_after": 0.5, "target": 1.0, "percentile": 0.0}


@pytest.mark.parametrize(
    ("retain", "forget", "judged", "pool"), [(2000, 20, 20, 480), (2000, 400, 400, 400), (30, 20, 15, 15), (1, 5, 0, 1)]
)
def test_the_placebo_is_drawn_apart_from_its_pool(retain: int, forget: int, judged: int, pool: int) -> None:
    drawn = draw_placebo(retain, forget, seed=3)
    assert (len(drawn.judged), len(drawn.pool)) == (judged, pool)
    assert not set(drawn.judged.tolist()) & set(drawn.pool.tolist())
    assert draw_placebo(retain, forget, seed=3).pool.tolist() == drawn.pool.tolist()
