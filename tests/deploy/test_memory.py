"""The memory limit of the manifests and the sum in docs/operating.md follow from the defaults."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

import yaml

from sidecar.proxy import context
from sidecar.settings import Settings

ROOT: Final = Path(__file__).parents[2]
MIB: Final = 1 << 20
# A row of the table: what, calculation, MiB
ROW: Final = re.compile(r"^\| ([^|]+) \| ?([^|]*?) ?\| (\d+) \|$", re.MULTILINE)
COUNT_TIMES_KIB: Final = re.compile(r"`(\w+)` ([\d,]+) × ([\d.]+) KiB")  # noqa: RUF001


def rows() -> dict[str, tuple[str, int]]:
    """The calculation and the MiB of each row of the table, by what it is about."""
    text = (ROOT / "docs" / "operating.md").read_text()
    table = text.partition("| what | calculation | MiB |\n")[2].partition("\n\n")[0]
    return {what: (how, int(mib)) for what, how, mib in ROW.findall(table)}


def default(name: str) -> int:
    """The default of a setting."""
    value = Settings.__struct_defaults__[
        Settings.__struct_fields__.index(name) - len(Settings.__struct_fields__)
    ]
    assert isinstance(value, int)
    return value


def test_the_limits_add_up() -> None:
    """The manifests allow more memory than the defaults of all limits together."""
    found = rows()
    _, total = found.pop("sum")
    assert total == sum(mib for _, mib in found.values())
    deployment = yaml.safe_load((ROOT / "k8s" / "base" / "deployment.yaml").read_text())
    containers = deployment["spec"]["template"]["spec"]["containers"]
    (sidecar,) = (each for each in containers if each["name"] == "sidecar")
    limit = sidecar["resources"]["limits"]["memory"]
    assert total * 1.2 < int(limit.removesuffix("Mi"))


def test_the_rows_are_those_of_the_defaults() -> None:
    """Each row has the default of its setting or constant, and is multiplied correctly."""
    settings = [COUNT_TIMES_KIB.search(how) for how, _ in rows().values()]
    names = set()
    for found, (_, mib) in zip(settings, rows().values(), strict=True):
        if found is not None:
            names.add(found[1])
            count = int(found[2].replace(",", ""))
            assert count == default(found[1].lower())
            assert mib == math.ceil(count * float(found[3]) / 1024)
    assert names == {"MAX_CONNECTIONS", "SESSION_CACHE_SIZE"}
    together = {how: mib for how, mib in rows().values() if "together" in how}
    assert together == {
        f"{octets // MIB} MiB together": octets // MIB
        for octets in (context.UNFINISHED, context.REMEMBERED, context.BUFFERED)
    }
