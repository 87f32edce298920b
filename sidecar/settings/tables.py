"""Reads the file's tables: `[[route]]`, `[[issuer]]`, `[identity]`, `[cors]`.

Rows are counted from 1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from sidecar.settings import kinds
from sidecar.settings.kinds import explain, shown
from sidecar.settings.model import HEADER, CorsSettings, IssuerSettings, fields_of, kinds_of
from sidecar.settings.net import is_web_url
from sidecar.settings.reader import RawValue
from sidecar.settings.routes import RouteSettings, check_routes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.settings.reader import Reader

Row = TypeVar("Row", bound=msgspec.Struct)

_CLAIM: Final = kinds.claim()
_HEADER: Final = re.compile(HEADER)
# Headers that the sidecar sets itself, or that have a meaning in HTTP.
_RESERVED: Final = frozenset(
    {
        "x-auth-user",
        "x-auth-subject",
        "x-auth-issuer",
        "x-auth-roles",
        "x-auth-scopes",
        "x-auth-session",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    }
)


def read_routes(
    reader: Reader, raw: object, place: tuple[str, Path], prefix: str | None
) -> tuple[RouteSettings, ...]:
    """Read every rule of the file, and check it by itself and against the earlier rules.

    `place` is the file and its folder; `prefix` is explained in `check_routes`.
    """
    path, folder = place
    routes = _rows(reader, raw, RouteSettings, (f"{path}: route", folder))
    for position, key, problem in check_routes(routes, prefix):
        reader.report(f"{path}: route[{position + 1}].{key}", problem)
    return tuple(route for route in routes if route is not None)


def read_issuers(
    reader: Reader, raw: object, path: str, folder: Path
) -> tuple[IssuerSettings, ...]:
    """Read every foreign issuer: each has a unique name and at most one explicit source of keys."""
    issuers = _rows(reader, raw, IssuerSettings, (f"{path}: issuer", folder))
    seen: set[str] = set()
    for position, issuer in enumerate(issuers, 1):
        if issuer is None:
            continue
        where = f"{path}: issuer[{position}]"
        if issuer.jwks_url and issuer.key_file:
            reader.report(where, "expected either jwks_url or key_file, not both")
        if not (issuer.jwks_url or issuer.key_file) and not is_web_url(issuer.issuer):
            reader.report(
                where,
                "expected jwks_url or key_file, because the issuer is no URL at which its metadata"
                " could be",
            )
        if issuer.key_file and (issuer.ca_file or issuer.token_file):
            reader.report(where, "expected ca_file and token_file without key_file")
        if issuer.issuer in seen:
            reader.report(f"{where}.issuer", "expected each issuer once; this one is listed before")
        seen.add(issuer.issuer)
    return tuple(issuer for issuer in issuers if issuer is not None)


def read_identity(reader: Reader, raw: object, path: str) -> dict[str, str]:
    """Read the identity headers that are added to the default ones, as header → claim."""
    where = f"{path}: identity"
    if not isinstance(raw, dict):
        reader.report(where, f"expected a table of headers and claims; got {shown(raw)}")
        return {}
    seen: set[str] = set()
    for header, claim in raw.items():
        name = str(header)
        place = f"{where}.{name if name.isprintable() else shown(name)}"
        if not _HEADER.fullmatch(name):
            reader.report(place, "expected a header of letters, digits and -, such as X-Auth-Email")
        elif name.lower() in _RESERVED:
            reader.report(place, "expected a header that has no other meaning")
        elif name.lower() in seen:
            reader.report(place, "expected each header once, regardless of case")
        try:
            _CLAIM.read(claim)
        except ValueError as error:
            reader.report(place, explain(_CLAIM, claim, error))
        seen.add(name.lower())
    return {str(header): str(claim) for header, claim in raw.items()}


def read_cors(reader: Reader, raw: object, path: str, folder: Path) -> CorsSettings | None:
    """Read which pages of other origins may use the sidecar."""
    where = f"{path}: cors"
    if not isinstance(raw, dict):
        reader.report(where, f"expected a table of keys such as origins; got {shown(raw)}")
        return None
    cors = _row(reader, raw, CorsSettings, (where, folder))
    if cors is not None and not cors.origins:
        reader.report(f"{where}.origins", "expected an origin; remove [cors] to allow none")
    if cors is not None and cors.credentials and "*" in cors.origins:
        reader.report(
            f"{where}.origins",
            'expected each origin by name instead of "*", because credentials is true: any page'
            " could act as a user who visits it",
        )
    return cors


def _rows(
    reader: Reader, raw: object, row: type[Row], place: tuple[str, Path]
) -> Sequence[Row | None]:
    """Return a struct for each table of a list, or None for a table that has problems."""
    where, folder = place
    if not isinstance(raw, list) or not all(isinstance(table, dict) for table in raw):
        name = where.rpartition(" ")[2]
        reader.report(where, f"expected tables under [[{name}]]; got {shown(raw)}")
        return []
    return [
        _row(reader, table, row, (f"{where}[{position}]", folder))
        for position, table in enumerate(raw, 1)
    ]


def _row(
    reader: Reader, table: dict[str, object], row: type[Row], place: tuple[str, Path]
) -> Row | None:
    where, folder = place
    before = len(reader.problems)
    kinds = kinds_of(row)
    given = {name: RawValue(raw, f"{where}.{name}", folder) for name, raw in table.items()}
    reader.unknown(table, kinds, f"{where}.")
    values = reader.table(kinds, given)
    for field in fields_of(row):
        if field.required and field.name not in table:
            reader.report(
                f"{where}.{field.name}", f"expected {kinds[field.name].expected}; not set"
            )
    return row(**values) if len(reader.problems) == before else None
