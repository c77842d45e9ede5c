"""Small problems in memory: a data set, an architecture trained on the spot, and forget sets of graded difficulty."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)

from benchmarks.step_cases import resnet20
from core.unlearning.batches import Example, Family
from core.unlearning.images import ImageFamily
from core.unlearning.preprocessing import Preprocessing
from core.unlearning.records import Record
from core.unlearning.text import TextFamily

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything a problem takes, and the rates that suit its model."""

    batch: int
    """Records of a training minibatch."""
    begun: int
    """Epochs after which the model has just begun to learn, …"""
    under: int
    """… is still learning, …"""
    over: int
    """… and knows its data by heart."""
    peak: float
    """Largest learning rate of the training (AdamW, one cycle)."""
    retain: int
    """Records that the retain gradient of shapes 1 to 3 is taken over."""
    draws: int
    """How often the records to be swapped are drawn for shape 1."""
    gain_rate: float
    """η of shape 2."""
    gain_steps: int
    stop_rate: float
    """η of shape 3."""
    stop_steps: int
    hamu_rates: tuple[float, ...]
    """η of HAMU's plain steps in shape 4 …"""
    peer_rates: tuple[float, ...]
    """… and the rates of the peers' AdamW."""
    front_steps: int
    front_forget: int
    """Records forgotten in shape 4 …"""
    looked_at: int
    """… and retain records on which its cost is measured."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Training records with the group each belongs to; group 0 is what is to be forgotten."""

    name: str
    examples: Sequence[Example]
    groups: Indices
    """(n,) class or tenth of the authors; -1 for twins."""
    family: Family
    build: Callable[[], nn.Module]
    """New weights, from torch's generator."""
    config: PretrainedConfig
    size: Size
    twins: Mapping[int, int] = field(default_factory=dict[int, int])
    """Of records of group 0, by place: the place of another record that says the same."""

    def split(self, rho: float, *, seed: int = 0, most: int | None = None) -> tuple[Indices, Indices]:
        """Forget and retain records for a mixing ratio, of group 0 or of ``most`` of it.

        Without twins a share ``rho`` of the forget set is swapped for records drawn from all that is left, so at 1 it
        is a random sample; what is swapped out is retained. With twins the forget set stays as it is, and the twins of
        a share ``rho`` of it are retained. The forget set keeps its size.
        """
        rng = np.random.default_rng(seed)
        # Three orders that know nothing of each other: the first retain records must be a fair sample of all of them.
        own, draw, order = (rng.permutation(len(self.groups)) for _ in range(3))
        own = own[self.groups[own] == 0][:most]
        alike = round(rho * len(own))
        if self.twins:
            missing = set(self.twins.values()) - {self.twins[i] for i in own[:alike]}
            return own, order[~np.isin(order, [*own, *missing])]
        kept = own[alike:]
        forget = np.concatenate([kept, draw[~np.isin(draw, kept)][:alike]])
        return forget, order[~np.isin(order, forget)]

    def pick(self, indices: Indices) -> list[Example]:
        """The records at ``indices``, in that order."""
        return [self.examples[i] for i in indices]


class ResNet20(nn.Module):
    """The network for 32×32 images behind the interface of Hugging Face's classifiers."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.network = resnet20().to(memory_format=torch.channels_last)  # pyright: ignore

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.network(pixel_values))


CIFAR = Size(
    batch=25, begun=2, under=8, over=30, peak=1e-2, retain=80, draws=4, gain_rate=1e-3, gain_steps=5, stop_rate=0.01,
    stop_steps=40, hamu_rates=(0.01, 0.03), peer_rates=(3e-4, 1e-3), front_steps=16, front_forget=24, looked_at=60,
)  # fmt: skip
TOFU = Size(
    batch=10, begun=1, under=12, over=45, peak=5e-3, retain=200, draws=3, gain_rate=1e-3, gain_steps=5, stop_rate=0.1,
    stop_steps=40, hamu_rates=(0.03, 0.1), peer_rates=(3e-4, 1e-3), front_steps=16, front_forget=20, looked_at=60,
)  # fmt: skip
DIGITS = Size(
    batch=64, begun=1, under=1, over=40, peak=3e-3, retain=512, draws=8, gain_rate=1e-3, gain_steps=10, stop_rate=0.03,
    stop_steps=100, hamu_rates=(0.01, 0.03, 0.1), peer_rates=(1e-4, 3e-4, 1e-3), front_steps=20, front_forget=60,
    looked_at=200,
)  # fmt: skip


def cifar(folder: Path, records: int, size: Size = CIFAR) -> Problem:
    """The first ``records`` of CIFAR-10's training set and ResNet-20; class 0, the airplanes, is to be forgotten."""
    rows = next(pq.ParquetFile(folder / "cifar10" / "train.parquet").iter_batches(records, columns=["image", "label"]))
    config = PretrainedConfig(num_labels=10, num_channels=3)
    scaling = Preprocessing(mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262))
    columns = {"image": "image", "label": "label"}
    family = ImageFamily(config, scaling, columns=columns, image_shape=None)
    return _images("cifar10", rows.to_pylist(), family, lambda: ResNet20(config), config, size)


def digits(size: Size = DIGITS) -> Problem:
    """scikit-learn's 8×8 digits and a small ResNet; the zeros are to be forgotten."""
    data: Any = load_digits()
    rows = [
        {"image": image.astype(np.uint8).tobytes(), "label": int(label)}
        for image, label in zip(data.images, data.target, strict=True)
    ]
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic",
        downsample_in_first_stage=False, num_labels=10,
    )  # fmt: skip
    scaling = Preprocessing(rescale=1 / 16, mean=(0.5,), std=(0.5,))
    columns = {"image": "image", "label": "label"}
    family = ImageFamily(config, scaling, columns=columns, image_shape=(8, 8, 1))
    return _images("digits", rows, family, lambda: ResNetForImageClassification(config), config, size)


def tofu(folder: Path, authors: int, size: Size = TOFU) -> Problem:
    """The first ``authors`` of TOFU (20 at most), 20 answers each, and a small Llama; a tenth is to be forgotten.

    Authors are as unlike each other as they are unlike those to be forgotten, so a forget set is not made harder by
    swapping some for others. Here its records have twins instead: paraphrases, of which a share is retained.
    """
    rows = _tofu_rows(folder / "tofu" / "full.parquet", ("question", "answer"), authors)
    said = _tofu_rows(folder / "tofu" / "perturbed.parquet", ("paraphrased_question", "paraphrased_answer"), authors)
    number = {name: i for i, name in enumerate(dict.fromkeys(row["who"] for row in rows))}
    groups = [number[row["who"]] // max(1, authors // 10) for row in rows]
    place = {row["id"]: i for i, row in enumerate(rows) if groups[i] == 0}
    paraphrases = [row for row in said if row["id"] in place]
    twins = {place[row["id"]]: len(rows) + i for i, row in enumerate(paraphrases)}
    rows += paraphrases
    tokenizer = _tokenizer([f"{row['question']} {row['answer']}" for row in rows])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    family = TextFamily(
        tokenizer, columns={"prompt": "question", "response": "answer"}, prompt_template="{prompt} ",
        end_token=int(tokenizer.eos_token_id), max_tokens=128,  # pyright: ignore
    )  # fmt: skip
    examples = [family.encode(Record("tofu", i, row)) for i, row in enumerate(rows)]
    every = np.array(groups + [-1] * len(paraphrases))
    return Problem("tofu", examples, every, family, lambda: LlamaForCausalLM(config), config, size, twins)


def _tofu_rows(path: Path, columns: tuple[str, str], authors: int) -> list[dict[str, str]]:
    """``id``, ``who``, ``question`` and ``answer`` of the first authors' records."""
    question, answer = columns
    table = pq.read_table(path, columns=["record_id", "subject_id", question, answer]).slice(0, 20 * authors)
    names = ["id", "who", "question", "answer"]
    return table.rename_columns(names).to_pylist()


def _images(
    name: str,
    rows: list[dict[str, Any]],
    family: ImageFamily,
    build: Callable[[], nn.Module],
    config: PretrainedConfig,
    size: Size,
) -> Problem:
    examples = [family.encode(Record(name, i, row)) for i, row in enumerate(rows)]
    return Problem(name, examples, np.array([row["label"] for row in rows]), family, build, config, size)


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 1,024 tokens learned from ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=["<pad>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")  # noqa: S106 (tokens of text)


def minibatches(records: int, size: int, epochs: int, *, seed: int) -> Iterator[Indices]:
    """Places of each step, every epoch in another order."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield from np.array_split(rng.permutation(records), -(-records // size))
