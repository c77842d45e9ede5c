"""``unlearn models``: register models, their first weights, and look at their versions, over the API."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from cli.client import DEFAULT_URL, AsJson, Key, Url, connect
from cli.output import Failed, console, print_fields, print_json, print_rows, stderr
from cli.uploading import upload

app = typer.Typer(no_args_is_help=True, help="Models and their versions.")


@app.command()
def register(
    name: Annotated[str, typer.Argument(help="Name of the new model.")],
    source: Annotated[str, typer.Argument(help="Local Hugging Face folder, or s3://… that the service may read.")],
    task: Annotated[str, typer.Option(help="image-classification or causal-lm.")],
    dataset: Annotated[str, typer.Option(help="Name of the data set it was trained on.")],
    policy: Annotated[str | None, typer.Option(help="Name of a policy; default: the built-in one.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Register a model with its first version, from a local folder (uploaded) or from where it lies."""
    body: dict[str, Any] = {"name": name, "task": task, "dataset": dataset}
    body |= {key: value for key, value in {"policy": policy, "description": description}.items() if value}
    with connect(url, key) as api:
        weights = {"source_uri": source} if "://" in source else {"upload_id": upload(api, Path(source))}
        api.post("/v1/models", body)
        version = api.post(f"/v1/models/{name}/versions", weights)
    print_json(version) if as_json else print_fields(version)


@app.command()
def show(name: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """One model."""
    with connect(url, key) as api:
        model = api.get(f"/v1/models/{name}")
    print_json(model) if as_json else print_fields(model)


@app.command()
def versions(name: str, url: Url = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """The versions of a model."""
    with connect(url, key) as api:
        found = list(api.pages(f"/v1/models/{name}/versions", limit=None))
    if as_json:
        print_json(found)
    else:
        print_rows(
            found, ("version", "state", "parent_version", "run_id", "aliases", "holds_unlearned_in", "created_at")
        )


@app.command()
def purge(
    name: str,
    version: Annotated[int, typer.Argument(help="Number.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Put a version out of use for good; its files are deleted soon after."""
    with connect(url, key) as api:
        purged = api.post(f"/v1/models/{name}/versions/{version}/purge", {})
    print_json(purged) if as_json else print_fields(purged)


@app.command()
def download(
    name: str,
    version: Annotated[str, typer.Argument(help="Number or alias.")],
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Fetch the files of a version; each is checked against its size and SHA-256 before it gets its name."""
    with connect(url, key) as api:
        found = api.get(f"/v1/models/{name}/versions/{version}")
    fetch(found, folder)
    console.print(f"version {found['version']} of {name}: {len(found['files'])} files in {folder}", soft_wrap=True)


def fetch(version: dict[str, Any], folder: Path) -> None:
    """Write a version's files below ``folder``. Raises ``Failed`` when one does not have its size and SHA-256."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bars = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    with bars, httpx.Client(timeout=300) as store:
        task = bars.add_task("download", total=sum(file["size"] for file in version["files"]))
        for file in version["files"]:
            if file["url"] is None:
                raise Failed(f"version {version['version']} has been purged")
            target = (folder / file["path"]).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise Failed(f"the file name {file['path']} leads out of the folder")
            _fetch_one(store, file, target, bars, task)


def _fetch_one(store: httpx.Client, file: dict[str, Any], target: Path, bars: Progress, task: TaskID) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    digest, size = hashlib.sha256(), 0
    with store.stream("GET", file["url"]) as answer, partial.open("wb") as out:
        if not answer.is_success:
            raise Failed(f"the object store refuses {file['path']}: {answer.status_code}")
        for chunk in answer.iter_bytes():
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
            bars.advance(task, len(chunk))
    if (size, digest.hexdigest()) != (file["size"], file["sha256"]):
        partial.unlink()
        raise Failed(f"{file['path']} is not what was published: its size or SHA-256 differs")
    partial.replace(target)
