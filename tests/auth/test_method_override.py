"""Headers that override the method: which combinations are clear, and what is decided on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sidecar.auth.method_override import decided_on, forwarded, method_of
from tests.wire.readers import read_request

if TYPE_CHECKING:
    from sidecar.wire.head import RequestHead

ACCEPTED = b"x-http-method-override"


def read(*lines: bytes, method: bytes = b"POST") -> RequestHead:
    """Parse a request with these header lines."""
    return read_request(*lines, first=method + b" /x HTTP/1.1")


@pytest.mark.parametrize("method", [b"PUT", b"PATCH", b"DELETE"])
def test_a_post_can_be_another_method(method: bytes) -> None:
    """A POST with the accepted header is decided on as the method that this names."""
    head = read(b"x-HTTP-Method-Override:  " + method + b" ", b"A: b")
    assert method_of(head, ACCEPTED) == method
    decided, passed = decided_on(head, method), forwarded(head)
    assert (decided.method, decided.overrides) == (method, ())
    assert passed.method == head.method == b"POST"
    assert passed.lines == b"Host: h\r\nA: b\r\nx-http-method-override: %b\r\n" % method
    assert head.lines == b"Host: h\r\nA: b\r\n"


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        pytest.param((b"X-HTTP-Method: DELETE",), b"POST", id="not-accepted"),
        pytest.param((b"X_HTTP_Method_Override: DELETE",), b"POST", id="another-spelling"),
        pytest.param(
            (b"X-HTTP-Method-Override: DELETE", b"X-HTTP-Method-Override: DELETE"),
            b"POST",
            id="twice",
        ),
        pytest.param(
            (b"X-HTTP-Method-Override: DELETE", b"X-Method-Override: POST"), b"POST", id="two"
        ),
        pytest.param((b"X-HTTP-Method-Override: delete",), b"POST", id="lower-case"),
        pytest.param((b"X-HTTP-Method-Override: DELETE, PUT",), b"POST", id="list"),
        pytest.param((b"X-HTTP-Method-Override:",), b"POST", id="empty"),
        pytest.param((b"X-HTTP-Method-Override: GET",), b"POST", id="to-get"),
        pytest.param((b"X-HTTP-Method-Override: TRACE",), b"POST", id="to-trace"),
        pytest.param((b"X-HTTP-Method-Override: PURGE",), b"POST", id="to-unusual"),
        pytest.param((b"X-HTTP-Method-Override: DELETE",), b"GET", id="of-get"),
        pytest.param((b"X-HTTP-Method-Override: DELETE",), b"PUT", id="of-put"),
    ],
)
def test_an_unclear_method(lines: tuple[bytes, ...], method: bytes) -> None:
    """Where applications differ in the method that they act on, there is no method."""
    assert method_of(read(*lines, method=method), ACCEPTED) is None


@pytest.mark.parametrize("accepted", [ACCEPTED, b""])
def test_a_header_that_repeats_the_method(accepted: bytes) -> None:
    """A header that names the request's own method changes nothing, accepted or not."""
    assert method_of(read(b"X-Method-Override: PURGE", method=b"PURGE"), accepted) == b"PURGE"


def test_nothing_is_accepted_by_default() -> None:
    """Without an accepted header, no header can change the method."""
    assert method_of(read(b"X-HTTP-Method-Override: DELETE"), b"") is None
