"""Model folders: Hugging Face models of any architecture, and LoRA adapters over one.

An adapter folder carries its base in the sub-folder ``base/``, because the base's path that an adapter records is one
on the machine where it was made; that record is not looked at.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import disable_progress_bar

from core.hamu.rounding import settle
from core.unlearning.failures import UnlearningError, UnsupportedModel
from core.unlearning.job import Task

if TYPE_CHECKING:
    from peft import PeftModel

BASE_FOLDER = "base"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"}
_CLASSES = {"image-classification": AutoModelForImageClassification, "causal-lm": AutoModelForCausalLM}
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be unlearned: float32, in evaluation mode, on its device.

    Evaluation mode throughout means no dropout and BatchNorm statistics that never move. ``stored`` is the dtype in
    which each weight lies on disk; weights are computed with in float32 and written back as they were.
    """

    model: nn.Module
    folder: Path
    config: PretrainedConfig
    device: torch.device
    stored: dict[str, torch.dtype]
    is_adapter: bool

    @cached_property
    def trainable(self) -> dict[str, nn.Parameter]:
        """The weights that take part, by name; tied ones once, frozen ones not, of an adapter only its own."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def round_to_stored(self, seed: int) -> None:
        """Give every trained weight the value it has after being written: what is measured is what is saved.

        Rounded up or down at random, from ``seed``, so that what half precision cannot hold of the update is kept on
        average; rounded to the nearest, most weights would fall back to where they were.
        """
        draws = torch.Generator(self.device).manual_seed(seed)
        for name, weight in self.trainable.items():
            if self.stored[name] != weight.dtype:
                settle(weight, self.stored[name], draws)

    def save(self, folder: Path) -> None:
        """Write the same kind of folder: new weights as safetensors, every other file copied byte for byte."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=self._own_weights)
        with TemporaryDirectory(dir=folder.parent) as staging:
            if self.is_adapter:
                self._write_adapter(Path(staging))
            else:
                self._write_model(Path(staging))
            for path in Path(staging).glob("*.safetensors*"):
                path.replace(folder / path.name)

    def _own_weights(self, folder: str, names: list[str]) -> list[str]:
        """Weights of this folder itself are written anew; those of the adapter's base are copied."""
        here = Path(folder) == self.folder
        return [name for name in names if here and (".safetensors" in name)]

    def _write_adapter(self, folder: Path) -> None:
        from peft import get_peft_model_state_dict

        with safe_open(self.folder / ADAPTER_WEIGHTS, framework="pt") as old:
            dtypes = {name: old.get_tensor(name).dtype for name in old.keys()}  # noqa: SIM118 (no iterator)
            metadata = old.metadata() or {}
        tensors = get_peft_model_state_dict(cast("PeftModel", self.model), save_embedding_layers=False)
        if missing := sorted(dtypes.keys() - tensors.keys()):
            raise UnsupportedModel(f"its adapter holds weights that are no LoRA weights ({missing[0]})")
        new = {name: tensors[name].detach().to("cpu", dtype).contiguous() for name, dtype in dtypes.items()}
        save_file(new, folder / ADAPTER_WEIGHTS, metadata={"format": "pt", **metadata})

    @torch.no_grad()
    def _write_model(self, folder: Path) -> None:
        master = {name: tensor.data for name, tensor in _tensors(self.model)}
        for name, tensor in _tensors(self.model):
            tensor.data = tensor.data.to(self.stored[name])
        try:
            cast("PreTrainedModel", self.model).save_pretrained(folder)
        finally:
            for name, tensor in _tensors(self.model):
                tensor.data = master[name]


def load_model(folder: Path, task: Task, device: torch.device) -> LoadedModel:
    """Load the model in ``folder`` (see the module for the layout) from local files only, never running its code.

    Raises ``UnsupportedModel`` for an architecture, format or adapter that is not supported and ``UnlearningError``
    for a damaged file.
    """
    disable_progress_bar()
    is_adapter = (folder / ADAPTER_CONFIG).exists()
    base = folder / BASE_FOLDER if is_adapter else folder
    _refuse_unsafe(folder)
    try:
        config = _config(base)
        model = _CLASSES[task].from_pretrained(base, config=config, dtype="auto", use_safetensors=True, **_LOCAL)
        if is_adapter:
            model = _with_adapter(model, folder)
    except UnlearningError:
        raise
    except (SafetensorError, json.JSONDecodeError) as error:
        raise UnlearningError("bad_model", "A file of the model is damaged: upload the version again.") from error
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise UnsupportedModel(f"its folder cannot be loaded for the task {task} ({_first_line(error)})") from error
    stored = {name: tensor.dtype for name, tensor in _tensors(model)}
    model = model.float().to(device).eval()
    loaded = LoadedModel(model, folder, config, device, stored, is_adapter)
    if not loaded.trainable:
        raise UnsupportedModel("all of its weights are frozen")
    return loaded


def load_tokenizer(model: LoadedModel) -> PreTrainedTokenizerBase:
    """The tokenizer in the model folder, or in an adapter's base. Raises ``UnsupportedModel`` if there is none."""
    own = model.folder / "tokenizer_config.json"
    folder = model.folder if own.exists() or not model.is_adapter else model.folder / BASE_FOLDER
    try:
        return AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except (ValueError, OSError, KeyError, ImportError) as error:
        raise UnsupportedModel(f"its tokenizer cannot be loaded ({_first_line(error)})") from error


def end_token(model: LoadedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id of the end-of-sequence token. Raises ``UnsupportedModel`` if neither tokenizer nor model names one."""
    declared = tokenizer.eos_token_id
    declared = model.config.eos_token_id if declared is None else declared
    declared = declared[0] if isinstance(declared, list) else declared
    if not isinstance(declared, int):
        raise UnsupportedModel("neither its tokenizer nor its config names an end-of-sequence token")
    return declared


def max_tokens(config: PretrainedConfig) -> int | None:
    """How many positions a language model has; None when its config does not say."""
    limit = getattr(config, "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def _config(folder: Path) -> PretrainedConfig:
    raw = json.loads((folder / "config.json").read_text())
    if "auto_map" in raw:
        raise UnsupportedModel("its config asks for code of its own, which is never run")
    if "quantization_config" in raw:
        raise UnsupportedModel("its weights are quantised: register the version from which they were made")
    return AutoConfig.from_pretrained(folder, **_LOCAL)


def _refuse_unsafe(folder: Path) -> None:
    unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in _PICKLES)
    if unsafe:
        raise UnlearningError("unsafe_weights", f"The model folder holds {unsafe[0]}; only safetensors are accepted.")


def _with_adapter(base: nn.Module, folder: Path) -> "PeftModel":
    from peft import PeftModel  # it takes a second to load, and few models are adapters

    settings = json.loads((folder / ADAPTER_CONFIG).read_text())
    if settings.get("peft_type") != "LORA":
        raise UnsupportedModel(f"its adapter is of type {settings.get('peft_type')}; only LoRA is supported")
    if not (folder / ADAPTER_WEIGHTS).exists():
        raise UnsupportedModel(f"its adapter has no {ADAPTER_WEIGHTS}")
    return PeftModel.from_pretrained(
        cast("Any", base), folder, is_trainable=True, torch_device="cpu", autocast_adapter_dtype=False
    )


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights and floating buffers (BatchNorm statistics), by name, tied ones once."""
    yield from model.named_parameters()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if buffer.is_floating_point())


def _first_line(error: Exception) -> str:
    logging.getLogger(__name__).debug("model_not_loaded", exc_info=error)
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
