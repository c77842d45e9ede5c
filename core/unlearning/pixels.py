"""Pixels of an image as arrays: decoded, raw, and in the channels that a model takes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from core.unlearning.failures import UnsupportedModel
from core.unlearning.records import Record

Pixels = NDArray[np.uint8 | np.float32]
"""(height, width, channels): uint8 0…255, or float32 that is already scaled."""

_LUMA = np.array([299, 587, 114], dtype=np.float32) / 1000
"""The weights by which Pillow turns colour to grey."""

MOST_PIXELS = 64 * 2**20
"""A few kilobytes may claim any size. These decode to 200 MB at most."""


def fit_channels(pixels: Pixels, channels: int) -> Pixels:
    """(h, w, c) with c of 1, 3 or 4 to (h, w, channels): grey is repeated, colour becomes luma, alpha is dropped."""
    if pixels.shape[2] == channels:
        return pixels
    colour = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, :1].repeat(3, axis=2)
    if channels == 3:
        return colour
    if channels != 1:
        raise UnsupportedModel(f"it takes images of {channels} channels and the records have {pixels.shape[2]}")
    grey = (colour.astype(np.float32) @ _LUMA)[:, :, None]
    return np.round(grey).astype(np.uint8) if pixels.dtype == np.uint8 else grey.astype(np.float32)


def raw(record: Record, value: object, shape: tuple[int, int, int]) -> Pixels:
    """Raw pixels as bytes or (nested) list; integers are 0…255, floating numbers are taken as already scaled."""
    try:
        pixels = np.frombuffer(value, dtype=np.uint8) if isinstance(value, bytes) else np.asarray(value)
        pixels = pixels.reshape(shape)
    except ValueError:
        raise record.bad(f"its pixels do not make an image of shape {list(shape)}") from None
    if np.issubdtype(pixels.dtype, np.floating) and np.isfinite(pixels).all():
        return pixels.astype(np.float32)
    if not np.issubdtype(pixels.dtype, np.integer) or pixels.min() < 0 or pixels.max() > 255:
        raise record.bad("its pixels are not numbers from 0 to 255")
    return pixels.astype(np.uint8)


def decoded(record: Record, value: bytes) -> Pixels:
    """The pixels of a PNG or JPEG. Raises ``BadRecord``, before decoding if there are more than ``MOST_PIXELS``."""
    try:
        with Image.open(io.BytesIO(value), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise record.bad(f"its image has more than {MOST_PIXELS} pixels")
            grey = image.mode in {"1", "L", "LA"}
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        ValueError,
        SyntaxError,
    ):
        raise record.bad("its image bytes are not a readable PNG or JPEG") from None
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
