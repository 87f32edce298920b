"""Log lines on standard output, one JSON object each, with nothing secret in any of them.

Everything a record carries (message, arguments, extras, exceptions) is redacted at the last moment,
as text, so that no call elsewhere has to remember to. Knows nothing of what is logged.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sidecar.secret import Secret

Format = Literal["json", "text"]

REDACTED: Final = "[redacted]"
# What gives entry, by its looks; group 1 stays. A pattern is tried only where its mark stands,
# in any case: on an ordinary line all of this costs 1 µs, one pattern of all alternatives 11.
_LOOKS: Final = tuple(
    (mark, re.compile(pattern, re.ASCII))
    for mark, pattern in (
        ("eyj", r"()eyJ[A-Za-z0-9_\-+/=.%~]+"),  # `{"` in base64url: a JWT, or a segment of one
        # A JWT whose header begins with white space.
        ("ey", r"()ey[A-Za-z0-9_\-]{14,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
        ("ew", r"()ew[A-Za-z0-9_\-]{14,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
        ("bearer", r"((?i:bearer)(?:[\s+:=]|%20)+)[^\s\"',;]+"),
        ("__host-", r"(__Host-[\w\-]+=)[^\s\"',;]+"),
        ("__secure-", r"(__Secure-[\w\-]+=)[^\s\"',;]+"),
        ("://", r"(://)[^\s/@:\"']*:[^\s/@\"']+(?=@)"),  # a URL's user and password
    )
)
# A secret shorter than this protects nothing, and would blot out ordinary words.
_SHORTEST: Final = 4
_DEEPEST: Final = 6
_OWN: Final = frozenset({"ts", "level", "logger", "message", "exc"})
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class Redactor:
    """Takes out of a text whatever gives entry: by its looks, and every secret it was told."""

    __slots__ = ("_known", "_told")

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._told: set[str] = set()
        self._known: re.Pattern[str] | None = None
        for secret in secrets:
            self.add(secret)

    def __repr__(self) -> str:
        return f"<Redactor with {len(self._told)} secret forms>"

    def add(self, secret: Secret) -> None:
        """From now on this secret is taken out too, also where it stands escaped."""
        text = secret.reveal()
        forms = {text, text.strip(), quote(text, safe="", errors="backslashreplace")}
        forms |= {form(text)[1:-1] for form in (repr, ascii, json.dumps, _json_unicode)}
        self._told |= {form for form in forms if len(form) >= _SHORTEST}
        if not self._told:
            return
        longest_first = sorted(self._told, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if not text.isascii():  # lone surrogates cannot be written
            text = text.encode("utf-8", "backslashreplace").decode()
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        lower = text.lower()
        for mark, pattern in _LOOKS:
            if mark in lower:
                text = pattern.sub(_redacted, text)
        return str.__str__(text)  # an exact str: the encoder refuses its sub-classes

    def plain(self, value: object, depth: int = 0) -> Any:
        """The value as JSON types, every text in it redacted; anything else by its `str`."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, float):
            return float(value)
        if isinstance(value, str):
            return self(value)
        if isinstance(value, int):
            return int(value) if -(2**63) <= value < 2**64 else self(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self(bytes(value).decode("utf-8", "backslashreplace"))
        if depth < _DEEPEST:
            if isinstance(value, Mapping):
                return {self(str(k)): self.plain(v, depth + 1) for k, v in value.items()}
            if isinstance(value, Sequence | AbstractSet):
                return [self.plain(item, depth + 1) for item in value]
        return self(str(value))


class _Formatter(logging.Formatter):
    """What both formats share: a record as redacted parts."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redact = redactor

    def _parts(self, record: logging.LogRecord) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "ts": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": self._redact(record.name),
            "message": self._redact(record.getMessage()),
        }
        for key, value in vars(record).items():
            if key not in _RECORD:
                parts[self._redact(f"{key}_" if key in _OWN else key)] = self._redact.plain(value)
        fault = self._fault(record)
        if fault:
            parts["exc"] = self._redact(fault)
        return parts

    @staticmethod
    def _fault(record: logging.LogRecord) -> str:
        fault = ""
        if record.exc_info and record.exc_info[1] is not None:
            fault = "".join(traceback.format_exception(record.exc_info[1]))
        return "\n".join(filter(None, (fault.rstrip(), record.stack_info)))


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return msgspec.json.encode(self._parts(record)).decode("utf-8", "replace")


class TextFormatter(_Formatter):
    """For a person at a terminal: `18:00:22 info sidecar.app: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception follows on lines of its own."""
        parts = self._parts(record)
        fault = parts.pop("exc", "")
        clock = parts.pop("ts")[11:19]
        head = f"{clock} {parts.pop('level')} {parts.pop('logger')}: {parts.pop('message')}"
        line = " ".join((head, *(f"{key}={value}" for key, value in parts.items())))
        return f"{printable(line)}\n{fault}" if fault else printable(line)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say where a record could not be written; logging itself would print its arguments."""
        kind = sys.exc_info()[0]
        with contextlib.suppress(OSError, ValueError):  # standard error may be closed as well
            sys.stderr.write(
                f"log record of {record.name} at {record.filename}:{record.lineno} not written:"
                f" {kind.__name__ if kind else 'unknown'}\n"
            )


def configure(
    *, level: str, form: Format, redactor: Redactor, stream: TextIO | None = None
) -> logging.Handler:
    """Send every record of this process, warnings included, to `stream` (standard output).

    Returns the handler. Records of a lower level than `level` ("debug" … "critical") are left out.
    """
    handler = _Handler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter(redactor) if form == "json" else TextFormatter(redactor))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    return handler


def _log_uncaught(kind: type[BaseException], fault: BaseException, trace: object) -> None:
    del trace  # the fault has it
    logging.getLogger("sidecar").critical("uncaught %s", kind.__name__, exc_info=fault)


def _json_unicode(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _redacted(found: re.Match[str]) -> str:
    return f"{found[1]}{REDACTED}"


def printable(text: str) -> str:
    """The text with control characters escaped, so that one line cannot pretend to be two."""
    return text.translate(_CONTROL)


def rfc3339(seconds: float) -> str:
    """A time since the epoch as `2026-01-31T23:59:59.123Z`."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)  # records come many to a second: 0.6 µs, against 2.6
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
