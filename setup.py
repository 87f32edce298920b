"""Compiles the hot path to C extensions if SIDECAR_COMPILE is 1; all else is in pyproject.toml.

The modules are compiled as they are. Not among them are modules that define a `msgspec.Struct`: the
compiler drops the options of such a class. `make compiled` builds, `make unit-compiled` tests it.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import setup

AUTH = ("compact", "credentials", "denials", "gate", "preflight", "routes", "same_origin", "token_cache")
PROXY = (
    "admission",
    "clearing_leg",
    "client_connection",
    "connections",
    "control_leg",
    "downstream",
    "exchange",
    "fair_queue",
    "fair_share",
    "flow",
    "gathering",
    "pool",
    "proxied_exchange",
    "refusals",
    "rejections",
    "upload",
    "upstream",
    "upstream_leg",
    "upstream_loss",
    "verify",
)


def modules() -> list[str]:
    """The files that are compiled."""
    wire = sorted(str(path) for path in Path("sidecar/wire").glob("*.py") if path.stem != "__init__")
    auth = [f"sidecar/auth/{name}.py" for name in AUTH]
    return [*wire, *auth, *(f"sidecar/proxy/{name}.py" for name in PROXY)]


if os.environ.get("SIDECAR_COMPILE") == "1":
    from mypyc.build import mypycify

    setup(ext_modules=mypycify(modules(), opt_level="3"))
else:
    setup()
