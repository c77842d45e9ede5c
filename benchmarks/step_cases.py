"""Models and batches for ``benchmarks.hamu_step``: random weights and random data, for the cost depends on neither."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

Closure = Callable[[], Tensor]

SMALL_LLAMA = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8}
SMALL_LLAMA |= {"num_attention_heads": 8, "num_key_value_heads": 8}
LARGE_LLAMA = {"vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
LARGE_LLAMA |= {"num_attention_heads": 32, "num_key_value_heads": 8}


@dataclass(frozen=True, slots=True)
class Case:
    """A model with a retain and a forget batch of the same size."""

    name: str
    build: Callable[[], nn.Module]
    batch: int
    tokens: int = 0
    """Length of a text; 0 for images."""
    dtype: torch.dtype = torch.float32
    cuda_only: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A case on its device. Only ``weights`` are trained."""

    weights: Sequence[Tensor]
    retain_loss: Closure
    forget_loss: Closure

    @property
    def gradient_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.weights)


class _Block(nn.Module):
    """Two 3×3 convolutions with a shortcut that subsamples and pads with zeros (He et al. 2015, option A)."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.stride, self.missing = stride, outer - inner

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))
        y = self.norms[0](self.first(x)).relu()
        return (self.norms[1](self.second(y)) + shortcut).relu()


def resnet20() -> nn.Module:
    """He et al.'s network for 32×32 images, 0.27 M weights."""
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    pairs = list(pairwise(widths))
    blocks = [_Block(inner, outer, 1 if inner == outer else 2) for inner, outer in pairs]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def llama(shape: dict[str, int]) -> nn.Module:
    config: Any = LlamaConfig(**shape, tie_word_embeddings=True, use_cache=False)  # pyright: ignore[reportArgumentType]
    return LlamaForCausalLM(config)


def llama_with_lora() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    base: Any = llama(SMALL_LLAMA)
    return get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))


CASES = {
    case.name: case
    for case in (
        Case("resnet20", resnet20, batch=128),
        Case("llama-30m", lambda: llama(SMALL_LLAMA), batch=8, tokens=128),
        Case("llama-30m-lora", llama_with_lora, batch=8, tokens=128),
        Case("llama-1b", lambda: llama(LARGE_LLAMA), batch=8, tokens=1024, dtype=torch.bfloat16, cuda_only=True),
    )
}


def prepare(case: Case, device: torch.device, *, batch: int) -> Task:
    """Build the model from seed 0 and put it and its batches on the device."""
    torch.manual_seed(0)
    with device:
        model = case.build().to(case.dtype).train()
    retain, forget = (_loss(model, case, device, batch) for _ in range(2))
    return Task([weight for weight in model.parameters() if weight.requires_grad], retain, forget)


def _loss(model: nn.Module, case: Case, device: torch.device, batch: int) -> Closure:
    if not case.tokens:
        x = torch.randn(batch, 3, 32, 32, dtype=case.dtype, device=device)
        y = torch.randint(10, (batch,), device=device)
        return lambda: functional.cross_entropy(model(x), y)
    ids = torch.randint(SMALL_LLAMA["vocab_size"], (batch, case.tokens), device=device)
    targets = ids[:, 1:].flatten()
    return lambda: functional.cross_entropy(model(input_ids=ids).logits[:, :-1].flatten(0, 1).float(), targets)
