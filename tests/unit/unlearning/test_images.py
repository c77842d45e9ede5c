"""Images: what bytes and pixels become, and which records are refused."""

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PretrainedConfig

from core.evaluation.observations import ClassAnswers
from core.unlearning.batches import Batch
from core.unlearning.failures import BadRecord, UnlearningError, UnsupportedModel
from core.unlearning.images import ImageFamily, fit_channels
from core.unlearning.preprocessing import Preprocessing
from core.unlearning.records import Record


def config(*, channels: int = 3, labels: int = 4, **more: Any) -> PretrainedConfig:
    made = PretrainedConfig(num_labels=labels, **more)
    made.num_channels = channels  # pyright: ignore[reportAttributeAccessIssue]
    return made


def family(*, channels: int = 3, shape: tuple[int, int, int] | None = None, labels: int = 4) -> ImageFamily:
    columns = {"image": "png", "label": "class"}
    return ImageFamily(config(channels=channels, labels=labels), Preprocessing(), columns=columns, image_shape=shape)


def record(image: Any, label: Any = 1) -> Record:
    return Record("part-0.parquet", 7, {"png": image, "class": label})


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


COLOUR = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.mark.parametrize("image", [encoded(COLOUR), {"bytes": encoded(COLOUR), "path": None}])
def test_png_and_hugging_face_structs(image: Any) -> None:
    example = family().encode(record(image))
    np.testing.assert_allclose(example.values, COLOUR.transpose(2, 0, 1) / 255, rtol=1e-6)
    assert example.labels.tolist() == [1]


@pytest.mark.parametrize("image", [COLOUR.tobytes(), COLOUR.ravel().tolist(), COLOUR.tolist()])
def test_raw_pixels_as_bytes_or_list(image: Any) -> None:
    example = family(shape=(2, 3, 3)).encode(record(image))
    np.testing.assert_allclose(example.values, COLOUR.transpose(2, 0, 1) / 255, rtol=1e-6)


def test_floating_pixels_are_taken_as_scaled() -> None:
    example = family(channels=1, shape=(1, 2, 1)).encode(record([0.25, 1.0]))
    np.testing.assert_array_equal(example.values, np.float32([[[0.25, 1.0]]]))


def test_jpeg_is_read() -> None:
    example = family().encode(record(encoded(np.full((8, 8, 3), 100, dtype=np.uint8), "JPEG")))
    np.testing.assert_allclose(example.values, 100 / 255, atol=0.02)


def test_channels_are_fitted() -> None:
    grey = np.array([[[10], [20]]], dtype=np.uint8)
    assert fit_channels(grey, 3).tolist() == [[[10, 10, 10], [20, 20, 20]]]
    assert fit_channels(np.array([[[100, 50, 20]]], dtype=np.uint8), 1).tolist() == [[[62]]]  # .299, .587, .114
    assert fit_channels(np.array([[[1, 2, 3, 9]]], dtype=np.uint8), 3).tolist() == [[[1, 2, 3]]]
    with pytest.raises(UnsupportedModel, match="2 channels"):
        fit_channels(grey, 2)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"no image", "PNG or JPEG"),
        (None, "no image bytes"),
        ("text", "no bytes"),
        (encoded(COLOUR)[:40], "PNG or JPEG"),
    ],
)
def test_bad_images_are_named_by_place_not_content(image: Any, why: str) -> None:
    with pytest.raises(BadRecord, match=rf"row 7 of part-0\.parquet.*{why}"):
        family().encode(record(image))


@pytest.mark.parametrize("image", [b"123", [1, 2, 3], [-1] * 18, [256] * 18, ["a"] * 18, [float("nan")] * 18])
def test_bad_raw_pixels_are_refused(image: Any) -> None:
    with pytest.raises(BadRecord, match="pixels"):
        family(shape=(2, 3, 3)).encode(record(image))


@pytest.mark.parametrize("label", [4, -1, None, "cat", 1.5, True])
def test_labels_outside_the_model_are_refused(label: Any) -> None:
    with pytest.raises(BadRecord, match=r"label|class"):
        family().encode(record(encoded(COLOUR), label))


def test_labels_may_be_class_names() -> None:
    assert family().encode(record(encoded(COLOUR), "LABEL_2")).labels.tolist() == [2]


def test_images_of_different_sizes_are_explained() -> None:
    examples = [family().encode(record(encoded(COLOUR[:rows]))) for rows in (1, 2)]
    with pytest.raises(UnlearningError, match="differ in size"):
        family().collate(examples, torch.device("cpu"))


def settings(folder: Path, **values: Any) -> Preprocessing:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    return Preprocessing.of(folder, config())


def test_processor_settings_are_honoured(tmp_path: Path) -> None:
    stage = settings(
        tmp_path, do_resize=True, size={"height": 4, "width": 4}, do_center_crop=True, crop_size=2, do_rescale=True,
        rescale_factor=0.01, do_normalize=True, image_mean=[0.5, 0.5, 0.0], image_std=[0.5, 0.25, 1.0],
    )  # fmt: skip
    values = stage.apply(np.full((8, 6, 3), 100, dtype=np.uint8))
    assert values.shape == (2, 2, 3)
    np.testing.assert_allclose(values[0, 0], [1.0, 2.0, 1.0], rtol=1e-6)


def test_the_shorter_edge_keeps_the_shape(tmp_path: Path) -> None:
    stage = settings(tmp_path, do_resize=True, size={"shortest_edge": 4})
    assert stage.apply(np.zeros((8, 16, 1), dtype=np.uint8)).shape == (4, 8, 1)


def test_a_crop_larger_than_the_image_pads(tmp_path: Path) -> None:
    stage = settings(tmp_path, do_center_crop=True, crop_size={"height": 4, "width": 2}, do_rescale=False)
    values = stage.apply(np.ones((2, 2, 1), dtype=np.uint8))
    assert values[:, :, 0].tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]


def test_a_stage_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="do_flip_channel_order"):
        settings(tmp_path, do_flip_channel_order=True)


def test_without_settings_images_get_the_models_size(tmp_path: Path) -> None:
    sized = config()
    sized.image_size = 4  # pyright: ignore[reportAttributeAccessIssue]
    values = Preprocessing.of(tmp_path, sized).apply(np.full((8, 8, 3), 255, dtype=np.uint8))
    assert values.shape == (4, 4, 3)
    assert values.max() == 1.0


def test_answers_are_those_that_the_losses_are_of() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    model: Any = lambda **_: SimpleNamespace(logits=logits)  # noqa: E731
    batch = Batch({"pixel_values": torch.zeros(3, 3, 2, 2)}, torch.tensor([0, 3, 1]))
    answers = family().answers(model, batch)
    assert answers.scored.tolist() == [[True]] * 3
    given = answers.log_probabilities[:, 0].gather(1, batch.labels[:, None])[:, 0]
    torch.testing.assert_close(-given, family().score(model, batch).losses)


def test_what_is_observed_lies_behind_the_scores() -> None:
    odds = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]])
    batch = Batch({"pixel_values": torch.zeros(2, 1)}, torch.tensor([0, 1]))
    model: Any = lambda **_: SimpleNamespace(logits=odds.log())  # noqa: E731
    seen = family().observe(model, batch)
    assert isinstance(seen.answers, ClassAnswers)
    assert seen.answers.labels.tolist() == [0, 1]
    assert seen.answers.confidence.tolist() == pytest.approx([math.log(7 / 3), math.log(1 / 9)], rel=1e-5)
    assert seen.scores.losses.tolist() == pytest.approx([-math.log(0.7), -math.log(0.1)])
    assert seen.scores.correct.tolist() == [1, 0]


def test_a_sure_answer_keeps_its_confidence_where_its_loss_rounds_to_nothing() -> None:
    batch = Batch({"pixel_values": torch.zeros(2, 1)}, torch.tensor([0, 0]))
    model: Any = lambda **_: SimpleNamespace(logits=torch.tensor([[40.0, 0, 0, 0], [50.0, 0, 0, 0]]))  # noqa: E731
    seen = family().observe(model, batch)
    assert seen.scores.losses.tolist() == [0, 0]
    assert isinstance(seen.answers, ClassAnswers)
    assert seen.answers.confidence.tolist() == pytest.approx([40 - math.log(3), 50 - math.log(3)])
