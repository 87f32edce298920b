"""What becomes of each header line, remembered for the lines that peers repeat.

Owns that memory and its bounds. Knows nothing of messages: what several lines mean together, the
parsers say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sidecar.errors import Malformed, PeerError
from sidecar.wire.header_kinds import HeaderKind
from sidecar.wire.headers import fold
from sidecar.wire.octets import keeping
from sidecar.wire.target import is_host

if TYPE_CHECKING:
    from sidecar.wire.header_kinds import HeaderKinds

# A header that the parser reads or drops: kind, name in lower case, value without white space, and
# the line. A plain tuple, because each request with a token makes a new one.
Field = tuple[HeaderKind, bytes, bytes, bytes]

# The octets of a field value (RFC 9110 section 5.5): the tab is the only control character.
_VALUE_OCTETS: Final = keeping(bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100))))
# Lines with credentials are not remembered: they must not stay in memory after their message.
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))
_PASS: Final = HeaderKind.PASS
_HOST: Final = HeaderKind.HOST
_MOST_NAMES: Final = 1024  # spellings of names
_MOST_LINES: Final = 4096  # of all names; they take 2 MiB at most
_MOST_OF_NAME: Final = 64  # lines of one name
_PERIOD: Final = 1024  # unknown lines of a name, after which other lines of it are remembered
_LONGEST_NAME: Final = 128  # octets of a spelling that is remembered
_LONGEST_LINE: Final = 256  # octets of a line that is remembered


class HeaderName:
    """One spelling of a header's name: its kind, and which lines of it are remembered.

    `unknown` counts the lines that were not, of which the first 64 in 1,024 are remembered from
    then on, if `remembers`.
    """

    __slots__ = ("kind", "lines", "lower", "remembers", "unknown")

    def __init__(self, name: bytes, kind: HeaderKind) -> None:
        self.kind = kind
        self.lower = name.lower()
        self.remembers = len(name) <= _LONGEST_NAME and fold(name) not in _SECRET
        self.unknown = 0
        self.lines: list[bytes] = []

    def __repr__(self) -> str:
        return f"<HeaderName {self.lower.decode('latin-1')} {self.kind.name}>"


class FieldLines:
    """Tells what becomes of a header line: it is passed on, or a `Field` that the parser reads.

    Lines are without their CRLF, and one that is passed on unread stands for itself. Peers repeat
    most of their lines, so that `known` has the answer to those, at a fifth of the cost. Others
    never come again, such as those with a trace id: each name has few places, so that its lines
    push out no others, and each other only once in 1,024 times.
    """

    __slots__ = ("_names", "kinds", "known")

    def __init__(self, kinds: HeaderKinds) -> None:
        self.kinds = kinds
        self.known: dict[bytes, bytes | Field] = {}
        self._names: dict[bytes, HeaderName] = {}

    def __repr__(self) -> str:
        return f"<FieldLines of {len(self._names)} names, {len(self.known)} known>"

    @property
    def names(self) -> int:
        """The number of names that are remembered."""
        return len(self._names)

    def of(self, received: bytes) -> bytes | Field:
        """Return what becomes of a line without its CRLF.

        Raises PeerError(400) for a malformed line (RFC 9112 section 5).
        """
        known = self.known.get(received)
        return self.read(received) if known is None else known

    def read(self, received: bytes) -> bytes | Field:
        """Return what becomes of a line that is not among the known ones. Raises PeerError(400)."""
        text, colon, value = received.partition(b":")
        name = self._names.get(text)
        if name is None:
            name = self._meet(text)
        if not colon or value.translate(_VALUE_OCTETS) != value:
            raise PeerError(400, "malformed header line", Malformed.HEADER_LINE)
        kind = name.kind
        judged: bytes | Field
        if kind is _PASS:
            judged = received
        else:
            value = value.strip(b" \t")
            if kind is _HOST and not is_host(value):
                raise PeerError(400, "malformed Host", Malformed.HOST)
            judged = (kind, name.lower, value, received)
        if name.remembers:
            if name.unknown % _PERIOD < _MOST_OF_NAME and len(received) <= _LONGEST_LINE:
                self._remember(name, received, judged)
            name.unknown += 1
        return judged

    def _meet(self, text: bytes) -> HeaderName:
        name = HeaderName(text, self.kinds.of(text))
        if len(text) > _LONGEST_NAME:
            return name
        if len(self._names) >= _MOST_NAMES:
            self._forget()
        self._names[text] = name
        return name

    def _remember(self, name: HeaderName, received: bytes, judged: bytes | Field) -> None:
        known = self.known
        if name.unknown and not name.unknown % _PERIOD:
            for line in name.lines:
                known.pop(line, None)
            name.lines.clear()
        if len(known) >= _MOST_LINES:
            self._forget()
        known[received] = judged
        name.lines.append(received)

    def _forget(self) -> None:
        """Start again: only a peer that invents names makes so many."""
        self.known.clear()
        self._names.clear()


def filter_trailers(section: bytes, lines: FieldLines) -> bytes:
    """Return a trailer section (lines with CRLF) without the fields that a trailer may not have.

    Raises PeerError(400) for a malformed line.
    """
    kept = []
    for each in section.split(b"\r\n")[:-1]:
        judged = lines.of(each)
        if isinstance(judged, bytes) and lines.kinds.allows_trailer(each.partition(b":")[0]):
            kept.append(each + b"\r\n")
    return b"".join(kept)
