"""Model folders come back as they were, but for the weights that were trained."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from core.unlearning.failures import UnlearningError, UnsupportedModel
from core.unlearning.job import Task
from core.unlearning.models import LoadedModel, load_model, max_tokens

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")

CPU = torch.device("cpu")


def llama(*, tied: bool = True) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=16, tie_word_embeddings=tied,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    return ResNetForImageClassification(config)


def vit() -> ViTForImageClassification:
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    return ViTForImageClassification(config)


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=16))


def saved(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(str(folder))
    (folder / "tokenizer.json").write_text('{"kept":  "as it is"}')
    return folder


def adapter(folder: Path) -> Path:
    base = saved(llama(), folder / "base")
    model = get_peft_model(
        LlamaForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.5)
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
    model.save_pretrained(str(folder))
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "/gone"}, indent=3))
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def shift(loaded: LoadedModel, by: float) -> None:
    with torch.no_grad():
        for weight in loaded.trainable.values():
            weight.add_(by)


@pytest.mark.parametrize(
    ("make", "task"),
    [(llama, "causal-lm"), (gpt2, "causal-lm"), (resnet, "image-classification"), (vit, "image-classification")],
)
def test_an_untouched_model_comes_back_with_equal_weights_and_all_its_files(
    tmp_path: Path, make: type, task: Task
) -> None:
    folder = saved(make(), tmp_path / "model")
    load_model(folder, task, CPU).save(tmp_path / "out")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = {name for name, digest in digests(folder).items() if digests(tmp_path / "out")[name] != digest}
    assert changed <= {"model.safetensors"}
    assert digests(folder).keys() == digests(tmp_path / "out").keys()


def test_changed_weights_are_what_is_loaded_again(tmp_path: Path) -> None:
    loaded = load_model(saved(llama(), tmp_path / "model"), "causal-lm", CPU)
    shift(loaded, 0.5)
    loaded.save(tmp_path / "out")
    again = load_model(tmp_path / "out", "causal-lm", CPU)
    for name, weight in loaded.trainable.items():
        torch.testing.assert_close(again.trainable[name], weight)


def test_tied_weights_take_part_once(tmp_path: Path) -> None:
    tied = load_model(saved(llama(tied=True), tmp_path / "a"), "causal-lm", CPU).trainable
    untied = load_model(saved(llama(tied=False), tmp_path / "b"), "causal-lm", CPU).trainable
    assert untied.keys() - tied.keys() == {"lm_head.weight"}


def test_half_precision_is_computed_in_float32_and_written_back(tmp_path: Path) -> None:
    folder = saved(llama().to(torch.bfloat16), tmp_path / "model")
    loaded = load_model(folder, "causal-lm", CPU)
    assert {weight.dtype for weight in loaded.trainable.values()} == {torch.float32}
    loaded.save(tmp_path / "out")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.bfloat16}
    assert {weight.dtype for weight in loaded.trainable.values()} == {torch.float32}


def test_rounding_keeps_an_update_that_the_nearest_number_would_lose(tmp_path: Path) -> None:
    """Ones of bfloat16 are followed by 1.0078: after 1 + 0.001 an eighth of them has to become that."""
    loaded = load_model(saved(llama().to(torch.bfloat16), tmp_path / "model"), "causal-lm", CPU)
    norm = loaded.trainable["model.norm.weight"]
    means = []
    for seed in range(400):
        with torch.no_grad():
            norm.fill_(1.001)
        loaded.round_to_stored(seed)
        assert set(norm.tolist()) <= {1.0, 1.0078125}
        means.append(float(norm.detach().mean()) - 1)
    draws = 400 * norm.numel()
    spread = (0.001 * 0.0078125 / draws) ** 0.5
    assert sum(means) / 400 == pytest.approx(0.001, abs=5 * spread)


def test_rounding_leaves_a_weight_that_did_not_move(tmp_path: Path) -> None:
    loaded = load_model(saved(llama().to(torch.bfloat16), tmp_path / "model"), "causal-lm", CPU)
    before = {name: weight.detach().clone() for name, weight in loaded.trainable.items()}
    loaded.round_to_stored(1)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.trainable.items())


def test_a_float32_model_is_not_rounded(tmp_path: Path) -> None:
    loaded = load_model(saved(llama(), tmp_path / "model"), "causal-lm", CPU)
    shift(loaded, 1e-3)
    before = {name: weight.detach().clone() for name, weight in loaded.trainable.items()}
    loaded.round_to_stored(1)
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.trainable.items())


def test_batchnorm_statistics_and_dropout_are_frozen(tmp_path: Path) -> None:
    loaded = load_model(saved(resnet(), tmp_path / "model"), "image-classification", CPU)
    before = {name: buffer.clone() for name, buffer in loaded.model.named_buffers()}
    loaded.model(pixel_values=torch.randn(4, 1, 8, 8)).logits.sum().backward()
    assert not loaded.model.training
    assert all(torch.equal(buffer, before[name]) for name, buffer in loaded.model.named_buffers())


def test_only_an_adapters_weights_take_part_and_its_base_is_untouched(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "model")
    loaded = load_model(folder, "causal-lm", CPU)
    assert loaded.is_adapter
    assert all("lora_" in name for name in loaded.trainable)
    shift(loaded, 0.25)
    loaded.save(tmp_path / "out")
    before, after = digests(folder), digests(tmp_path / "out")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"adapter_model.safetensors"}
    old, new = (load_file(place / "adapter_model.safetensors") for place in (folder, tmp_path / "out"))
    assert old.keys() == new.keys()
    for name in old:
        torch.testing.assert_close(new[name], old[name] + 0.25)


def test_positions_are_known_under_either_name() -> None:
    assert max_tokens(llama().config) == 16
    assert max_tokens(gpt2().config) == 16


def edit_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"model_type": "nobody-knows"}, "cannot be loaded"),
    ],
)
def test_models_that_are_not_supported_are_explained(tmp_path: Path, values: dict[str, object], why: str) -> None:
    folder = saved(llama(), tmp_path / "model")
    edit_config(folder, **values)
    with pytest.raises(UnsupportedModel, match=why):
        load_model(folder, "causal-lm", CPU)


def test_the_wrong_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel):
        load_model(saved(resnet(), tmp_path / "model"), "causal-lm", CPU)


def test_a_folder_without_config_or_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel):
        load_model(tmp_path, "causal-lm", CPU)
    folder = saved(llama(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnsupportedModel):
        load_model(folder, "causal-lm", CPU)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UnlearningError) as caught:
        load_model(folder, "causal-lm", CPU)
    assert caught.value.code == "bad_model"


def test_pickles_are_refused(tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "model")
    (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(UnlearningError, match=r"optimizer\.pt"):
        load_model(folder, "causal-lm", CPU)


def test_weights_that_are_not_finite_shapes_of_the_config_are_refused(tmp_path: Path) -> None:
    folder = saved(llama(), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor[:1].contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    with pytest.raises(UnlearningError):
        load_model(folder, "causal-lm", CPU)
