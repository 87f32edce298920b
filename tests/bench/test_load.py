"""wrk's command line and the parsing of its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.load import Burst, Load, LoadError, Rotation, parse_output

OUTPUT = """\
Running 1s test @ http://127.0.0.1:1/
  1 threads and 32 connections
Requests/sec:  20000.00
{"requests":20000,"duration_us":1000000,"bytes":4000000,"p50_us":900,"p99_us":4200,\
"connect":0,"read":1,"write":2,"timeout":3,"status":40}
"""


def test_result_is_found_between_wrks_own_lines() -> None:
    """The result is read from the JSON line, and the rate is computed from it."""
    load = parse_output(OUTPUT)
    assert (load.requests, load.p99_us, load.per_second) == (20000, 4200, 20000.0)


def test_output_without_a_result_is_an_error() -> None:
    """Output without a result is an error and not taken for zero requests."""
    with pytest.raises(LoadError, match="no result"):
        parse_output("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("denied", "errors"),
    [
        pytest.param(False, 46, id="allowed: every 4xx is an error"),
        pytest.param(True, 19966, id="denied: everything but 4xx is an error"),
    ],
)
def test_errors_depend_on_what_was_expected(denied: bool, errors: int) -> None:  # noqa: FBT001
    """Socket errors always count; a status counts if it differs from the expectation."""
    assert parse_output(OUTPUT).errors(denied=denied) == errors


def test_rate_of_an_empty_burst_is_zero() -> None:
    """The rate of a burst without requests is 0."""
    nothing = Load(0, 0, 0, 0, 0, connect=32, read=0, write=0, timeout=0, status=0)
    assert nothing.per_second == 0.0


def test_command_line_carries_headers_method_and_body() -> None:
    """Headers are options of wrk; method and body size are arguments of its script."""
    burst = Burst(81, "/sink", "POST", ["A: b", "C: d"], body_size=64, connections=8, seconds=2)
    argv = burst.argv()
    assert argv[:4] == ["wrk", "-t1", "-c8", "-d2s"]
    assert argv[-8:] == ["-H", "A: b", "-H", "C: d", "http://127.0.0.1:81/sink", "--", "POST", "64"]


def test_rotation_goes_to_the_script() -> None:
    """The script gets the token file, the index of the first token and the number of requests."""
    rotation = Rotation(Path("/x/tokens"), first=100, count=2500)
    burst = Burst(81, "/", "GET", [], 0, connections=64, seconds=60, rotation=rotation)
    assert burst.argv()[-5:] == ["GET", "0", "/x/tokens", "100", "2500"]
