"""Keeps libraries from loading root certificates that nothing uses.

aiohttp makes two TLS contexts when it is imported, each with every root certificate of the system:
30 ms, and 2.3 MiB for as long as the process runs. The sidecar uses neither; `issuers.documents`
makes a context for each fetch.
"""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def spared_roots() -> Iterator[None]:
    """Let OpenSSL find no root certificates meanwhile. Only while no other thread runs."""
    paths = ssl.get_default_verify_paths()
    names = (paths.openssl_cafile_env, paths.openssl_capath_env)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
