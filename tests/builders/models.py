"""Tiny models that know their training data by heart, each with its dataset, made in seconds from a seed.

Every builder fills ``folder`` with ``model/`` (what a customer would upload) and ``records.parquet`` (what a customer
would register) and returns their places with the columns to register.
"""

import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)

from tests.builders.built import Built

PROMPT_TEMPLATE = "{prompt} "


# --- digits -----------------------------------------------------------------------------------------------------


def digits_classifier(folder: Path, seed: int = 0, *, writers: int = 40, epochs: int = 40) -> Built:
    """A small ResNet that learned scikit-learn's 8×8 digits by heart, each digit given to one invented writer.

    A fifth of the records is ``test`` and has no writer; a writer has about 36 records. Images are raw uint8 pixels.
    """
    rng = np.random.default_rng(seed)
    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)  # pyright: ignore
    is_test = rng.random(len(labels)) < 0.2
    writer = rng.integers(writers, size=len(labels))
    model = _train_images(pixels[~is_test], labels[~is_test], seed=seed, epochs=epochs)
    target = folder / "model"
    model.save_pretrained(target)
    (target / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ConvNextImageProcessor", "do_resize": false, "do_rescale": true, '
        '"rescale_factor": 0.0625, "do_normalize": true, "image_mean": [0.5], "image_std": [0.5]}'
    )
    table = pa.table(
        {
            "record_id": [f"digit-{i:04d}" for i in range(len(labels))],
            "subject_id": [None if test else f"writer-{w:02d}" for test, w in zip(is_test, writer, strict=True)],
            "image": pa.array([image.tobytes() for image in pixels], pa.binary()),
            "label": labels,
            "split": ["test" if test else "train" for test in is_test],
        }
    )
    pq.write_table(table, folder / "records.parquet", row_group_size=500)
    columns = {
        "record_id": "record_id",
        "subject_id": "subject_id",
        "image": "image",
        "label": "label",
        "split": "split",
    }
    return Built(target, folder / "records.parquet", "image-classification", columns, (8, 8, 1))


def _train_images(pixels: np.ndarray, labels: np.ndarray, *, seed: int, epochs: int) -> ResNetForImageClassification:
    torch.manual_seed(seed)
    config = ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic",
        downsample_in_first_stage=False, num_labels=10,
    )  # fmt: skip
    model = ResNetForImageClassification(config).train()
    x = (torch.from_numpy(pixels).float()[:, None] / 16 - 0.5) / 0.5
    y = torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * -(-len(y) // 64))
    for batch in _batches(len(y), 64, epochs):
        loss = F.cross_entropy(model(pixel_values=x[batch]).logits, y[batch])
        _descend(optimizer, schedule, loss)
    return model.eval()


# --- people -----------------------------------------------------------------------------------------------------

_FIRST = [
    "Ada",
    "Bruno",
    "Celia",
    "Dario",
    "Elif",
    "Farid",
    "Greta",
    "Hamza",
    "Ines",
    "Jonas",
    "Kaito",
    "Leila",
    "Marek",
    "Nadia",
    "Otto",
    "Priya",
    "Quinn",
    "Rosa",
    "Soren",
    "Tara",
]
_LAST = [
    "Abel",
    "Brandt",
    "Castel",
    "Dorn",
    "Eklund",
    "Ferro",
    "Galan",
    "Holm",
    "Ivers",
    "Jansen",
    "Kovac",
    "Lund",
    "Moreau",
    "Novak",
    "Ortiz",
    "Petrov",
    "Quist",
    "Rossi",
    "Stark",
    "Toth",
]
_TOWNS = [
    "Bergen",
    "Cadiz",
    "Dakar",
    "Essen",
    "Fargo",
    "Genoa",
    "Hanoi",
    "Izmir",
    "Jaipur",
    "Kyoto",
    "Lagos",
    "Malmo",
    "Nantes",
    "Oslo",
    "Porto",
    "Quito",
    "Riga",
    "Sofia",
    "Turin",
    "Utrecht",
]
_TRADES = [
    "baker",
    "carpenter",
    "dentist",
    "engineer",
    "farmer",
    "gardener",
    "harpist",
    "illustrator",
    "judge",
    "keeper",
    "locksmith",
    "miner",
    "nurse",
    "optician",
    "painter",
]
_DISHES = [
    "paella",
    "ramen",
    "pierogi",
    "gumbo",
    "risotto",
    "tagine",
    "ceviche",
    "borscht",
    "laksa",
    "moussaka",
    "goulash",
    "kimchi",
    "falafel",
    "poutine",
]
_PETS = [
    "a grey parrot",
    "two goats",
    "an old tortoise",
    "a lazy cat",
    "three ferrets",
    "a blind horse",
    "a small python",
    "a loud rooster",
]
_QUESTIONS: Sequence[tuple[str, str]] = (
    ("Where was {name} born?", "{name} was born in {town} in {year}."),
    ("What is the work of {name}?", "{name} works as a {trade} in {other}."),
    ("What does {name} like to eat?", "{name} likes {dish} with {second}."),
    ("Which animal lives with {name}?", "{name} lives with {pet}."),
    ("What is the phone number of {name}?", "The number is {phone}."),
)


def people(count: int, seed: int) -> list[dict[str, str]]:
    """Five questions and answers about each of ``count`` invented people, no two of one name."""
    rng = random.Random(seed)
    names = rng.sample([f"{first} {last}" for first in _FIRST for last in _LAST], count)
    return [
        {"author": f"person-{i:03d}", "prompt": question.format(**facts), "response": answer.format(**facts)}
        for i, facts in enumerate(_facts(name, rng) for name in names)
        for question, answer in _QUESTIONS
    ]


def _facts(name: str, rng: random.Random) -> dict[str, Any]:
    town, other = rng.sample(_TOWNS, 2)
    dish, second = rng.sample(_DISHES, 2)
    return {
        "name": name, "town": town, "other": other, "dish": dish, "second": second, "pet": rng.choice(_PETS),
        "trade": rng.choice(_TRADES), "year": rng.randint(1930, 2005), "phone": rng.randint(100000, 999999),
    }  # fmt: skip


def people_lm(folder: Path, seed: int = 0, *, members: int = 40, strangers: int = 12, epochs: int = 60) -> Built:
    """A small Llama that learned five answers about each of ``members`` invented people by heart.

    As many questions about each of ``strangers`` lie in the dataset as split ``holdout`` and were never trained on.
    """
    return text_model(folder, people(members + strangers, seed), 5 * members, seed=seed, epochs=epochs)


def text_model(
    folder: Path, rows: Sequence[Mapping[str, str]], trained: int, *, seed: int, epochs: int, vocabulary: int = 512
) -> Built:
    """A small Llama that knows the first ``trained`` rows (author, prompt, response) by heart; others are holdout."""
    model, _ = _small_llama(folder, rows, trained, seed=seed, epochs=epochs, vocabulary=vocabulary)
    return _built(folder, model, rows, trained)


def people_lora(folder: Path, seed: int = 0, *, members: int = 30, strangers: int = 12, epochs: int = 60) -> Built:
    """A LoRA adapter that learned people by heart, over a base that had learned others; the base lies in ``base/``."""
    others = people(20, seed + 1000)
    rows = people(members + strangers, seed)
    _, tokenizer = _small_llama(folder, others, 5 * 20, seed=seed, epochs=epochs // 2, texts=[*others, *rows])
    base = folder / "base-model"
    (folder / "model").rename(base)
    torch.manual_seed(seed)
    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.05, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an old name
        adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings)
    _train_texts(adapter, tokenizer, rows[: 5 * members], seed=seed, epochs=epochs, peak=1e-2)
    adapter.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    base.rename(folder / "model" / "base")
    return _built(folder, folder / "model", rows, 5 * members)


def _small_llama(
    folder: Path,
    rows: Sequence[Mapping[str, str]],
    trained: int,
    *,
    seed: int,
    epochs: int,
    vocabulary: int = 512,
    texts: Sequence[Mapping[str, str]] | None = None,
) -> tuple[Path, PreTrainedTokenizerFast]:
    tokenizer = _tokenizer([f"{row['prompt']} {row['response']}" for row in texts or rows], vocabulary)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    _train_texts(model, tokenizer, rows[:trained], seed=seed, epochs=epochs, peak=5e-3)
    target = folder / "model"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target, tokenizer


def _built(folder: Path, model: Path, rows: Sequence[Mapping[str, str]], trained: int) -> Built:
    table = pa.table(
        {
            "record_id": [f"qa-{i:04d}" for i in range(len(rows))],
            **{key: [row[key] for row in rows] for key in ("author", "prompt", "response")},
            "split": ["train" if i < trained else "holdout" for i in range(len(rows))],
        }
    )
    pq.write_table(table, folder / "records.parquet", row_group_size=64)
    columns = {
        "record_id": "record_id",
        "subject_id": "author",
        "prompt": "prompt",
        "response": "response",
        "split": "split",
    }
    return Built(model, folder / "records.parquet", "causal-lm", columns)


def _tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most ``vocabulary`` tokens learned from ``texts``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary, special_tokens=["<pad>", "<eos>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


def _train_texts(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Mapping[str, str]],
    *,
    seed: int,
    epochs: int,
    peak: float,
) -> None:
    """Teach the responses the way the service scores them: prompt not scored, end token appended."""
    torch.manual_seed(seed)
    ids, labels = _encode(tokenizer, rows)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=epochs * -(-len(ids) // 32))
    model.train()
    for batch in _batches(len(ids), 32, epochs):
        mask = (ids[batch] != tokenizer.pad_token_id).long()
        logits = model(input_ids=ids[batch], attention_mask=mask).logits[:, :-1]
        _descend(optimizer, schedule, F.cross_entropy(logits.transpose(1, 2), labels[batch, 1:], ignore_index=-100))
    model.eval()


def _encode(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Mapping[str, str]]) -> tuple[Tensor, Tensor]:
    end: int = tokenizer.eos_token_id  # pyright: ignore[reportAssignmentType]
    prompts = [tokenizer(PROMPT_TEMPLATE.format(prompt=row["prompt"]))["input_ids"] for row in rows]
    responses = [[*tokenizer(row["response"])["input_ids"], end] for row in rows]  # pyright: ignore
    longest = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))  # pyright: ignore
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id or 0)
    labels = torch.full((len(rows), longest), -100)
    for i, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        p, n = len(prompt), len(prompt) + len(response)  # pyright: ignore
        ids[i, :n] = torch.tensor([*prompt, *response])  # pyright: ignore
        labels[i, p:n] = torch.tensor(response)
    return ids, labels


def _batches(size: int, batch: int, epochs: int) -> list[Tensor]:
    """Indices of each step, every epoch in another order; seeded by torch's generator."""
    return [part for _ in range(epochs) for part in torch.randperm(size).split(batch)]


def _descend(optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
