"""Image classifiers: bytes or raw pixels become the arrays that the model was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig

from core.evaluation.confidence import logit_confidence
from core.evaluation.observations import ClassAnswers, Observation
from core.unlearning.batches import Answers, Batch, Example, Scores
from core.unlearning.failures import UnlearningError
from core.unlearning.pixels import Pixels, decoded, fit_channels, raw
from core.unlearning.preprocessing import Preprocessing
from core.unlearning.records import Record


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The classes of a model: numbers 0 … size - 1, and their names if it has any."""

    size: int
    names: Mapping[str, int]

    @classmethod
    def of(cls, config: PretrainedConfig) -> "LabelSpace":
        """The classes a model configuration declares."""
        return cls(int(config.num_labels or 0), {str(name): int(i) for name, i in (config.label2id or {}).items()})

    def number(self, record: Record, column: str) -> int:
        """The class of a record, given as number or name. Raises ``BadRecord``."""
        value = record.values.get(column)
        label = self.names.get(value) if isinstance(value, str) else value
        if not isinstance(label, int) or isinstance(label, bool):
            raise record.bad(f"column {column!r} holds no class number and no class name of the model")
        if not 0 <= label < self.size:
            raise record.bad(f"its label is outside the model's classes 0 to {self.size - 1}")
        return label


class ImageFamily:
    """Encoded images, Hugging Face image structs or raw pixels, scored with cross-entropy over the classes."""

    def __init__(
        self,
        config: PretrainedConfig,
        preprocessing: Preprocessing,
        *,
        columns: Mapping[str, Any],
        image_shape: tuple[int, int, int] | None,
    ) -> None:
        """Raises ``UnlearningError`` when the dataset declares no ``image`` or no ``label`` column."""
        image, label = columns.get("image"), columns.get("label")
        if not isinstance(image, str) or not isinstance(label, str):
            raise UnlearningError("bad_dataset", "An image dataset needs columns for 'image' and for 'label'.")
        self._image, self._label, self._shape = image, label, image_shape
        self._labels = LabelSpace.of(config)
        self._channels = int(getattr(config, "num_channels", None) or 3)
        self._preprocessing = preprocessing
        self.columns: Sequence[str] = [image, label]

    def encode(self, record: Record) -> Example:
        """Pixels float32 (channels, height, width) and label (1,). Raises ``BadRecord``."""
        label = self._labels.number(record, self._label)
        pixels = fit_channels(self._pixels(record), self._channels)
        values = self._preprocessing.apply(pixels)
        return Example(np.ascontiguousarray(values.transpose(2, 0, 1)), np.array([label], dtype=np.int64))

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """``pixel_values`` (records, channels, height, width) and labels (records,)."""
        if len({example.values.shape for example in examples}) > 1:
            raise UnlearningError(
                "bad_dataset",
                "The images differ in size: give the model folder a preprocessor_config.json that resizes.",
            )
        pixels = torch.from_numpy(np.stack([cast("NDArray[np.float32]", example.values) for example in examples]))
        labels = torch.from_numpy(np.concatenate([example.labels for example in examples]))
        return Batch({"pixel_values": pixels.to(device)}, labels.to(device))

    def score(self, model: nn.Module, batch: Batch) -> Scores:
        """Cross-entropy in nats of each record; one answer a record."""
        return _scores(model(**batch.inputs).logits.float(), batch.labels)

    def answers(self, model: nn.Module, batch: Batch) -> Answers:
        """One answer a record, over the classes."""
        logits = model(**batch.inputs).logits.float()
        return Answers(F.log_softmax(logits, dim=-1)[:, None], torch.ones_like(batch.labels, dtype=torch.bool)[:, None])

    @torch.no_grad()
    def observe(self, model: nn.Module, batch: Batch) -> Observation:
        """The scores, the classes, and how sure the model is of them."""
        logits = model(**batch.inputs).logits.float()
        labels = batch.labels.cpu().numpy()
        answers = ClassAnswers(labels, logit_confidence(logits.cpu().numpy(), labels))
        return Observation(_scores(logits, batch.labels).on_host(), answers)

    def _pixels(self, record: Record) -> Pixels:
        value = record.values.get(self._image)
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if value is None:
            raise record.bad(f"column {self._image!r} holds no image bytes")
        if self._shape is not None:
            return raw(record, value, self._shape)
        if not isinstance(value, bytes):
            raise record.bad(f"column {self._image!r} holds no bytes; for raw pixels declare image_shape")
        return decoded(record, value)


def _scores(logits: Tensor, labels: Tensor) -> Scores:
    losses = F.cross_entropy(logits, labels, reduction="none")
    correct = (logits.argmax(dim=-1) == labels).long()
    return Scores(losses, correct, torch.ones_like(correct))


def image_family(
    folder: Path, config: PretrainedConfig, *, columns: Mapping[str, Any], image_shape: tuple[int, int, int] | None
) -> ImageFamily:
    """The family of an image classifier whose processor settings, if any, lie in ``folder``."""
    return ImageFamily(config, Preprocessing.of(folder, config), columns=columns, image_shape=image_shape)
