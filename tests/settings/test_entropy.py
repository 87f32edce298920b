"""The estimate of a secret's entropy: random secrets are far above the limit, texts below it."""

from __future__ import annotations

import base64
import random
import string
import time
from typing import TYPE_CHECKING

import pytest

from sidecar.settings.entropy import ENOUGH, estimate_bits

if TYPE_CHECKING:
    from collections.abc import Callable


def base64_of(size: int) -> Callable[[random.Random], str]:
    """A maker of secrets like `openssl rand -base64`."""
    return lambda source: base64.b64encode(source.randbytes(size)).decode()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(base64_of(48), id="openssl-rand-base64-48"),
        pytest.param(base64_of(32), id="openssl-rand-base64-32"),
        pytest.param(lambda source: source.randbytes(32).hex(), id="openssl-rand-hex-32"),
        pytest.param(lambda source: source.randbytes(16).hex(), id="openssl-rand-hex-16"),
        pytest.param(lambda source: source.randbytes(16).hex().upper(), id="hex-upper"),
        pytest.param(
            lambda source: "".join(source.choices(string.ascii_letters + string.digits, k=40)),
            id="alphanumeric-40",
        ),
        pytest.param(
            lambda source: "".join(source.choices(string.printable[:94], k=32)), id="printable-32"
        ),
        pytest.param(
            lambda source: "".join(source.choices(string.ascii_lowercase, k=48)), id="letters-48"
        ),
    ],
)
def test_a_random_secret_is_enough(make: Callable[[random.Random], str]) -> None:
    """At most one of 1,000 random secrets of any usual form is taken for a text."""
    source = random.Random(7)
    low = [secret for secret in (make(source) for _ in range(1000)) if is_low(secret)]
    assert len(low) <= 1


def is_low(secret: str) -> bool:
    """Whether the secret would be warned of."""
    return estimate_bits(secret) < ENOUGH


@pytest.mark.parametrize(
    "secret",
    [
        "access-secret-0123456789abcdefghijklmnop",
        "my-very-long-secret-key-for-production-2024!!",
        "correct horse battery staple is what we use",
        "thisisthesecretofourcompanyforsigningtokens",
        "changemechangemechangemechangeme",
        "Tr0ub4dor&3Tr0ub4dor&3Tr0ub4dor&3",
        "your-256-bit-secret-your-256-bit-secret",
        "s3cr3t-p4ssw0rd-s3cr3t-p4ssw0rd-123",
        "1234567890123456789012345678901234567890",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "qwertyuiopasdfghjklzxcvbnm1234567890",
        "zyxwvutsrqponmlkjihgfedcba987654",
        "JWT_SECRET_FOR_PRODUCTION_PLEASE_CHANGE",
        "Unser-geheimes-Kennwort-für-die-Anmeldung",
        "",
    ],
)
def test_a_text_is_not_enough(secret: str) -> None:
    """Words, keyboard rows, sequences and repetitions are below the limit whatever their length."""
    assert is_low(secret)


def test_the_longest_secret_takes_no_time() -> None:
    """64 KiB, the most that a file of a secret may have, are estimated in well under a second."""
    begin = time.thread_time()
    assert is_low("the words of a text " * 3276)
    assert time.thread_time() - begin < 2
