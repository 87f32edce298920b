"""Reads secrets from files that contain nothing else, as orchestrators mount them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sidecar.secret import Secret
from sidecar.settings.kinds import InvalidValue
from sidecar.settings.sources import is_paired, without_line_break

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.settings.kinds import ValueKind
    from sidecar.settings.reader import RawValue, Reader

LARGEST: Final = 65536  # bytes


def read_secret(path: str, *, absent: bool = False) -> Secret:
    """Read a secret from a file, without its last line break.

    A missing file is an empty secret if it may be `absent`. Raises InvalidValue, with a message, if
    the file cannot be read or contains no secret.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as fault:
        if absent and isinstance(fault, FileNotFoundError):
            return Secret("")
        raise InvalidValue(f"cannot be read: {fault.strerror}") from None
    if len(content) > LARGEST:
        raise InvalidValue(f"expected a file of at most {LARGEST} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise InvalidValue("expected a file of UTF-8 text") from None
    text = without_line_break(text)
    if not text:
        raise InvalidValue("expected a secret in the file; it is empty")
    return Secret(text)


def read_secret_files(
    reader: Reader,
    kinds: Mapping[str, ValueKind],
    given: Mapping[str, RawValue],
    values: dict[str, object],
) -> dict[str, RawValue]:
    """Set each secret `x` in `values` to the content of its `x_file`.

    Returns `given` in which each secret that was read from a file has the place of that file.
    """
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
            except InvalidValue as error:
                values.pop(source_name)
                reader.report(source.where, str(error))
    return found
