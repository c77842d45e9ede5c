"""Tokens, masks and losses of language models."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from core.evaluation.observations import TokenAnswers
from core.unlearning.failures import BadRecord, UnlearningError
from core.unlearning.records import Record
from core.unlearning.text import TextFamily

WORDS = {"<eos>": 0, "who": 1, "ada": 2, "bob": 3, "<bos>": 4, "?": 5}
EOS = 0


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(WORDS, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<eos>", bos_token="<bos>", unk_token="?")


def family(
    columns: dict[str, str] | None = None, *, template: str = "{prompt} ", limit: int | None = None
) -> TextFamily:
    columns = columns or {"prompt": "q", "response": "a"}
    return TextFamily(tokenizer(), columns=columns, prompt_template=template, end_token=EOS, max_tokens=limit)


def record(**values: Any) -> Record:
    return Record("part-0.parquet", 7, values)


def test_the_prompt_is_not_scored_and_the_end_token_is() -> None:
    example = family().encode(record(q="who ada", a="bob"))
    assert example.values.tolist() == [1, 2, 3, EOS]
    assert example.labels.tolist() == [-100, -100, 3, EOS]


def test_the_template_is_rendered_around_the_prompt() -> None:
    example = family(template="who {prompt} who").encode(record(q="{ada}", a="bob"))
    assert example.values.tolist() == [1, 5, 1, 3, EOS]


def test_plain_text_is_scored_from_its_second_token() -> None:
    example = family({"text": "t"}).encode(record(t="who ada"))
    assert example.values.tolist() == [1, 2, EOS]
    assert example.labels.tolist() == [-100, 2, EOS]


def test_too_long_records_lose_the_beginning_of_their_prompt_first() -> None:
    example = family(limit=4).encode(record(q="who who ada", a="bob bob"))
    assert example.values.tolist() == [2, 3, 3, EOS]
    assert example.labels.tolist() == [-100, 3, 3, EOS]


def test_then_the_end_of_their_response() -> None:
    example = family(limit=3).encode(record(q="who ada", a="bob bob bob"))
    assert example.values.tolist() == [2, 3, 3]


@pytest.mark.parametrize("values", [{"q": "who", "a": None}, {"q": 3, "a": "bob"}, {"a": "bob"}])
def test_what_is_no_text_is_named_by_place(values: dict[str, Any]) -> None:
    with pytest.raises(BadRecord, match=r"row 7 of part-0\.parquet"):
        family().encode(record(**values))


def test_an_empty_text_cannot_be_scored() -> None:
    with pytest.raises(BadRecord, match="no text that could be scored"):
        family({"text": "t"}).encode(record(t=""))


def test_a_dataset_without_text_is_refused() -> None:
    with pytest.raises(UnlearningError, match="'response' or for 'text'"):
        family({"prompt": "q"})


OTHERS = {"prompt": "q", "response": "a", "paraphrase": "p", "perturbed": "w"}


def test_other_answers_are_encoded_behind_the_same_prompt() -> None:
    made = family(OTHERS)
    found = made.variants(record(q="who", a="ada", p="ada ada", w=["bob", "bob bob"]))
    assert made.variant_columns == ["p", "w"]
    assert found is not None
    assert found.paraphrase.values.tolist() == [1, 2, 2, EOS]
    assert [example.values.tolist() for example in found.perturbed] == [[1, 3, EOS], [1, 3, 3, EOS]]


@pytest.mark.parametrize("missing", [{"p": None}, {"w": None}, {"w": []}])
def test_a_record_may_lack_other_answers(missing: dict[str, Any]) -> None:
    assert family(OTHERS).variants(record(**{"q": "who", "a": "ada", "p": "ada", "w": ["bob"], **missing})) is None
    assert family().variant_columns == []


def test_records_are_padded_on_the_right_and_masked() -> None:
    examples = [family().encode(record(q="who", a=answer)) for answer in ("ada", "ada bob ada")]
    batch = family().collate(examples, torch.device("cpu"))
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.labels[0].tolist() == [-100, 2, EOS, -100, -100]


class Fixed(nn.Module):
    """Says ``ada`` after every token, with probability 1/2, and every other word with 1/10."""

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        odds = torch.full((len(WORDS),), 0.1)
        odds[2] = 0.5
        return SimpleNamespace(logits=odds.log().expand(*input_ids.shape, -1))


def test_losses_are_means_over_scored_tokens_counted_by_hand() -> None:
    examples = [family().encode(record(q="who who", a="ada")), family().encode(record(q="who", a="ada ada bob"))]
    scores = family().score(Fixed(), family().collate(examples, torch.device("cpu")))
    half, tenth = math.log(2), math.log(10)
    torch.testing.assert_close(scores.losses, torch.tensor([(half + tenth) / 2, (2 * half + 2 * tenth) / 4]))
    assert scores.correct.tolist() == [1, 2]
    assert scores.counted.tolist() == [2, 4]


def test_answers_are_those_that_the_losses_are_of() -> None:
    examples = [family().encode(record(q="who", a=answer)) for answer in ("ada", "ada bob ada")]
    batch = family().collate(examples, torch.device("cpu"))
    logits = torch.randn(2, batch.labels.shape[1], len(WORDS), generator=torch.Generator().manual_seed(0))
    model: Any = lambda **_: SimpleNamespace(logits=logits)  # noqa: E731
    answers, scores = family().answers(model, batch), family().score(model, batch)
    assert answers.scored.sum(dim=1).tolist() == scores.counted.tolist() == [2, 4]
    right = batch.labels[:, 1:].clamp(min=0)[..., None]
    given = answers.log_probabilities.gather(2, right)[..., 0] * answers.scored
    torch.testing.assert_close(-given.sum(dim=1) / scores.counted, scores.losses)


def test_what_is_observed_lies_behind_the_scores() -> None:
    examples = [family().encode(record(q="who who", a="ada")), family().encode(record(q="who", a="ada ada bob"))]
    batch = family().collate(examples, torch.device("cpu"))
    seen, scores = family().observe(Fixed(), batch), family().score(Fixed(), batch)
    assert seen.scores.losses.tolist() == pytest.approx(scores.losses.tolist())
    assert isinstance(seen.answers, TokenAnswers)
    half, tenth = -math.log(2), -math.log(10)
    assert seen.answers.lengths.tolist() == [2, 4]
    assert seen.answers.log_probabilities.tolist() == pytest.approx([half, tenth, half, half, tenth, tenth])
    assert seen.answers.right.tolist() == [True, False, True, True, False, False]
    mean = 0.5 * half + 0.5 * tenth  # one word of probability 1/2, five of 1/10
    assert seen.answers.expected.tolist() == pytest.approx([mean] * 6)
    assert seen.answers.spread.tolist() == pytest.approx([0.5 * math.log(5)] * 6)  # both a half of log 5 away
