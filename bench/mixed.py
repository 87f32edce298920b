"""Requests of which no two are alike, as an ingress sends them.

Owns the template of a request and its marks, which are filled here and, for wrk, in `wrk.lua`:
`@TARGET@` one of the targets; `@LINE@` a line of a file, such as a token, and `@SIZE@` its length;
`@HEX16@` sixteen random hexadecimal digits; `@IP@` a random address. Must not know the proxies.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.scenarios import BROWSER, Credential, Need, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

HOST = "shop.example.com"
PAGES = ("orders", "products", "customers", "invoices", "search")
TARGETS = tuple(
    f"/{PAGES[n % len(PAGES)]}/{n}/items?page={n % 7 + 1}&sort=-created&q=blue+widget+{n}"
    for n in range(50)
)
SPAN = "@HEX16@"
TRACE = SPAN * 2
# 43 characters of base64url are 32 bytes if the last of them has two bits that are zero.
SIGNATURE = TRACE + "A" * 11
MARK = re.compile("@([A-Z0-9]+)@")


def template(scenario: Scenario) -> str:
    """The request of a scenario, with marks; lines end with CRLF."""
    verify = scenario.need is Need.VERIFY
    fixed = verify or scenario.method != "GET"
    lines = [
        f"{scenario.method} {scenario.path if fixed else '@TARGET@'} HTTP/1.1",
        f"Host: {HOST}",
        f"X-Request-Id: {TRACE}",
        "X-Forwarded-For: @IP@",
        f"X-Forwarded-Host: {HOST}",
        "X-Forwarded-Proto: https",
        f"traceparent: 00-{TRACE}-{SPAN}-01",
        *(line for line in BROWSER if not line.startswith(("Connection:", "Referer:"))),
        f"Referer: https://{HOST}@TARGET@",
    ]
    if verify:
        lines += ["X-Original-URI: @TARGET@", "X-Original-Method: GET"]
    lines += credential_lines(scenario.credential)
    return "\r\n".join(lines)


def credential_lines(credential: Credential) -> list[str]:
    """The last header lines of a request, the empty line that ends the head, and its body."""
    match credential:
        case Credential.NONE:
            return ["", ""]
        case Credential.FORGED:
            return [f"Authorization: Bearer @LINE@.{SIGNATURE}", "", ""]
        case Credential.PASSWORD | Credential.REFRESH:
            return ["Content-Type: application/json", "Content-Length: @SIZE@", "", "@LINE@"]
        case _:
            return ["Authorization: Bearer @LINE@", "", ""]


@dataclass(frozen=True, slots=True)
class Mix:
    """The files from which requests are put together, and the seed of what is random.

    With a `count`, this many requests are sent, each with the next line. Otherwise each request has
    any of the lines.
    """

    template: Path
    lines: Path
    targets: Path
    seed: int
    count: int = 0

    def arguments(self) -> list[str]:
        """The arguments of the programs that send such requests."""
        files = [str(self.template), str(self.lines), str(self.targets)]
        return [*files, str(self.seed), str(self.count)]

    def requests(self, number: int) -> list[bytes]:
        """This many requests."""
        targets = self.targets.read_text().splitlines()
        fill = filler(self.template.read_bytes().decode(), targets, random.Random(self.seed))
        lines = self.lines.read_text().splitlines()
        if self.count:
            return [fill(lines[n % len(lines)]) for n in range(number)]
        choose = random.Random(self.seed + 1)
        return [fill(choose.choice(lines)) for _ in range(number)]


def write(
    directory: Path, name: str, scenario: Scenario, lines: Sequence[str], *, seed: int
) -> Mix:
    """Write the files of a scenario's requests under this name."""
    mix = Mix(
        directory / f"{name}.template",
        directory / f"{name}.lines",
        directory / "targets",
        seed,
        scenario.count,
    )
    mix.template.write_bytes(template(scenario).encode())
    mix.lines.write_text("".join(f"{line}\n" for line in lines or [""]))
    mix.targets.write_text("".join(f"{target}\n" for target in TARGETS))
    return mix


def filler(text: str, targets: Sequence[str], rng: random.Random) -> Callable[[str], bytes]:
    """A function that fills the template with a line, and with new random values each time."""
    parts = MARK.split(text)  # texts at even indices, names of marks at odd ones

    def fill(line: str) -> bytes:
        made = parts.copy()
        for index in range(1, len(made), 2):
            made[index] = value(made[index], line, targets, rng)
        return "".join(made).encode()

    return fill


def value(mark: str, line: str, targets: Sequence[str], rng: random.Random) -> str:
    """What replaces a mark. Raises KeyError for an unknown one."""
    match mark:
        case "HEX16":
            return f"{rng.getrandbits(64):016x}"
        case "TARGET":
            return rng.choice(targets)
        case "LINE":
            return line
        case "SIZE":
            return str(len(line))
        case "IP":
            return f"10.{rng.getrandbits(8)}.{rng.getrandbits(8)}.{rng.getrandbits(8)}"
    raise KeyError(mark)
