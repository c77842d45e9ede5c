"""A model that cannot fit is turned down before it is loaded, with what it would need."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.unlearning.footprint import Footprint, ModelTooLarge, check_footprint, footprint, memory_of

CPU = torch.device("cpu")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """10 weights of an adapter over 100 of a base, in half precision: on disk they take half of what they need."""
    save_file({"lora": torch.zeros(2, 5, dtype=torch.bfloat16)}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "base").mkdir()
    save_file({"w": torch.zeros(10, 10, dtype=torch.bfloat16)}, tmp_path / "base" / "model.safetensors")
    return tmp_path


def test_weights_are_counted_by_whether_they_are_trained(adapter: Path) -> None:
    assert footprint(adapter) == Footprint(trained=10, frozen=100)
    assert footprint(adapter / "base") == Footprint(trained=100, frozen=0)
    assert Footprint(10, 100).least_bytes == 4 * (4 * 10 + 100)


def test_one_byte_too_few_is_refused_and_said(adapter: Path) -> None:
    check_footprint(adapter, CPU, memory_bytes=560)
    with pytest.raises(ModelTooLarge, match=r"at least 0\.0 MiB .* \(cpu\) has 0\.0 MiB") as refused:
        check_footprint(adapter, CPU, memory_bytes=559)
    assert refused.value.code == "model_too_large"
    assert not refused.value.as_failure().retryable


def test_a_damaged_file_is_left_to_the_loader(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    check_footprint(tmp_path, CPU, memory_bytes=0)


def test_the_host_has_memory() -> None:
    assert memory_of(CPU) > 2**28
    check_footprint(Path("/nonexistent"), CPU)
