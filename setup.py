"""Compiles the hot path to C extensions if SIDECAR_COMPILE is 1; all else is in pyproject.toml.

The source is compiled as it is. `tests/test_compiled.py` says what a compiled module must not have.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from setuptools import setup

if os.environ.get("SIDECAR_COMPILE") == "1":
    from mypyc.build import mypycify

    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    names = project["tool"]["sidecar"]["compiled"]
    files = [f"{name.replace('.', '/')}.py" for name in names]
    setup(ext_modules=mypycify(files, opt_level="3"))
else:
    setup()
