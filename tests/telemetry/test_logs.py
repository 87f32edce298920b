"""Tests of `sidecar.telemetry.logs`: formats, redaction of secrets, and records that fail."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.secret import Secret
from sidecar.telemetry.logs import (
    JsonFormatter,
    Redactor,
    TextFormatter,
    configure,
    printable,
    rfc3339,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = jwt.encode({"sub": "alice"}, "k" * 32, headers={"typ": "at+jwt"})
ODD_TOKEN = "ewogICJhbGciOiJIUzI1NiIKfQ.eyAgInN1YiI6ICJhIn0.c2lnbmF0dXJl"  # header: "{\n  …"
PASSWORD = 'p"ss wörd\\%'


class Word(StrEnum):
    """A string enum, which is a subclass of `str`."""

    BEARER = f"Bearer {TOKEN}"


class Shown:
    """An object whose `repr` contains a token."""

    def __repr__(self) -> str:
        return f"<Shown {TOKEN}>"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what `configure` changed in the process."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    """The JSON lines that the process writes; a password is registered as a secret."""
    stream = io.StringIO()
    configure(level="debug", form="json", redactor=Redactor([Secret(PASSWORD)]), stream=stream)
    return stream


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    """Return a function that returns the records written so far."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


logger = logging.getLogger("sidecar.test")


def test_a_record_is_one_json_object(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A record has the time, level, logger, message and the extras with their types."""
    logger.info("listening on %s", "a\nb", extra={"port": 5005, "tls": False, "who": None})
    (line,) = lines()
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "sidecar.test",
        "message": "listening on a\nb",
        "port": 5005,
        "tls": False,
        "who": None,
    }


def test_an_exception_is_one_text(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A traceback is in the field `exc` of the same line."""
    try:
        int("broken")
    except ValueError:
        logger.exception("failed", stack_info=True)
    (line,) = lines()
    assert line["exc"].startswith("Traceback (most recent call last):")
    assert "'broken'\nStack (most recent call last)" in line["exc"]


def test_an_extra_cannot_take_the_place_of_a_field(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    """An extra with the name of a standard field is renamed."""
    logger.warning("real", extra={"level": "forged", "ts": 0})
    (line,) = lines()
    assert (line["level"], line["level_"], line["ts_"]) == ("warning", "forged", 0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(b"ab\xff", "ab\\xff", id="octets"),
        pytest.param(10**30, "1" + "0" * 30, id="a huge number"),
        pytest.param(float("nan"), None, id="no number"),
        pytest.param((1, {2}, range(2)), [1, [2], [0, 1]], id="sequences and sets"),
        pytest.param({1: {"a": Secret("xyzzy")}}, {"1": {"a": "***"}}, id="mappings"),
        pytest.param(HTTPStatus.OK, 200, id="an enum's number"),
        pytest.param("lone \ud800", "lone \\ud800", id="what cannot be encoded"),
        pytest.param([[[[[[[1]]]]]]], [[[[[["[1]"]]]]]], id="deeper than six"),
        pytest.param(ValueError("x"), "x", id="any object"),
    ],
)
def test_any_value_can_be_logged(
    lines: Callable[[], list[dict[str, Any]]], value: object, shown: object
) -> None:
    """A value of any type can be logged; types unknown to JSON are written as text."""
    logger.info("m", extra={"value": value})
    assert lines()[0]["value"] == shown


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(lambda: logger.debug("got %s", TOKEN), id="an argument"),
        pytest.param(lambda: logger.debug("got %(t)s", {"t": TOKEN}), id="a named argument"),
        pytest.param(lambda: logger.info("got " + TOKEN), id="the message"),  # noqa: G003
        pytest.param(lambda: logger.info("%r", TOKEN.encode()), id="octets"),
        pytest.param(lambda: logger.info("%s", [Shown()]), id="an object"),
        pytest.param(lambda: logger.info("m", extra={"k": {"x": [TOKEN]}}), id="an extra"),
        pytest.param(lambda: logger.info("m", extra={"k": Shown()}), id="an extra object"),
        pytest.param(lambda: logger.info("m", extra={"k": Word.BEARER}), id="an enum"),
        pytest.param(lambda: logger.info("m", extra={TOKEN: 1}), id="an extra's name"),
        pytest.param(lambda: logger.info("m", exc_info=ValueError(TOKEN)), id="an exception"),
        pytest.param(lambda: logger.info("%d", TOKEN), id="a wrong format"),
        pytest.param(lambda: logger.info(*("m", TOKEN)), id="an argument too many"),
        pytest.param(lambda: logging.getLogger(TOKEN).info("m"), id="a logger's name"),
        pytest.param(lambda: logger.info("/x?token=%s&y=1", TOKEN), id="a query"),
        pytest.param(lambda: logger.info("%s", TOKEN.split(".")[1]), id="the claims alone"),
        pytest.param(lambda: logger.info("%s", ODD_TOKEN), id="an unusual header"),
        pytest.param(lambda: logger.info("bEaReR  %s", "opaque.1"), id="any bearer"),
        pytest.param(lambda: logger.info("{'a': b'Bearer opaque.1'}"), id="a header's repr"),
        pytest.param(lambda: logger.info("Bearer%20opaque.1"), id="an encoded bearer"),
        pytest.param(lambda: logger.info("Cookie: __Host-session=opaque.1; a=b"), id="a cookie"),
        pytest.param(lambda: logger.info("redis://u:opaque.1@host/0"), id="a URL's password"),
        pytest.param(lambda: logger.info("redis://:opaque.1@host/0"), id="without a user"),
        pytest.param(lambda: logger.info("is %s", PASSWORD), id="a secret"),
        pytest.param(lambda: logger.info("is %r", PASSWORD), id="a secret's repr"),
        pytest.param(lambda: logger.info("is %s", json.dumps(PASSWORD)), id="a secret as JSON"),
        pytest.param(lambda: logger.info("is p%%22ss%%20w%%C3%%B6rd%%5C%%25"), id="as a URL"),
        pytest.param(lambda: logger.info("m", exc_info=KeyError(PASSWORD)), id="in a KeyError"),
    ],
)
@pytest.mark.parametrize(
    "formatter",
    [pytest.param(JsonFormatter, id="json"), pytest.param(TextFormatter, id="text")],
)
def test_nothing_that_gives_entry_is_written(
    log: Callable[[], None],
    formatter: type[JsonFormatter | TextFormatter],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A credential in any part of a record is redacted in both formats and on standard error."""
    stream = io.StringIO()
    handler = configure(level="debug", form="json", redactor=Redactor(), stream=stream)
    handler.setFormatter(formatter(Redactor([Secret(PASSWORD)])))
    log()
    written = stream.getvalue() + capsys.readouterr().err
    assert written
    for part in (*TOKEN.split("."), *ODD_TOKEN.split("."), "opaque.1"):
        assert part not in written
    for form in ("ss w", "wörd", "w\\u00f6rd", "w%C3%B6rd"):
        assert form not in written


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), min_size=4), st.text())
def test_a_told_secret_is_found_anywhere(secret: str, around: str) -> None:
    """A registered secret of at least four characters is redacted in any surrounding text."""
    text = Redactor([Secret(secret)])(f"{around}{secret}{around}")
    assert secret in "[redacted]" or secret in around or secret not in text


def test_a_short_secret_blots_nothing_out() -> None:
    """Very short secrets are not redacted, because that would make the log unreadable."""
    redactor = Redactor([Secret("a"), Secret(""), Secret("  b  ")])
    assert redactor("a banana bread") == "a banana bread"
    assert repr(Redactor([Secret("a")])) == "<Redactor with 0 secret forms>"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("GET /keys/view 200 from https://example.com:8443/a?b=c", id="a request"),
        pytest.param("key newly rotated, everyone eyes it", id="words with ey and ew"),
        pytest.param("redis://localhost:6379/0", id="a URL without a password"),
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Ordinary text, even if it resembles a token or URL, is not changed."""
    assert Redactor([Secret("hunter2")])(text) == text


def test_a_record_that_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A record that cannot be formatted is reported on standard error without its arguments."""
    stream = io.StringIO()
    configure(level="info", form="json", redactor=Redactor(), stream=stream)
    logger.info("%d", "no number")
    assert not stream.getvalue()
    error = capsys.readouterr().err
    assert error.startswith("log record of sidecar.test at test_logs.py:")
    assert error.endswith("not written: TypeError\n")


def test_text_is_one_line_a_record_for_a_person() -> None:
    """A text record is one line, and control characters in it are escaped."""
    formatter = TextFormatter(Redactor())
    record = logging.makeLogRecord(
        {"name": "sidecar.app", "levelname": "INFO", "created": 0.5, "msg": "a\r\nb\x1b[2J"}
    )
    record.port = 5005
    assert formatter.format(record) == r"00:00:00 info sidecar.app: a\x0d\x0ab\x1b[2J port=5005"
    record.exc_info = (ValueError, ValueError("broken"), None)
    assert formatter.format(record).endswith("port=5005\nValueError: broken")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("alice", "alice", id="word"),
        pytest.param("", '""', id="empty"),
        pytest.param("alice result=success", '"alice result=success"', id="another-field"),
        pytest.param('a"b', r'"a\"b"', id="quote"),
        pytest.param("a\nb", r'"a\nb"', id="line-feed"),
        pytest.param("a\u2028b", r'"a\u2028b"', id="line-separator"),
        pytest.param("a\u202eb", r"a\u202eb", id="direction"),
        pytest.param("a\x85b", r'"a\x85b"', id="next-line"),
        pytest.param(["a b"], "\"['a b']\"", id="list"),
    ],
)
def test_one_value_cannot_look_like_two(value: object, shown: str) -> None:
    """In a line of text, whatever is not one word is quoted, and no octet ends or turns a line."""
    record = logging.makeLogRecord({"name": "sidecar.audit", "levelname": "INFO", "created": 0.5})
    record.msg, record.user = "login", value
    line = TextFormatter(Redactor()).format(record)
    assert line == f"00:00:00 info sidecar.audit: login user={shown}"


def test_a_lower_level_is_left_out() -> None:
    """Records below the configured level are not written."""
    stream = io.StringIO()
    configure(level="warning", form="text", redactor=Redactor(), stream=stream)
    logger.info("quiet")
    logger.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_warnings_and_uncaught_faults_are_records_too(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    """Python warnings and uncaught exceptions are written as log records."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"odd {TOKEN}", stacklevel=1)
        logging.captureWarnings(capture=True)
        warnings.warn(f"odd {TOKEN}", stacklevel=1)
    sys.excepthook(ValueError, ValueError(TOKEN), None)
    *_, fault = lines()
    assert (fault["level"], fault["message"]) == ("critical", "uncaught ValueError")
    assert fault["exc"] == "ValueError: [redacted]"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0.0, "1970-01-01T00:00:00.000Z", id="the epoch"),
        pytest.param(1769903999.9999, "2026-01-31T23:59:59.999Z", id="never rounded up"),
    ],
)
def test_rfc3339(seconds: float, text: str) -> None:
    """Timestamps are in UTC with milliseconds, rounded down, and end in Z."""
    assert rfc3339(seconds) == text


def test_printable_escapes_control_characters() -> None:
    """C0 and C1 control characters are escaped, and other characters are kept."""
    assert printable("a\x00\x7f\x9b ö") == r"a\x00\x7f\x9b ö"


def _raise_quoting() -> None:
    try:
        int("private")
    except ValueError as error:
        raise LookupError("private") from error


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        pytest.param("Error from %s: %-5.2f!", ("private", 1), "Error from …: …!", id="arguments"),
        pytest.param("at %(p)s", ({"p": "private"},), "at …", id="a named argument"),
        pytest.param(
            "Task exception was never retrieved\nfuture: <Task ValueError('private')>",
            (),
            "Task exception was never retrieved",
            id="asyncio's context",
        ),
        pytest.param(
            "Exception in callback feed(b'private')", (), "Exception in callback feed", id="a call"
        ),
        pytest.param("got 'private'", (), "got", id="a quotation"),
    ],
)
def test_a_library_quotes_nobody(
    lines: Callable[[], list[dict[str, Any]]],
    message: object,
    arguments: tuple[object, ...],
    shown: str,
) -> None:
    """Of a library's record, only the constant text and the exception's frames are written."""
    try:
        _raise_quoting()
    except LookupError:
        extra = {"headers": "private"}
        logging.getLogger("asyncio").exception(message, *arguments, extra=extra)
    (line,) = lines()
    assert line.keys() == {"ts", "level", "logger", "message", "exc"}
    assert line["message"] == shown
    assert "LookupError\nwhile handling:\n" in line["exc"]
    assert line["exc"].endswith("ValueError")
    assert ": private" not in line["exc"]


def test_python_warnings_are_complete(lines: Callable[[], list[dict[str, Any]]]) -> None:
    """A warning of Python keeps its text."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    assert "this is old" in lines()[0]["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("Cookie: a=1; sid=opaque; b=2", "Cookie: a=1; sid=[redacted]; b=2", id="line"),
        pytest.param("{'Cookie': 'sid=opaque'}", "{'Cookie': 'sid=[redacted]'}", id="quoted"),
        pytest.param("sid = opaque", "sid = [redacted]", id="spaces"),
        pytest.param("xsid=1 a-sid=2 siding=3", "xsid=1 a-sid=2 siding=3", id="other names"),
        pytest.param("sid: abc", "sid: abc", id="no cookie"),
    ],
)
def test_the_session_cookie_is_redacted(text: str, shown: str) -> None:
    """The value of the session cookie is removed, whatever the cookie is called."""
    assert Redactor(cookie="sid")(text) == shown
