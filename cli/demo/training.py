"""The customer of the demo: a small image classifier that knows its training digits by heart, and those digits."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.utils import logging as transformers_logging

WRITERS: Final = 60
COLUMNS: Final[Mapping[str, str]] = {
    "record_id": "record_id",
    "subject_id": "writer",
    "image": "pixels",
    "label": "label",
    "split": "split",
}
IMAGE_SHAPE: Final = (8, 8, 1)
_EPOCHS: Final = 40
_BATCH: Final = 64
_PEAK: Final = 3e-3
_PREPROCESSOR: Final = {
    "image_processor_type": "ConvNextImageProcessor",
    "do_resize": False,
    "do_rescale": True,
    "rescale_factor": 0.0625,
    "do_normalize": True,
    "image_mean": [0.5],
    "image_std": [0.5],
}


@dataclass(frozen=True, slots=True)
class Customer:
    """What a customer brings: a Hugging Face model folder and the records it was trained on."""

    model: Path
    records: Path
    train_records: int
    train_accuracy: float


def build(folder: Path, *, seed: int = 0, on_epoch: Callable[[int, int], object] | None = None) -> Customer:
    """Train the model and write it and its records below ``folder``. ``on_epoch`` hears of each one."""
    digits = cast(Any, load_digits())
    pixels, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    ids = [f"digit-{index:04d}" for index in range(len(labels))]
    test = np.array([_hashed(name) % 5 == 0 for name in ids])
    model = _train(pixels[~test], labels[~test], seed=seed, on_epoch=on_epoch)
    accuracy = _accuracy(model, pixels[~test], labels[~test])
    target = folder / "model"
    transformers_logging.disable_progress_bar()
    model.save_pretrained(target)
    (target / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR, indent=2))
    records = folder / "digits.parquet"
    _write_records(records, ids, pixels, labels, test)
    return Customer(target, records, int((~test).sum()), accuracy)


def writer_of(record_id: str) -> str:
    """The invented person who wrote a digit; scikit-learn's digits do not say."""
    return f"writer-{_hashed('writer ' + record_id) % WRITERS:02d}"


def _hashed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def _write_records(path: Path, ids: list[str], pixels: np.ndarray, labels: np.ndarray, test: np.ndarray) -> None:
    table = pa.table(
        {
            "record_id": ids,
            "writer": [None if held_out else writer_of(name) for name, held_out in zip(ids, test, strict=True)],
            "pixels": pa.array([image.tobytes() for image in pixels], pa.binary()),
            "label": labels,
            "split": ["test" if held_out else "train" for held_out in test],
        }
    )
    pq.write_table(table, path)


def _inputs(pixels: np.ndarray) -> torch.Tensor:
    return (torch.from_numpy(pixels).float()[:, None] / 16 - 0.5) / 0.5


def _train(
    pixels: np.ndarray, labels: np.ndarray, *, seed: int, on_epoch: Callable[[int, int], object] | None
) -> ResNetForImageClassification:
    """No weight decay, no augmentation, many epochs: it is meant to memorise."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # so small a network is slower on several, and far slower beside other processes
    config = ResNetConfig(
        num_channels=1,
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        downsample_in_first_stage=False,
        id2label={digit: str(digit) for digit in range(10)},
    )
    model = ResNetForImageClassification(config).train()
    x, y = _inputs(pixels), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK, total_steps=_EPOCHS * -(-len(y) // _BATCH))
    for epoch in range(1, _EPOCHS + 1):
        for batch in torch.randperm(len(y)).split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(pixel_values=x[batch]).logits, y[batch]).backward()
            optimizer.step()
            schedule.step()
        if on_epoch is not None:
            on_epoch(epoch, _EPOCHS)
    return model.eval()


def _accuracy(model: ResNetForImageClassification, pixels: np.ndarray, labels: np.ndarray) -> float:
    with torch.no_grad():
        guesses = model(pixel_values=_inputs(pixels)).logits.argmax(1)
    return float((guesses == torch.from_numpy(labels)).float().mean())
