"""``unlearn datasets``: register training records and look at them, over the API."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.following import follow_dataset
from cli.output import Failed, print_fields, print_json
from cli.selecting import pairs
from cli.uploading import upload

app = typer.Typer(no_args_is_help=True, help="Training records of models.")


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="Name of the new data set.")],
    source: Annotated[str, typer.Argument(help="Local file or folder, or s3://… that the service may read.")],
    task: Annotated[str, typer.Option(help="image-classification or causal-lm.")],
    column: Annotated[list[str], typer.Option(help="role=column, for example record_id=id; repeat.")],
    fmt: Annotated[str, typer.Option("--format", help="parquet or jsonl.")] = "parquet",
    image_shape: Annotated[str | None, typer.Option(help="height,width,channels of raw pixels.")] = None,
    identity: Annotated[list[str] | None, typer.Option(help="type=column of an identity; repeat.")] = None,
    prompt_template: Annotated[str | None, typer.Option(help="How the prompt is written; default '{prompt} '.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Register a data set from local files (uploaded) or from where it lies, and wait for its index."""
    columns: dict[str, Any] = pairs(column, "--column")
    if identity:
        columns["identities"] = pairs(identity, "--identity")
    body: dict[str, Any] = {"name": name, "task": task, "format": fmt, "columns": columns}
    if image_shape:
        body["image_shape"] = shape(image_shape)
    if prompt_template is not None:
        body["prompt_template"] = prompt_template
    with connect(url, key) as api:
        body |= {"source_uri": source} if "://" in source else {"upload_id": upload(api, Path(source))}
        api.post("/v1/datasets", body)
        dataset = follow_dataset(api, name)
    print_json(dataset) if as_json else print_fields(dataset)


@app.command()
def show(name: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Counts by split, erased records, subjects and fingerprint of a data set."""
    with connect(url, key) as api:
        dataset = api.get(f"/v1/datasets/{name}")
    print_json(dataset) if as_json else print_fields(dataset)


def shape(text: str) -> list[int]:
    """``"8,8,1"`` as ``[8, 8, 1]``. Raises ``Failed`` for anything else than three numbers."""
    parts = text.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise Failed(f"--image-shape {text}: write it as height,width,channels")
    return [int(part) for part in parts]
