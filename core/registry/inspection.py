"""Looking into a model folder without running or loading anything of it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, cast

from core.platform.bounded_json import loads
from core.platform.errors import InvalidInput, Problem
from core.platform.objects import ObjectStore
from core.platform.objects.port import CHUNK_BYTES
from core.registry.errors import InvalidModelFolder, TaskMismatch, TruncatedWeights, UnsafeWeights
from core.registry.safetensors import LENGTH_BYTES, LONGEST_HEADER, BadHeader, Truncated, header_length, tensor_names
from core.unlearning.job import StoredFile
from core.uploads.sources import SourceFile

CONFIG: Final = "config.json"
ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
BASE: Final = "base/"
WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

_LARGEST_SETTINGS: Final = 64 * 1024 * 1024
_UNSAFE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz", ".npy", ".dill"),
        "a pickle, which can run code when it is loaded",
    ),
    **dict.fromkeys((".h5", ".hdf5", ".keras", ".pb", ".msgpack", ".onnx", ".tflite", ".gguf"), "not safetensors"),
    **dict.fromkeys((".py", ".pyc", ".so", ".dll", ".dylib", ".sh", ".exe", ".whl"), "code"),
}
_UNSAFE_STARTS: Final[Mapping[bytes, str]] = {
    **{b"\x80" + bytes([version]): "a pickle, which can run code when it is loaded" for version in range(2, 6)},
    b"PK\x03\x04": "a zip archive, as pickled weights are",
    b"\x7fELF": "a program",
}
_ARCHITECTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "image-classification": ("ForImageClassification", "ForImageClassificationWithTeacher"),
    "causal-lm": ("ForCausalLM", "LMHeadModel"),
}
_CODE_KEYS: Final = ("auto_map", "custom_pipelines")


@dataclass(frozen=True, slots=True)
class Inspected:
    """One file as it was read once from beginning to end."""

    file: StoredFile
    settings: Mapping[str, Any] | None
    """The content of a JSON file that holds an object."""
    tensors: frozenset[str] | None
    """The tensors of a safetensors file."""


def refuse_unsafe_names(paths: Sequence[str]) -> None:
    """Raises ``UnsafeWeights`` naming every file that by its name could run code when loaded."""
    problems = [
        Problem(_pointer(path), "unsafe_weights", f"{path} is {_UNSAFE[suffix]}; weights must be safetensors.")
        for path in paths
        if (suffix := PurePosixPath(path).suffix.lower()) in _UNSAFE
    ]
    if problems:
        raise UnsafeWeights("The folder holds files that are not accepted: weights must be safetensors.", problems)


def inspect(store: ObjectStore, file: SourceFile) -> Inspected:
    """Read a file once: size, SHA-256, and what JSON or a safetensors header says.

    Raises ``UnsafeWeights``, ``TruncatedWeights``, ``InvalidModelFolder``, ``DependencyDown``.
    """
    try:
        with store.open(file.uri) as stream:
            reader = _Reading(stream)
            settings, tensors = _look(reader, file)
            reader.drain()
    except FileNotFoundError:
        raise _wrong(file.path, "file_missing", "it vanished while it was being read") from None
    found = StoredFile(file.path, file.uri, reader.size, reader.digest.hexdigest())
    if file.sha256 not in (None, found.sha256) or found.size_bytes != file.size_bytes:
        raise _wrong(file.path, "digest_mismatch", "it is not the file that was announced")
    return Inspected(found, settings, tensors)


def check_folder(files: Mapping[str, Inspected], task: str) -> None:
    """Whether the files make a model of this task: Hugging Face's layout, or an adapter with its base in ``base/``.

    Raises ``InvalidModelFolder``, ``UnsafeWeights``, ``TaskMismatch``.
    """
    _refuse_code(files)
    if ADAPTER_CONFIG in files:
        _check_adapter(files)
        _check_model({path.removeprefix(BASE): f for path, f in files.items() if path.startswith(BASE)}, task, BASE)
    else:
        _check_model({path: f for path, f in files.items() if not path.startswith(BASE)}, task, "")


class _Reading:
    """A stream read once, counted and digested."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.size = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes, fewer only at the end."""
        pieces: list[bytes] = []
        while count > 0 and (piece := self._stream.read(min(count, CHUNK_BYTES))):
            self.digest.update(piece)
            self.size += len(piece)
            count -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def drain(self) -> None:
        while self.take(CHUNK_BYTES):
            pass


def _look(reader: _Reading, file: SourceFile) -> tuple[Mapping[str, Any] | None, frozenset[str] | None]:
    first = reader.take(LENGTH_BYTES)
    # A safetensors file may begin with the bytes of a pickle, but then they are a length that makes sense.
    if not file.path.endswith(".safetensors") or int.from_bytes(first, "little") > LONGEST_HEADER:
        _refuse_start(first, file.path)
    if file.path.endswith(".safetensors"):
        return None, _tensors(reader, file, first)
    if file.path.endswith(".json") and file.size_bytes <= _LARGEST_SETTINGS:
        return _settings(first + reader.take(file.size_bytes)), None
    return None, None


def _refuse_start(first: bytes, path: str) -> None:
    for start, what in _UNSAFE_STARTS.items():
        if first.startswith(start):
            detail = f"{path} is {what}; weights must be safetensors."
            raise UnsafeWeights(detail, [Problem(_pointer(path), "unsafe_weights", detail)])


def _tensors(reader: _Reading, file: SourceFile, first: bytes) -> frozenset[str]:
    try:
        length = header_length(first, file_bytes=file.size_bytes)
        return tensor_names(reader.take(length), data_bytes=file.size_bytes - LENGTH_BYTES - length)
    except Truncated as error:
        detail = f"{file.path} is cut short: {error}."
        raise TruncatedWeights(detail, [Problem(_pointer(file.path), "truncated_weights", detail)]) from None
    except BadHeader as error:
        raise _wrong(file.path, "bad_weights", f"it is not a safetensors file, {error}") from None


def _settings(content: bytes) -> Mapping[str, Any] | None:
    try:
        value = loads(content)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _refuse_code(files: Mapping[str, Inspected]) -> None:
    problems = [
        Problem(_pointer(path), "unsafe_weights", f"{path} asks for code of its own ({key}), which is never run.")
        for path, inspected in files.items()
        for key in _CODE_KEYS
        if inspected.settings is not None and inspected.settings.get(key)
    ]
    if problems:
        raise UnsafeWeights("The model asks for code of its own (trust_remote_code), which is never run.", problems)


def _check_adapter(files: Mapping[str, Inspected]) -> None:
    settings = files[ADAPTER_CONFIG].settings
    if settings is None:
        raise _wrong(ADAPTER_CONFIG, "bad_config", "it is not a JSON object")
    if settings.get("peft_type") != "LORA":
        raise _wrong(ADAPTER_CONFIG, "unsupported_adapter", "only adapters of peft_type LORA are supported")
    mapping: Any = settings.get("auto_mapping") or {}
    if not isinstance(mapping, dict):
        raise _wrong(ADAPTER_CONFIG, "bad_config", "its auto_mapping is not a JSON object")
    library = cast("dict[str, Any]", mapping).get("parent_library", "transformers")
    if not str(library).startswith("transformers"):
        detail = f"{ADAPTER_CONFIG} loads its base with a library other than transformers, which is never run."
        raise UnsafeWeights(detail, [Problem(_pointer(ADAPTER_CONFIG), "unsafe_weights", detail)])
    if ADAPTER_WEIGHTS not in files:
        raise _wrong(ADAPTER_WEIGHTS, "missing_weights", "an adapter folder needs this file")
    if not any(path.startswith(BASE) for path in files):
        raise _wrong(BASE, "missing_base", "an adapter folder carries its base model in this sub-folder")


def _check_model(files: Mapping[str, Inspected], task: str, folder: str) -> None:
    if CONFIG not in files:
        raise _wrong(folder + CONFIG, "missing_config", "a model folder needs this file")
    settings = files[CONFIG].settings
    if settings is None:
        raise _wrong(folder + CONFIG, "bad_config", "it is not a JSON object")
    if settings.get("quantization_config"):
        raise _wrong(
            folder + CONFIG, "quantised_weights", "its weights are quantised; register those they were made from"
        )
    _check_task(settings, task, folder)
    if WEIGHTS not in files and INDEX not in files:
        raise _wrong(folder + WEIGHTS, "missing_weights", f"a model folder needs this file, or {INDEX} with its parts")
    if WEIGHTS not in files:
        _check_parts(files, folder)


def _check_task(settings: Mapping[str, Any], task: str, folder: str) -> None:
    raw = settings.get("architectures")
    names = [str(name) for name in cast("list[Any]", raw)] if isinstance(raw, list) else []
    if any(name.endswith(_ARCHITECTURES[task]) for name in names):
        return
    said = f"architecture {', '.join(names)[:200]}" if names else "no architecture"
    detail = f"{folder}{CONFIG} names {said}, and the model's task is {task}."
    raise TaskMismatch(detail, [Problem(_pointer(folder + CONFIG), TaskMismatch.code, detail)])


def _check_parts(files: Mapping[str, Inspected], folder: str) -> None:
    index = files[INDEX].settings or {}
    raw = index.get("weight_map")
    if not isinstance(raw, dict) or not raw:
        raise _wrong(folder + INDEX, "bad_index", "it has no weight_map")
    for tensor, name in cast("dict[str, Any]", raw).items():
        part = files.get(str(name))
        if part is None or part.tensors is None:
            raise _wrong(folder + INDEX, "missing_weights", "it names a part that is not in the folder")
        if tensor not in part.tensors:
            raise _wrong(folder + INDEX, "missing_weights", f"it places a tensor in {name} that is not there")


def _pointer(path: str) -> str:
    escaped = path.replace("~", "~0").replace("/", "~1")
    return f"/files/{escaped}"


def _wrong(path: str, code: str, why: str) -> InvalidInput:
    detail = f"{path}: {why}."
    return InvalidModelFolder(detail, [Problem(_pointer(path), code, detail)])
