"""Estimates how hard a secret is to guess, to tell random secrets from words that people write.

The estimate is rough, and too high for unusual words. A random secret keeps almost all of its bits:
of 20,000 secrets of 24 random bytes in base64, two were below `ENOUGH`; of 48 bytes, none.
"""

from __future__ import annotations

import math
import re
from typing import Final

ENOUGH: Final = 90.0  # bits

_WORD_BITS: Final = 4.0  # for one of the words below, whatever its length
_TEXT_BITS: Final = 1.5  # for a letter of a text (Shannon 1951 measured 0.6 to 1.3)
_REPEATED_BITS: Final = 1.0  # for a separator that occurred before in a text

# Words that secrets of configuration files are made of.
_WORDS: Final = re.compile(
    "access|account|admin|application|authentication|auth|changeme|change|company|default|demo|"
    "development|dummy|example|hello|hmac|insecure|jsonwebtoken|letmein|long|master|password|"
    "passwd|placeholder|please|private|production|qwertyuiop|qwerty|refresh|replace|sample|secret|"
    "secure|server|service|session|sidecar|signing|staging|supersecret|super|test|this|token|"
    "user|very|welcome|world|your|asdfghjkl|zxcvbnm"
)
_LEET: Final = str.maketrans("013457@$!", "oieastasi")
# The most common pairs of letters: about 55 % of the pairs in English, 11 % in random letters.
_PAIRS: Final = frozenset(
    re.findall(
        "[a-z]+",
        "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le "
        "ve co me de hi ri ro ic ne ea ra ce li ch ll be ma si om ur ec ss ot us un et tr ca ac ho "
        "na wo ct ns no ge wh pr la el ta il so we ho",
    )
)
_LEAST_PAIRS: Final = 19  # fewer say nothing
_SHARE: Final = 0.38  # of common pairs, at least
_WORD_STARTS: Final = 0.15  # of pairs that begin a word, at most
_POOLS: Final = (
    ("0123456789", 10),
    ("abcdefghijklmnopqrstuvwxyz", 26),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26),
)


def estimate_bits(secret: str) -> float:
    """Estimate the entropy of a secret in bits.

    A character counts as a random choice from the kinds of characters that occur. It counts less if
    it belongs to a common word or to a text, and not at all if it continues a sequence such as
    `1234` or `aaaa`, or repeats three characters that occurred before.
    """
    words = list(_WORDS.finditer(secret.lower().translate(_LEET)))
    in_words = {position for word in words for position in range(*word.span())}
    text = _is_text(secret)
    bits = math.log2(_pool(secret))
    total = _WORD_BITS * len({word[0] for word in words})
    seen: set[str] = set()
    characters: set[str] = set()
    for position, char in enumerate(secret):
        before = secret[max(0, position - 2) : position + 1]
        known = len(before) == 3 and (before in seen or _is_sequence(before))
        seen.add(before)
        if not (position in in_words or known):
            total += _bits_in_text(char, bits, characters) if text else bits
        characters.add(char)
    return total


def _bits_in_text(char: str, bits: float, before: set[str]) -> float:
    if char.isalpha():
        return _TEXT_BITS
    return _REPEATED_BITS if char in before else bits


def _is_text(secret: str) -> bool:
    """Whether the letters follow one another as they do in words."""
    pairs = re.findall(r"(?=([A-Za-z]{2}))", secret)
    common = sum(pair.lower() in _PAIRS for pair in pairs)
    # A capital after a small letter begins a word; in random letters, every fourth pair is one.
    words = sum(pair[0].islower() and pair[1].isupper() for pair in pairs)
    return (
        len(pairs) >= _LEAST_PAIRS
        and common / len(pairs) >= _SHARE
        and words / len(pairs) <= _WORD_STARTS
    )


def _is_sequence(three: str) -> bool:
    first, second, third = map(ord, three)
    return second - first == third - second and abs(second - first) <= 1


def _pool(secret: str) -> int:
    """How many characters the kinds of characters in the secret have together."""
    if re.fullmatch(r"[0-9a-f]+|[0-9A-F]+", secret) and not secret.isdecimal():
        return 16
    size = sum(count for members, count in _POOLS if any(char in members for char in secret))
    others = {char for char in secret if not any(char in members for members, _ in _POOLS)}
    if others:
        size += 33 if secret.isascii() else 100
    return max(size, 2)
