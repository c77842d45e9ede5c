"""A model folder's image processor settings, applied with Pillow and NumPy alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from transformers import PretrainedConfig

from core.unlearning.failures import UnsupportedModel

CONFIG_FILE = "preprocessor_config.json"

_UNDERSTOOD = {"do_resize", "do_rescale", "do_normalize", "do_center_crop", "do_convert_rgb"}
"""Other switches (``do_pad``, ``do_flip_channel_order`` …) are refused when on: ignoring them would feed the model
images it was never trained on."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize, centre crop, rescale, normalise, in that order; ``None`` leaves a stage out.

    resize: (height, width), or one number: the shorter edge. crop: (height, width). resample: Pillow's number of the
    filter. rescale: factor on integer pixels; floating pixels are taken as already scaled. mean, std: one number a
    channel (a single one serves all).
    """

    resize: tuple[int, int] | int | None = None
    crop: tuple[int, int] | None = None
    resample: int = int(Image.Resampling.BILINEAR)
    rescale: float | None = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @classmethod
    def of(cls, folder: Path, config: PretrainedConfig) -> "Preprocessing":
        """The settings in ``preprocessor_config.json``; without one, scaling to [0, 1] and the model's image size.

        Raises ``UnsupportedModel`` when the file is unreadable or asks for a stage that is not known here.
        """
        path = folder / CONFIG_FILE
        if not path.exists():
            return cls(resize=_pair(getattr(config, "image_size", None)))
        try:
            return cls._from_settings(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnsupportedModel(f"its {CONFIG_FILE} is not understood") from error

    @classmethod
    def _from_settings(cls, settings: dict[str, Any]) -> "Preprocessing":
        other = sorted(key for key, on in settings.items() if key.startswith("do_") and on and key not in _UNDERSTOOD)
        if other:
            raise UnsupportedModel(f"its {CONFIG_FILE} asks for {other[0]}, which is not known here")
        return cls(
            resize=_size(settings["size"]) if settings.get("do_resize") else None,
            crop=_pair(settings["crop_size"]) if settings.get("do_center_crop") else None,
            resample=int(settings.get("resample", Image.Resampling.BILINEAR)),
            rescale=float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else None,
            mean=_numbers(settings["image_mean"]) if settings.get("do_normalize") else None,
            std=_numbers(settings["image_std"]) if settings.get("do_normalize") else None,
        )

    def apply(self, pixels: NDArray[np.uint8 | np.float32]) -> NDArray[np.float32]:
        """(height, width, channels) to the same of the model's size, float32."""
        sized = self._cropped(self._resized(pixels))
        scale = self.rescale if self.rescale is not None and pixels.dtype == np.uint8 else 1.0
        values = sized.astype(np.float32) * np.float32(scale)
        if self.mean is None or self.std is None:
            return values
        return (values - np.array(self.mean, dtype=np.float32)) / np.array(self.std, dtype=np.float32)

    def _resized(self, pixels: NDArray[np.uint8 | np.float32]) -> NDArray[np.uint8 | np.float32]:
        height, width = pixels.shape[:2]
        target = self._target(height, width)
        if target == (height, width):
            return pixels
        size = (target[1], target[0])
        planes = [Image.fromarray(pixels[:, :, i]).resize(size, self.resample) for i in range(pixels.shape[2])]
        return np.stack([np.asarray(plane) for plane in planes], axis=2)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def _cropped(self, pixels: NDArray[np.uint8 | np.float32]) -> NDArray[np.uint8 | np.float32]:
        """The centre of ``crop`` size; where the image is smaller it is padded with zeros."""
        if self.crop is None:
            return pixels
        short = [max(0, want - have) for want, have in zip(self.crop, pixels.shape, strict=False)]
        padded = np.pad(pixels, [*((n // 2, n - n // 2) for n in short), (0, 0)])
        top, left = ((have - want) // 2 for want, have in zip(self.crop, padded.shape, strict=False))
        return padded[top : top + self.crop[0], left : left + self.crop[1]]


def _numbers(value: float | list[float]) -> tuple[float, ...]:
    return tuple(float(x) for x in value) if isinstance(value, list) else (float(value),)


def _pair(value: Any) -> tuple[int, int] | None:
    """(height, width) from a number, a list or ``{"height", "width"}``."""
    if value is None:
        return None
    if isinstance(value, dict):
        return int(value["height"]), int(value["width"])
    return (int(value[0]), int(value[1])) if isinstance(value, list | tuple) else (int(value), int(value))


def _size(value: Any) -> tuple[int, int] | int | None:
    """A size setting: shorter edge, (height, width), or a plain number, which is a square."""
    if isinstance(value, dict) and "shortest_edge" in value:
        return int(value["shortest_edge"])
    return _pair(value)
