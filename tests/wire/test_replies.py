"""The responses that the sidecar makes itself are complete and well-formed."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from sidecar import errors
from sidecar.auth.reason import Reason
from sidecar.wire.head import Framing, RequestHead, ResponseHead
from sidecar.wire.replies import RETRY_AFTER, options, page, problem, redirect
from tests.wire.readers import passed_on, response_parser

STATUSES = (400, 401, 403, 405, 408, 413, 431, 500, 501, 502, 503, 504, 505)


def read(reply: bytes, *, to_head: bool = False) -> tuple[ResponseHead, bytes]:
    """Parse a response with our own strict parser; return its head and its body."""
    end = reply.find(b"\r\n\r\n") + 4
    return response_parser().parse(reply[:end], to_head=to_head), reply[end:]


@pytest.mark.parametrize("status", STATUSES)
def test_problem(status: int) -> None:
    """A problem document (RFC 9457) has the request id, and a correct length."""
    head, body = read(problem(status, b"id-1:x"))
    assert (head.status, head.keep_alive) == (status, True)
    assert (head.framing, head.length) == (Framing.LENGTH, len(body))
    lines = passed_on(head)
    assert b"Content-Type: application/problem+json" in lines
    assert b"Cache-Control: no-store" in lines
    assert b"X-Request-Id: id-1:x\r\n" in problem(status, b"id-1:x")
    said = json.loads(body)
    assert said.pop("detail")
    assert said == {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "request_id": "id-1:x",
    }


def test_problem_with_everything() -> None:
    """A response can have more lines, announce the close, and leave out the body for HEAD."""
    full = problem(503, b"i", headers=RETRY_AFTER, close=True)
    head, body = read(full)
    assert not head.keep_alive
    assert b"Retry-After: 1" in passed_on(head)
    assert full == problem(503, b"i", headers=RETRY_AFTER, close=True, body=False) + body
    assert read(problem(401, b"i", body=False), to_head=True)[1] == b""


def test_page() -> None:
    """An HTML error page has the request id in its place, and its security policy."""
    forms = {503: page(503, "<p>ö ", "</p>", "default-src 'none'")}
    head, body = read(problem(503, b"id-1:x", forms, headers=RETRY_AFTER))
    assert (head.status, head.framing, head.length) == (503, Framing.LENGTH, len(body))
    assert body.decode() == "<p>ö id-1:x</p>"
    lines = passed_on(head)
    assert b"Content-Type: text/html; charset=utf-8" in lines
    assert b"Content-Security-Policy: default-src 'none'" in lines
    assert b"X-Content-Type-Options: nosniff" in lines
    assert b"Retry-After: 1" in lines


def test_options() -> None:
    """The response to OPTIONS is a 200 without content that lists the methods."""
    reply = options(b"i")
    head, body = read(reply)
    assert (head.status, head.length, head.keep_alive, body) == (200, 0, True, b"")
    assert b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" in passed_on(head)
    assert b"Cache-Control: no-store" in passed_on(head)
    assert b"X-Request-Id: i\r\n" in reply
    assert not read(options(b"i", close=True))[0].keep_alive


def test_redirect() -> None:
    """A redirect is a 302 without content."""
    reply = redirect(b"i", headers=b"Location: /login\r\n")
    head, body = read(reply)
    assert (head.status, head.length, head.keep_alive, body) == (302, 0, True, b"")
    assert b"Location: /login" in passed_on(head)
    assert b"X-Request-Id: i\r\n" in reply
    assert not read(redirect(b"i", headers=b"", close=True))[0].keep_alive


def test_every_refusal_has_its_words() -> None:
    """Every status of a reason or an upstream fault has a text."""
    statuses = {reason.status for reason in Reason} | {errors.UpstreamError.status}
    statuses |= {fault.status for fault in errors.UpstreamError.__subclasses__()}
    assert statuses <= set(STATUSES)
    with pytest.raises(KeyError):
        problem(418, b"i")


def test_defaults_of_a_head() -> None:
    """A head without any header has no body, and keeps the connection open."""
    request, response = RequestHead(), ResponseHead()
    assert (request.framing, request.keep_alive, request.length) == (Framing.NONE, True, -1)
    assert (response.framing, response.keep_alive) == (Framing.UNTIL_CLOSE, True)
