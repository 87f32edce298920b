"""Requests of which no two are alike, made here and by wrk."""

from __future__ import annotations

import base64
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench import load, mixed
from bench.scenarios import BROWSER, MIXED, SCENARIOS, Credential, Kind, Scenario
from tests.bench.recorder import Recorder, recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOKENS = [f"eyJ{n:04}.payload.signature" for n in range(1_000)]
PATTERNS = {
    "HEX16": "[0-9a-f]{16}",
    "IP": r"10(\.[0-9]{1,3}){3}",
    "TARGET": r"/[a-z]+/[0-9]+/items\?page=[0-9]&sort=-created&q=blue\+widget\+[0-9]+",
    "LINE": ".*",
    "SIZE": "[0-9]+",
}
MADE = [scenario for scenario in SCENARIOS if scenario.kind is not Kind.REPLAY]
BODIES = [f'{{"username":"user-{n:04}","password":"x"}}' for n in range(40)]
wrk = pytest.mark.needs("wrk")


def shape_of(scenario: Scenario) -> re.Pattern[str]:
    """What each request of a scenario must look like."""
    parts = mixed.MARK.split(mixed.template(scenario))
    for index in range(len(parts)):
        parts[index] = PATTERNS[parts[index]] if index % 2 else re.escape(parts[index])
    return re.compile("".join(parts))


def lines_of(scenario: Scenario) -> Sequence[str]:
    """What the requests of a scenario may show in a test."""
    if scenario.credential is Credential.NONE:
        return []
    return BODIES if scenario.method == "POST" else TOKENS


def sent_by_wrk(mix: mixed.Mix, *, connections: int = 8) -> list[str]:
    """The requests that wrk sends in a second, or until the mix ends."""
    with recording(Recorder()) as server:
        seconds = 30 if mix.count else 1
        burst = load.Burst(server.port, "/", "GET", (), 0, connections, seconds, mix=mix)
        done = load.run(burst)
        assert done.errors(denied=False) == 0
        assert done.client_us > 0
    return [request.decode() for request in server.requests]


def header(request: str, name: str) -> str:
    """The value of a request's only header of this name."""
    [value] = re.findall(rf"(?m)^{name}: (.*)\r$", request)
    return str(value)


@pytest.mark.parametrize("scenario", MADE, ids=lambda scenario: scenario.name)
def test_no_two_requests_are_alike(scenario: Scenario, tmp_path: Path) -> None:
    """All heads of a burst differ, and each has what its scenario says."""
    one = replace(scenario, count=min(scenario.count, 500))
    mix = mixed.write(tmp_path, "x", one, lines_of(scenario), seed=7)
    requests = [request.decode() for request in mix.requests(500)]
    assert len(set(requests)) == 500
    assert len({header(request, "traceparent") for request in requests}) == 500
    assert len({header(request, "X-Request-Id") for request in requests}) == 500
    assert all(shape_of(scenario).fullmatch(request) for request in requests)


@wrk
@pytest.mark.parametrize("scenario", MADE, ids=lambda scenario: scenario.name)
def test_wrk_sends_the_same_kind_of_requests(scenario: Scenario, tmp_path: Path) -> None:
    """What wrk fills into a template has the form of what is filled in here, and never repeats."""
    mix = mixed.write(tmp_path, "x", replace(scenario, count=60), lines_of(scenario), seed=7)
    requests = sent_by_wrk(mix)
    assert len(requests) == len(set(requests)) == 60
    assert len({header(request, "traceparent") for request in requests}) == 60
    assert all(shape_of(scenario).fullmatch(request) for request in requests)


@wrk
def test_users_and_paths_vary(tmp_path: Path) -> None:
    """Until the time is over, wrk takes tokens and targets at random; another seed, others."""
    first = sent_by_wrk(mixed.write(tmp_path, "a", MIXED, TOKENS, seed=1))
    second = sent_by_wrk(mixed.write(tmp_path, "b", MIXED, TOKENS, seed=2))
    assert len({*first, *second}) == len(first) + len(second) > 200
    tokens = {header(request, "Authorization") for request in first}
    assert len(tokens) > min(len(first) / 5, 600)
    assert len({request.partition(" HTTP")[0] for request in first}) > 25
    assert len({header(request, "X-Forwarded-For") for request in first}) > 0.9 * len(first)


@wrk
def test_each_token_is_sent_once(tmp_path: Path) -> None:
    """With a count, wrk sends each line once, all of them, and then ends."""
    scenario = Scenario("x", "x", Kind.ONCE, credential=Credential.FRESH, count=len(TOKENS))
    requests = sent_by_wrk(mixed.write(tmp_path, "x", scenario, TOKENS, seed=1), connections=32)
    sent = [header(request, "Authorization").removeprefix("Bearer ") for request in requests]
    assert sorted(sent) == TOKENS


def test_forged_signatures_have_the_form_of_real_ones() -> None:
    """A forged signature is the canonical base64url of 32 bytes, and no two are alike."""
    forged = next(one for one in SCENARIOS if one.credential is Credential.FORGED)
    fill = mixed.filler(mixed.template(forged), mixed.TARGETS, random.Random(1))
    found = set()
    for _ in range(50):
        token = header(fill("head.payload").decode(), "Authorization").removeprefix("Bearer ")
        head, signature = token.rsplit(".", 1)
        decoded = base64.urlsafe_b64decode(f"{signature}=")
        assert head == "head.payload"
        assert len(decoded) == 32
        assert base64.urlsafe_b64encode(decoded).decode().rstrip("=") == signature
        found.add(signature)
    assert len(found) == 50


def test_bodies_have_their_length() -> None:
    """The length of a body is that of the line, whatever it is."""
    login = next(one for one in SCENARIOS if one.credential is Credential.PASSWORD)
    fill = mixed.filler(mixed.template(login), mixed.TARGETS, random.Random(1))
    for body in ("{}", '{"username":"user-0001"}'):
        request = fill(body).decode()
        assert header(request, "Content-Length") == str(len(body))
        assert request.endswith(f"\r\n\r\n{body}")


def test_a_mixed_request_is_an_ingress_of_a_browser() -> None:
    """There are fifty targets with a query, a browser's headers, and those of a proxy."""
    assert len(set(mixed.TARGETS)) == 50
    assert all("?" in target for target in mixed.TARGETS)
    text = mixed.template(MIXED)
    names = [line.partition(":")[0] for line in text.split("\r\n")[1:-2]]
    browser = {line.partition(":")[0] for line in BROWSER} - {"Connection"}
    assert browser <= set(names)
    assert {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"} <= set(names)
    assert {"traceparent", "X-Request-Id", "Referer", "Authorization"} <= set(names)
    assert len(names) == len(set(names))


def test_unknown_mark() -> None:
    """A mark that nothing replaces is an error."""
    with pytest.raises(KeyError, match="NOBODY"):
        mixed.filler("GET /@NOBODY@", [], random.Random(1))("x")
