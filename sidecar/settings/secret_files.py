"""Secrets that stand in files of their own, as orchestrators mount them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.secret import Secret
from sidecar.settings.kinds import Refused
from sidecar.settings.sources import is_paired

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.settings.kinds import Kind
    from sidecar.settings.reader import Given, Reader

LARGEST: Final = 65536  # bytes


def read_secret(path: str, *, absent: bool = False) -> Secret:
    """A file's text without its last line break; an empty one if it may be `absent`, and is.

    Raises Refused when it holds no secret.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as fault:
        if absent and isinstance(fault, FileNotFoundError):
            return Secret("")
        raise Refused(f"cannot be read: {fault.strerror}") from None
    if len(content) > LARGEST:
        raise Refused(f"expected a file of at most {LARGEST} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise Refused("expected a file of UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise Refused("expected a secret in the file; it is empty")
    return Secret(text)


def read_secret_files(
    reader: Reader, kinds: Mapping[str, Kind], given: Mapping[str, Given], values: dict[str, object]
) -> dict[str, Given]:
    """Put each `x_file`'s content into `x`. Returns what was given, with each secret's place."""
    found = dict(given)
    for name in [name for name in kinds if kinds[name].secret and is_paired(name, kinds)]:
        source = given.get(f"{name}_file")
        if source is None:
            continue
        if name in given:
            both = f"{name.upper()} and {name.upper()}_FILE"
            reader.report(source.where, f"expected only one of {both}; both are set")
        found[name] = source
        path = values.get(source_name := f"{name}_file")
        values.pop(name, None)
        if isinstance(path, str):
            try:
                values[name] = read_secret(path, absent=kinds[source_name].absent)
            except Refused as refusal:
                values.pop(source_name)
                reader.report(source.where, str(refusal))
    return found
