"""Replay a folder of reference vectors: ``python -m benchmarks.golden DIR``.

The folder holds ``index.json`` (cases with options, inputs and outputs) and one safetensors file a suite; its README
gives the format. Every case runs through ``core.hamu`` with the published rules; where these and ours must agree the
case also runs with ours. Ends with the line ``N passed, N failed`` and exit code 1 if any failed.
"""

from benchmarks.golden.replay import cases

__all__ = ["cases"]
