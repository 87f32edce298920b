"""Log lines on standard output, one JSON object (or line of text) each, without secrets.

Everything that a record carries (message, arguments, extras, exceptions) is redacted as text just
before it is written, so callers need not take care of it. Of a library's record only the constant
part is written, because libraries quote what a peer sent. Does not know what is logged.
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
# What credentials look like; group 1 of a pattern is kept. A pattern is tried only if the text
# contains its mark in lower or upper case: on an ordinary line all of them cost 1 µs, one pattern
# with all alternatives 11 µs.
_LOOKS: Final = tuple(
    (mark, re.compile(pattern, re.ASCII))
    for mark, pattern in (
        ("eyj", r"()eyJ[A-Za-z0-9_\-+/=.%~]+"),  # `{"` in base64url: a JWT, or a segment of one
        # A JWT whose header begins with white space
        ("ey", r"()ey[A-Za-z0-9_\-]{14,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
        ("ew", r"()ew[A-Za-z0-9_\-]{14,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
        ("bearer", r"((?i:bearer)(?:[\s+:=]|%20)+)[^\s\"',;]+"),
        ("__host-", r"(__Host-[\w\-]+=)[^\s\"',;]+"),
        ("__secure-", r"(__Secure-[\w\-]+=)[^\s\"',;]+"),
        ("://", r"(://)[^\s/@:\"']*:[^\s/@\"']+(?=@)"),  # a URL's user and password
    )
)
# A shorter secret protects nothing, and redacting it would hide ordinary words.
_SHORTEST: Final = 4
_DEEPEST: Final = 6  # levels of nested containers that are shown as such
_OWN: Final = frozenset({"ts", "level", "logger", "message", "exc"})
# Python's warnings are about code, and name it.
_OWN_LOGGERS: Final = frozenset({"sidecar", "py"})
_FILLED: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(?:\*|\d+)?(?:\.(?:\*|\d+))?[a-zA-Z]")
_QUOTES: Final = re.compile(r"[(<{\['\"\n]")
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Control characters; and what separates lines or turns the direction of text in Unicode
_CONTROL: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}"
    for code in (0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
_WORD: Final = re.compile(r"[^\s\"=]+")


class Redactor:
    """Removes credentials from texts: what looks like one, and every secret that was added.

    `cookie` is the name of the session cookie, whose value is removed as well.
    """

    __slots__ = ("_cookie", "_forms", "_known")

    def __init__(self, secrets: Iterable[Secret] = (), *, cookie: str = "") -> None:
        self._forms: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self._cookie: re.Pattern[str] | None = None
        if cookie:
            name = re.escape(cookie)
            self._cookie = re.compile(rf"((?<![\w\-]){name}\s*=\s*)[^\s\"',;]+", re.ASCII)
        for secret in secrets:
            self.add(secret)

    def __repr__(self) -> str:
        return f"<Redactor with {len(self._forms)} secret forms>"

    def add(self, secret: Secret) -> None:
        """Remove this secret from now on, in its plain and its escaped forms."""
        text = secret.reveal()
        forms = {text, text.strip(), quote(text, safe="", errors="backslashreplace")}
        forms |= {form(text)[1:-1] for form in (repr, ascii, json.dumps, _json_unicode)}
        self._forms |= {form for form in forms if len(form) >= _SHORTEST}
        if not self._forms:
            return
        longest_first = sorted(self._forms, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first)))

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        if not text.isascii():  # lone surrogates cannot be written
            text = text.encode("utf-8", "backslashreplace").decode()
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        if self._cookie is not None:
            text = self._cookie.sub(_redacted, text)
        lower = text.lower()
        for mark, pattern in _LOOKS:
            if mark in lower:
                text = pattern.sub(_redacted, text)
        return str.__str__(text)  # an exact str, because the encoder refuses subclasses

    def plain(self, value: object, depth: int = 0) -> Any:
        """The value as JSON types with every text redacted; other types become their `str`."""
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
    """Base of both formatters: turns a record into redacted parts."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redact = redactor

    def _parts(self, record: logging.LogRecord) -> dict[str, Any]:
        own = record.name.partition(".")[0] in _OWN_LOGGERS
        message = record.getMessage() if own else _constant_part(record)
        parts: dict[str, Any] = {
            "ts": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": self._redact(record.name),
            "message": self._redact(message),
        }
        if not own:
            if record.exc_info and record.exc_info[1] is not None:
                parts["exc"] = self._redact(trace_of(record.exc_info[1]))
            return parts
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
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its line break."""
        return msgspec.json.encode(self._parts(record)).decode("utf-8", "replace")


class TextFormatter(_Formatter):
    """Formats a record for a terminal: `18:00:22 info sidecar.app: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; an exception follows on separate lines."""
        parts = self._parts(record)
        fault = parts.pop("exc", "")
        clock = parts.pop("ts")[11:19]
        head = f"{clock} {parts.pop('level')} {parts.pop('logger')}: {parts.pop('message')}"
        line = " ".join((head, *(f"{key}={as_word(str(value))}" for key, value in parts.items())))
        return f"{printable(line)}\n{fault}" if fault else printable(line)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Report a record that could not be written, without the arguments that logging prints."""
        kind = sys.exc_info()[0]
        with contextlib.suppress(OSError, ValueError):  # standard error may be closed as well
            sys.stderr.write(
                f"log record of {record.name} at {record.filename}:{record.lineno} not written:"
                f" {kind.__name__ if kind else 'unknown'}\n"
            )


def configure(
    *, level: str, form: Format, redactor: Redactor, stream: TextIO | None = None
) -> logging.Handler:
    """Send all records of this process, warnings included, to `stream` (standard output).

    Records below `level` ("debug" … "critical") are left out. Returns the handler.
    """
    handler = _Handler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter(redactor) if form == "json" else TextFormatter(redactor))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    return handler


def trace_of(fault: BaseException) -> str:
    """An exception and its causes as a traceback without their texts, which may quote a peer."""
    parts: list[str] = []
    seen: set[int] = set()
    each: BaseException | None = fault
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        kind = f"{type(each).__module__}.{type(each).__qualname__}".removeprefix("builtins.")
        parts.append("".join((*traceback.format_tb(each.__traceback__), kind)))
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\nwhile handling:\n".join(parts)


def _constant_part(record: logging.LogRecord) -> str:
    """A library's message without what it was filled with.

    asyncio fills its messages itself: it shows arguments in brackets, on the first line or below.
    """
    message = str(record.msg)
    if record.args:
        return _FILLED.sub("…", message)
    return _QUOTES.split(message, maxsplit=1)[0].rstrip()


def _log_uncaught(kind: type[BaseException], fault: BaseException, trace: object) -> None:
    del trace  # the exception carries it
    logging.getLogger("sidecar").critical("uncaught %s", kind.__name__, exc_info=fault)


def _json_unicode(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _redacted(found: re.Match[str]) -> str:
    return f"{found[1]}{REDACTED}"


def as_word(text: str) -> str:
    """The text in quotes if it is not one word, so that one value cannot look like two."""
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def printable(text: str) -> str:
    """The text with control characters escaped, so that one line cannot look like two."""
    return text.translate(_CONTROL)


def rfc3339(seconds: float) -> str:
    """A time since the epoch as `2026-01-31T23:59:59.123Z`."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=4)  # many records share a second: 0.6 µs instead of 2.6
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
