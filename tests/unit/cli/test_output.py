"""What a person reads has no JSON in it, and no signed links."""

import pytest

from cli.output import print_fields


def test_nested_values_are_put_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"path": "config.json", "size": 3, "url": "http://signed"}, {"path": "a.safetensors", "size": 4}]
    print_fields({"predicted_steps": {"low": 12, "expected": 21.5}, "files": files, "nothing": []})
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "predicted steps  low 12, expected 21.5",
        "files            path config.json, size 3",
        "path a.safetensors, size 4",
    ]
