"""The rules that the corpus covers, each with a source change that switches it off.

A change replaces a piece of text that must occur exactly once. At least one of the rule's `vectors`
must fail with the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEADERS: Final = "sidecar.wire.headers"
KINDS: Final = "sidecar.wire.header_kinds"
LINES: Final = "sidecar.wire.field_lines"
FIELDS: Final = "sidecar.wire.request_fields"
REQUESTS: Final = "sidecar.wire.requests"
REQUEST_LINE: Final = "sidecar.wire.request_line"
RESPONSES: Final = "sidecar.wire.responses"
FRAMING: Final = "sidecar.wire.framing"
TARGET: Final = "sidecar.wire.target"
ESCAPED: Final = "sidecar.wire.escaped_path"
FORWARDED: Final = "sidecar.wire.forwarded"
ELEMENTS: Final = "sidecar.wire.forwarded_elements"
DOWNSTREAM: Final = "sidecar.proxy.downstream"
CLIENT: Final = "sidecar.proxy.client_connection"
EXCHANGE: Final = "sidecar.proxy.exchange"
UPSTREAM: Final = "sidecar.proxy.upstream"
LEG: Final = "sidecar.proxy.upstream_leg"
POOL: Final = "sidecar.proxy.upstream_pool"
CREDENTIALS: Final = "sidecar.auth.credentials"
BROWSER: Final = "sidecar.auth.same_origin"
PREFLIGHT: Final = "sidecar.auth.preflight"
HOPS: Final = "sidecar.wire.hops"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule; replacing `old` by `new` in the source of `module` switches it off."""

    name: str
    module: str
    old: str
    new: str
    vectors: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def switch_off(self, source: str) -> str:
        """Return the module's source without the rule. ValueError if it is not found."""
        if source.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: {self.old!r} does not occur exactly once in {self.module}"
            )
        return source.replace(self.old, self.new)


RULES: Final = (
    # Framing of requests
    Rule(
        "Content-Length beside Transfer-Encoding is refused",
        FIELDS,
        '    if head.length >= 0:\n        raise PeerError(400, "Transfer-Encoding beside',
        '    if False:\n        raise PeerError(400, "Transfer-Encoding beside',
        ("framing/cl-then-te", "framing/te-then-cl"),
    ),
    Rule(
        "a second Content-Length is refused",
        FIELDS,
        '        if head.length >= 0:\n            raise PeerError(400, "more',
        '        if False:\n            raise PeerError(400, "more',
        ("framing/cl-twice-differing", "smuggling/request-behind-two-lengths"),
    ),
    Rule(
        "Content-Length consists of digits",
        HEADERS,
        "if not value.isdigit() or len(value)",
        "if len(value)",
        ("framing/cl-plus", "framing/cl-underscore"),
    ),
    Rule(
        "Content-Length has a maximum",
        HEADERS,
        " or len(value) > _MAX_DIGITS:",
        ":",
        ("framing/cl-64-bit-overflow",),
    ),
    Rule(
        "chunked is the only coding in the list",
        FIELDS,
        '    if value.lower() != b"chunked":\n',
        '    if b"chunked" not in value.lower():\n',
        ("framing/te-gzip-then-chunked", "framing/te-chunked-twice"),
    ),
    Rule(
        "unknown transfer codings are refused",
        FIELDS,
        '    if value.lower() != b"chunked":\n',
        "    if False:\n",
        ("framing/te-gzip",),
    ),
    Rule(
        "all Transfer-Encoding lines count",
        FIELDS,
        'head.transfer_encoding = joined(head.transfer_encoding, b",", value)',
        "head.transfer_encoding = value",
        ("framing/te-identity-then-chunked-lines",),
    ),
    Rule(
        "HTTP/1.0 requests have no chunks",
        FIELDS,
        '    if not head.minor:\n        raise PeerError(400, "Transfer',
        '    if False:\n        raise PeerError(400, "Transfer',
        ("framing/te-in-http-1.0",),
    ),
    Rule(
        "Connection cannot name Content-Length",
        FIELDS,
        'if b"content-length" in named and',
        "if False and",
        ("framing/cl-named-in-connection",),
    ),
    Rule(
        "aliases of framing headers are dropped",
        KINDS,
        "return kind if name.lower() == folded else HeaderKind.DROP",
        "return kind",
        ("framing/cl-underscore-beside-te", "framing/te-underscore-beside-cl"),
    ),
    # Chunks
    Rule(
        "chunk sizes are hexadecimal",
        FRAMING,
        '_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})',
        '_SIZE_LINE: Final = re.compile(rb"[-+ x]*([0-9A-Fa-f]{1,15})',
        ("chunks/size-plus", "chunks/size-leading-space"),
    ),
    Rule(
        "chunk sizes have a maximum",
        FRAMING,
        '_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})',
        '_SIZE_LINE: Final = re.compile(rb"[0-9A-Fa-f]*?([0-9A-Fa-f]{1,15})',
        ("chunks/size-over-64-bit", "chunks/size-16-digits"),
    ),
    Rule(
        "chunk extensions are text",
        FRAMING,
        '[\\t\\x20-\\x7e]*)?\\Z")',
        '[\\x00-\\xff]*)?\\Z")',
        ("chunks/ext-line-feed", "smuggling/request-in-chunk-extension"),
    ),
    Rule(
        "chunk extensions have a maximum",
        FRAMING,
        "_MAX_SIZE_LINE: Final = 1024",
        "_MAX_SIZE_LINE: Final = 1 << 20",
        ("chunks/ext-too-long",),
    ),
    Rule(
        "chunk data ends with CRLF",
        FRAMING,
        '        if ending != b"\\r\\n":',
        "        if len(ending) < 2:",
        ("chunks/data-end-other",),
    ),
    Rule(
        "chunk data on the fast path ends with CRLF",
        FRAMING,
        'size == 0 or data[beyond - 2 : beyond] != b"\\r\\n"',
        "size == 0 or len(data) < beyond",
        ("chunks/data-end-other", "answer-bodies/chunk-data-end-other"),
    ),
    Rule(
        "chunk extensions are dropped",
        FRAMING,
        'passed.append(match[1] + b"\\r\\n")',
        'passed.append(match[0] + b"\\r\\n")',
        ("chunks/ext-is-dropped", "answer-bodies/chunks-ext-dropped"),
    ),
    Rule(
        "trailers have a maximum",
        FRAMING,
        "_MAX_TRAILERS: Final = 8192",
        "_MAX_TRAILERS: Final = 1 << 20",
        ("chunks/trailer-too-long",),
    ),
    Rule(
        "trailers are checked",
        FRAMING,
        'filter_trailers(section, self._fields) if section else b""',
        "section",
        ("chunks/trailer-space-before-colon", "identity/in-trailers"),
    ),
    Rule(
        "trailers carry no identity",
        LINES,
        "if isinstance(judged, bytes) and lines.kinds.allows_trailer",
        "if True or lines.kinds.allows_trailer",
        ("identity/in-trailers", "chunks/trailer-of-framing-is-dropped"),
    ),
    Rule(
        "trailers describe no content",
        KINDS,
        " and fold(name) not in _NOT_IN_TRAILERS",
        "",
        ("chunks/trailer-of-content-is-dropped",),
    ),
    # Field lines and Host
    Rule(
        "field names are tokens",
        KINDS,
        "        if not is_token(name):\n",
        "        if not name:\n",
        ("lines/space-before-colon", "lines/obs-fold-space", "identity/refused-folded"),
    ),
    Rule(
        "field names are not empty",
        KINDS,
        "        if not is_token(name):\n",
        "        if name and not is_token(name):\n",
        ("lines/empty-name",),
    ),
    Rule(
        "field values have no control characters",
        LINES,
        "if not colon or value.translate(_VALUE_OCTETS) != value:",
        "if not colon:",
        ("lines/nul-in-value", "lines/line-feed-between-fields"),
    ),
    Rule(
        "DEL is a control character",
        LINES,
        "*range(0x20, 0x7F), *range(0x80, 0x100)",
        "*range(0x20, 0x100)",
        ("lines/delete-in-value", "answer-heads/value-delete"),
    ),
    Rule(
        "a field line has a colon",
        LINES,
        "if not colon or value",
        "if value",
        ("lines/no-colon",),
    ),
    Rule(
        "a second Host is refused",
        FIELDS,
        'raise PeerError(400, "more than one Host", Malformed.HOST)',
        "return line",
        ("lines/host-twice-differing",),
    ),
    Rule(
        "HTTP/1.1 requires a Host",
        REQUESTS,
        "if not head.host and head.minor:",
        "if False:",
        ("lines/host-missing",),
    ),
    Rule(
        "Host is a valid host",
        LINES,
        "if kind is _HOST and not is_host(value):",
        "if False:",
        ("lines/host-user-information", "lines/host-list"),
    ),
    Rule(
        "Connection cannot name Host",
        FIELDS,
        '- {b"close", b"keep-alive", b"upgrade"} - _FOR_ALL',
        '- {b"close", b"keep-alive", b"upgrade"}',
        ("lines/host-named-in-connection",),
    ),
    Rule(
        "hop-by-hop fields are dropped",
        KINDS,
        "**dict.fromkeys(HOP_BY_HOP | PATH_OVERRIDES, HeaderKind.DROP)",
        "**dict.fromkeys(PATH_OVERRIDES, HeaderKind.DROP)",
        ("lines/hop-by-hop-is-dropped",),
    ),
    Rule(
        "fields named in Connection are dropped",
        FIELDS,
        "    return without(lines, named)",
        "    return lines",
        ("lines/hop-by-hop-is-dropped", "credentials/named-in-connection"),
    ),
    Rule(
        "the number of fields is limited",
        REQUESTS,
        'section.split(b"\\r\\n", self._limits.headers + 2)',
        'section.split(b"\\r\\n")',
        ("lines/fields-too-many",),
    ),
    Rule(
        "the size of a head is limited",
        DOWNSTREAM,
        "if len(data) >= limit:",
        "if len(data) >= 100 * limit:",
        ("lines/head-too-large", "lines/target-too-long"),
    ),
    Rule(
        "a target over the limit gets 414",
        TARGET,
        "return PeerError(414,",
        "return PeerError(431,",
        ("lines/target-too-long",),
    ),
    # Request lines
    Rule(
        "single spaces in the request line",
        REQUESTS,
        'method, target, version = line.split(b" ")',
        "method, target, version = line.split()",
        ("lines/two-spaces", "lines/tab-for-space", "lines/space-before"),
    ),
    Rule(
        "methods are tokens",
        REQUEST_LINE,
        "    if not is_token(method):",
        "    if False:",
        ("lines/method-not-a-token",),
    ),
    Rule(
        "methods are in upper case",
        REQUEST_LINE,
        "    if not is_method(method):",
        "    if False:",
        ("lines/method-lower-case", "lines/method-in-two-cases"),
    ),
    Rule(
        "CONNECT and TRACE are refused",
        REQUEST_LINE,
        'if method in {b"CONNECT", b"TRACE"}:',
        "if False:",
        ("lines/trace", "lines/connect-of-a-path"),
    ),
    Rule(
        "only HTTP/1 is accepted",
        REQUEST_LINE,
        "    if _VERSION.match(version):\n        raise",
        "    if _VERSION.match(version):\n        return 1\n        raise",
        ("lines/http-2.0", "lines/http-2-preface"),
    ),
    Rule(
        "the version is well-formed",
        REQUEST_LINE,
        'raise PeerError(400, "malformed request line", Malformed.REQUEST_LINE)',
        "return 1",
        ("lines/version-lower-case", "lines/version-two-digit-minor"),
    ),
    Rule(
        "only one empty line before a request",
        DOWNSTREAM,
        'if data.startswith(b"\\r\\n", at) and not data.startswith(HEAD_END, at):',
        'if data.startswith(b"\\r\\n", at):',
        ("lines/two-empty-lines-before",),
    ),
    # Targets
    Rule(
        "dot segments are refused",
        TARGET,
        '(b"/." in decoded and _has_dot_segment(decoded))',
        "False",
        ("targets/dots", "targets/dot-last"),
    ),
    Rule(
        "empty segments are refused",
        TARGET,
        'if b"//" in decoded or',
        "if",
        ("targets/double-slash", "targets/double-slash-inside"),
    ),
    Rule(
        "encoded slashes are refused",
        TARGET,
        'if decoded.count(b"/") != path.count(b"/") or',
        "if",
        ("targets/encoded-slash-upper",),
    ),
    Rule(
        "encoded dots are refused",
        TARGET,
        ' or decoded.count(b".") != path.count(b"."):',
        ":",
        ("targets/encoded-dot-in-name",),
    ),
    Rule(
        "backslashes and parameters are refused, plain or encoded",
        TARGET,
        'for c in range(0x20, 0x100) if c not in b"\\x7f\\\\;"',
        'for c in range(0x20, 0x100) if c not in b"\\x7f"',
        ("targets/encoded-params", "targets/encoded-backslash"),
    ),
    Rule(
        "plain parameters are refused",
        TARGET,
        'not in "%#\\\\;?")',
        'not in "%#\\\\?")',
        ("targets/params",),
    ),
    Rule(
        "plain backslashes are refused",
        TARGET,
        'not in "%#\\\\;?")',
        'not in "%#;?")',
        ("targets/backslash",),
    ),
    Rule(
        "encoded control characters are refused",
        TARGET,
        'for c in range(0x20, 0x100) if c not in b"\\x7f\\\\;"',
        'for c in range(0x100) if c not in b"\\\\;"',
        ("targets/nul", "targets/encoded-line-break"),
    ),
    Rule(
        "double encoding is refused",
        TARGET,
        " or _ESCAPE.search(decoded):",
        ":",
        ("targets/encoded-twice",),
    ),
    Rule(
        "incomplete escapes are refused",
        TARGET,
        "    if _BAD_ESCAPE.search(path):",
        "    if False:",
        ("targets/percent-not-hex", "targets/percent-alone"),
    ),
    Rule(
        "paths are UTF-8",
        TARGET,
        'decoded.decode("utf-8")\n    except',
        'decoded.decode("latin-1")\n    except',
        ("targets/overlong-slash", "targets/latin-1"),
    ),
    Rule(
        "fragments are refused",
        TARGET,
        'if chr(c) not in "%#\\\\;?")',
        'if chr(c) not in "%\\\\;?")',
        ("targets/fragment",),
    ),
    Rule(
        "queries are visible ASCII",
        TARGET,
        "        if mark and query.translate(_QUERY) != query:",
        "        if False:",
        ("targets/fragment-after-query", "targets/query-not-ascii"),
    ),
    Rule(
        "absolute form agrees with Host",
        REQUESTS,
        "if contradicted or not",
        "if not",
        ("targets/absolute-contradicts-host", "targets/absolute-contradicts-port"),
    ),
    Rule(
        "other schemes are refused",
        TARGET,
        "(?i:https?)://",
        "(?i:[a-z]+)://",
        ("targets/absolute-other-scheme",),
    ),
    Rule(
        "the asterisk form is for OPTIONS only",
        REQUESTS,
        'if target == b"*" and method == b"OPTIONS":',
        'if target == b"*":',
        ("targets/asterisk-of-get",),
    ),
    Rule(
        "OPTIONS without a path becomes the asterisk form",
        REQUESTS,
        'if not target and method == b"OPTIONS":',
        "if False:",
        ("targets/options-absolute-empty-path",),
    ),
    # Targets with path normalisation
    Rule(
        "double dots are resolved",
        TARGET,
        '        if segment == b"..":\n',
        "        if False:\n",
        ("normalised/dots", "normalised/private-by-dots"),
    ),
    Rule(
        "double dots remove one segment",
        TARGET,
        "            kept.pop()\n",
        "            kept.clear()\n",
        ("normalised/dots",),
    ),
    Rule(
        "dots above the root are refused",
        TARGET,
        'if not kept:\n                raise PeerError(400, "ambiguous path", Malformed.PATH)',
        "if not kept:\n                continue",
        ("normalised/dots-above-the-root", "normalised/dots-above-the-root-later"),
    ),
    Rule(
        "single dots are removed",
        TARGET,
        'elif segment not in {b"", b"."}:',
        'elif segment != b"":',
        ("normalised/dot", "normalised/escaped-dot"),
    ),
    Rule(
        "empty segments are removed",
        TARGET,
        'elif segment not in {b"", b"."}:',
        'elif segment != b".":',
        ("normalised/empty-segments", "normalised/empty-segment-before-dots"),
    ),
    Rule(
        "a trailing slash is kept",
        TARGET,
        'last in {b"", b".", b".."} and kept',
        "False",
        ("normalised/dots-last", "normalised/empty-segments-last"),
    ),
    Rule(
        "dots at the end leave a trailing slash",
        TARGET,
        'last in {b"", b".", b".."} and kept',
        'last == b"" and kept',
        ("normalised/dots-last", "normalised/dot-last"),
    ),
    Rule(
        "the root is one slash",
        TARGET,
        'last in {b"", b".", b".."} and kept',
        'last in {b"", b".", b".."}',
        ("normalised/dots-to-the-root", "normalised/empty-segments-alone"),
    ),
    Rule(
        "needless escapes are undone before dots are resolved",
        TARGET,
        "unescaped = _ESCAPE.sub(_unreserved, path)",
        "unescaped = path",
        ("normalised/escaped-dots", "normalised/private-by-escaped-dots"),
    ),
    Rule(
        "needed escapes are kept",
        TARGET,
        "return character if character in _UNRESERVED else",
        "return character if character.isascii() else",
        ("normalised/escaped-reserved", "normalised/encoded-slash"),
    ),
    Rule(
        "escapes use upper-case digits",
        TARGET,
        "else escape[0].upper()",
        "else escape[0]",
        ("normalised/escape-in-small-letters",),
    ),
    Rule(
        "incomplete escapes are refused before any is undone",
        TARGET,
        "    _check_escapes(path)\n    unescaped",
        "    unescaped",
        (
            "normalised/percent-made-whole",
            "normalised/percent-made-whole-by-its-first-digit",
        ),
    ),
    Rule(
        "removed segments are checked",
        TARGET,
        "    _decode(unescaped)\n",
        "",
        (
            "normalised/encoded-slash-that-would-fall-away",
            "normalised/fragment-that-would-fall-away",
        ),
    ),
    Rule(
        "no path is rewritten into the sidecar's own",
        TARGET,
        "if plain != path and self._is_own(plain):",
        "if False:",
        ("normalised/own-by-dots", "normalised/own-by-empty-segments"),
    ),
    Rule(
        "own paths include everything below the prefix",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path in self._own",
        ("normalised/own-by-dots", "normalised/out-of-a-subrequest"),
    ),
    Rule(
        "own paths include the prefix without a slash",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path.startswith(self._below)",
        ("normalised/own-by-dots-without-slash", "normalised/own-keys-by-escapes"),
    ),
    Rule(
        "a longer name is not an own path",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path.startswith(self._own)",
        ("normalised/own-name-begins-another",),
    ),
    Rule(
        "own paths are not rewritten",
        TARGET,
        "plain = path if self._is_own(path) else normalise(path)\n        text",
        "plain = normalise(path)\n        text",
        ("normalised/out-of-our-own", "normalised/out-of-a-subrequest"),
    ),
    Rule(
        "own paths are read strictly",
        TARGET,
        "text = self._plain[plain]",
        'text = unquote_to_bytes(plain).decode("utf-8")',
        ("normalised/own-by-a-dot-alone", "normalised/own-empty-segments-within"),
    ),
    Rule(
        "the normalised path is remembered for forwarding",
        TARGET,
        "self._rewritten[path] = plain\n",
        "pass\n",
        ("normalised/dots", "normalised/public-by-dots"),
    ),
    Rule(
        "a long normalised path is forwarded",
        TARGET,
        "if len(path) > _LONGEST_REMEMBERED:\n            plain",
        "if False:\n            plain",
        ("normalised/too-long-to-remember",),
    ),
    Rule(
        "the query is kept",
        TARGET,
        "else plain + mark + query",
        "else plain + mark + normalise(b'/' + query)[1:]",
        ("normalised/query-stays", "normalised/query-of-the-root"),
    ),
    Rule(
        "an empty query is kept",
        TARGET,
        "else plain + mark + query",
        "else plain + (query and mark + query)",
        ("normalised/query-empty",),
    ),
    Rule(
        "the path ends where the query begins",
        TARGET,
        "        return self[path]\n",
        "        return self[target]\n",
        ("normalised/query-is-no-path", "targets/private-in-query"),
    ),
    Rule(
        "the normalised target is forwarded",
        REQUESTS,
        "                if self._rewrites:\n",
        "                if False:\n",
        ("normalised/dots", "normalised/public-by-dots"),
    ),
    Rule(
        "the normalised target of an absolute form is forwarded",
        REQUESTS,
        "parse(target)\n                head.target = self._paths.as_forwarded(target)",
        "parse(target)",
        ("normalised/absolute",),
    ),
    # Targets whose escapes pass
    Rule(
        "escapes pass only on routes that say so",
        TARGET,
        "if path is None or not self.passes_escapes(head, path):",
        "if path is None:",
        ("escapes/another-method", "escapes/another-route", "escapes/own-path"),
    ),
    Rule(
        "the query beside escapes is checked",
        TARGET,
        "return None if mark and query.translate(_QUERY) != query else read_escaped(path)",
        "return read_escaped(path)",
        ("escapes/malformed-query",),
    ),
    Rule(
        "dot segments never pass",
        ESCAPED,
        ' or b"." in pieces or b".." in pieces:',
        ":",
        ("escapes/dots-behind-a-slash", "escapes/dot-escaped-twice"),
    ),
    Rule(
        "parameters do not hide dot segments",
        ESCAPED,
        're.compile(rb"[/;]")',
        're.compile(rb"/")',
        ("escapes/dots-with-parameters", "escapes/dots-in-parameters"),
    ),
    Rule(
        "escapes are decoded twice",
        ESCAPED,
        "for _ in range(2):",
        "for _ in range(1):",
        ("escapes/escaped-escape",),
    ),
    Rule(
        "escapes have two layers at most",
        ESCAPED,
        "if _ESCAPE.search(decoded) or",
        "if",
        ("escapes/escaped-three-times",),
    ),
    Rule(
        "empty segments never pass",
        ESCAPED,
        ' or b"//" in path:',
        ":",
        ("escapes/empty-segment",),
    ),
    Rule(
        "escaped backslashes never pass",
        ESCAPED,
        'for c in range(0x20, 0x100) if c not in b"\\x7f\\\\"',
        'for c in range(0x20, 0x100) if c not in b"\\x7f"',
        ("escapes/backslash", "escapes/backslash-escaped-twice"),
    ),
    Rule(
        "a fragment never passes",
        ESCAPED,
        "if path.translate(_OCTETS) != path or",
        "if",
        ("escapes/fragment",),
    ),
    Rule(
        "escaped control characters never pass",
        ESCAPED,
        'for c in range(0x20, 0x100) if c not in b"\\x7f\\\\"',
        'for c in range(0x100) if c not in b"\\\\"',
        ("escapes/nul", "escapes/nul-escaped-twice"),
    ),
    Rule(
        "bad escapes never pass",
        ESCAPED,
        "or _BAD_ESCAPE.search(path) or",
        "or",
        ("escapes/bad-escape",),
    ),
    Rule(
        "a path that passes is UTF-8",
        ESCAPED,
        'decoded.decode("utf-8")\n    except',
        'decoded.decode("latin-1")\n    except',
        ("escapes/overlong-dots", "escapes/overlong-dots-escaped-twice"),
    ),
    Rule(
        "a preflight passes escapes only if the announced method does",
        PREFLIGHT,
        "return route.preflight if route.passes_escapes or not is_ambiguous(path) else None",
        "return route.preflight",
        ("escapes/preflight-of-a-method-that-does-not-pass-escapes",),
    ),
    # Pipelining
    Rule(
        "octets after a refused request are not read",
        CLIENT,
        "write(answer)\n        self._end(unread=True)",
        "write(answer)",
        ("smuggling/request-behind-two-lengths", "framing/cl-then-te"),
    ),
    Rule(
        "the rest of a body is not a request",
        DOWNSTREAM,
        "if exchange is None or not exchange.keep_alive:",
        "if False:",
        ("lines/close", "framing/cl-http-1.0-closes"),
    ),
    # Identity and forwarding
    Rule(
        "identity headers from the client are dropped",
        KINDS,
        "kinds | {fold(name): HeaderKind.DROP for name in dropped}",
        "kinds",
        ("identity/of-another-name",),
    ),
    Rule(
        "names with an identity prefix are dropped",
        KINDS,
        "if folded.startswith(self._reserved):",
        "if False:",
        ("identity/not-in-use", "identity/forwarded-other-names"),
    ),
    Rule(
        "field names are folded",
        HEADERS,
        "    return name.lower().translate(_FOLDED)",
        "    return name.lower()",
        ("identity/user-underscores", "identity/user-dots"),
    ),
    Rule(
        "every separator is folded",
        HEADERS,
        "c if bytes((c,)).isalnum() else 0x2D",
        "0x2D if c == 0x5F else c",
        ("identity/user-dots",),
    ),
    Rule(
        "path override headers are dropped",
        KINDS,
        "**dict.fromkeys(HOP_BY_HOP | PATH_OVERRIDES, HeaderKind.DROP)",
        "**dict.fromkeys(HOP_BY_HOP, HeaderKind.DROP)",
        ("identity/path-overrides",),
    ),
    Rule(
        "method override headers are removed",
        KINDS,
        "return HeaderKind.METHOD_OVERRIDE",
        "return HeaderKind.PASS",
        ("identity/method-overrides",),
    ),
    Rule(
        "method override headers are recognised in any spelling",
        KINDS,
        'overrides.fullmatch(folded.replace(b"-", b""))',
        'overrides.fullmatch(name.lower().replace(b"-", b""))',
        ("identity/method-overrides",),
    ),
    Rule(
        "Connection names no method override",
        FIELDS,
        "    if any(fold(name) in named for name, _ in head.overrides):",
        "    if False:",
        ("identity/method-override-ends-here",),
    ),
    Rule(
        "forwarded headers of an untrusted peer are dropped",
        FORWARDED,
        "if self.trusted and head.forwarded is not None:\n            return self._appended",
        "if head.forwarded is not None:\n            return self._appended",
        ("identity/real-ip", "identity/forwarded-other-names"),
    ),
    Rule(
        "a malformed Forwarded is dropped",
        ELEMENTS,
        "        if element is None:\n            break\n",
        "        if element is None:\n            continue\n",
        ("identity/forwarded-junk-before-that-of-a-trusted-proxy",),
    ),
    Rule(
        "Forwarded beside headers of the proxy is dropped",
        FORWARDED,
        "if not _OTHERS.isdisjoint(received):",
        "if False:",
        ("identity/forwarded-of-a-client-of-a-trusted-proxy",),
    ),
    Rule(
        "a malformed X-Forwarded-Prefix is dropped",
        FORWARDED,
        "if not all(_PREFIX.fullmatch(part) for part in parts):",
        "if False:",
        ("identity/forwarded-prefix-to-another-host",),
    ),
    Rule(
        "an X-Real-IP that is a list is dropped",
        FORWARDED,
        'if b"," not in address and (named',
        "if (named",
        ("identity/real-ips",),
    ),
    Rule(
        "a malformed Client-Cert is dropped",
        FORWARDED,
        "if name in told and form.match(told[name]):",
        "if name in told:",
        ("identity/certificate-junk-of-a-trusted-proxy",),
    ),
    Rule(
        "Client-Cert from a client is dropped",
        KINDS,
        'b"x-auth-", b"client-cert-"),',
        'b"x-auth-"),',
        ("identity/certificate-of-a-stranger",),
    ),
    Rule(
        "other certificate headers are dropped",
        KINDS,
        '*(b"x-client-cert", b"x-ssl-client-", b"ssl-client-", b"x-amzn-mtls-"),',
        "",
        ("identity/certificate-by-other-names",),
    ),
    # Credentials
    Rule(
        "a second Authorization is refused",
        CREDENTIALS,
        'if head.repeated and b"authorization" in head.repeated:',
        "if False:",
        ("credentials/two-lines-differing", "credentials/two-lines-same"),
    ),
    Rule(
        "a second credential is refused",
        CREDENTIALS,
        "if token is not None and values:",
        "if False:",
        ("credentials/cookie-and-bearer",),
    ),
    Rule(
        "a second session cookie is refused",
        CREDENTIALS,
        "if len(values) > 1:",
        "if False:",
        ("credentials/cookie-twice", "credentials/cookie-twice-in-lines"),
    ),
    Rule(
        "a bearer of another issuer is the application's",
        CREDENTIALS,
        "if token is not None and len(values) == 1 and _is_foreign(token, value, issuers):",
        "if False:",
        (
            "credentials/cookie-and-foreign-bearer",
            "credentials/cookie-and-opaque-bearer",
            "credentials/cookie-and-bearer-with-bar",
        ),
    ),
    Rule(
        "a bearer of an issuer of ours is not the application's",
        CREDENTIALS,
        "return not may_be_issued_by(token, issuers)",
        "return True",
        (
            "credentials/cookie-and-bearer",
            "credentials/cookie-and-forged-bearer",
            "credentials/cookie-and-padded-bearer",
        ),
    ),
    Rule(
        "a malformed header may hold a token of ours",
        CREDENTIALS,
        'return value.count(b".") < 2',
        "return True",
        ("credentials/cookie-and-bearer-in-a-list",),
    ),
    Rule(
        "a route that takes cookies looks at no bearer",
        CREDENTIALS,
        "if accepts is not Accepts.COOKIE:",
        "if True:",
        ("credentials/by-cookie-both", "credentials/by-cookie-bearer"),
    ),
    Rule(
        "a route that takes bearers looks at no cookie",
        CREDENTIALS,
        " and accepts is not Accepts.BEARER:",
        ":",
        ("credentials/by-bearer-cookie", "credentials/by-bearer-both"),
    ),
    Rule(
        "a route that takes one kind of credentials is marked",
        "sidecar.auth.routes",
        "special = self.public or self.credentials is not Accepts.ANY",
        "special = self.public",
        ("credentials/by-cookie-both", "credentials/by-bearer-cookie"),
    ),
    Rule(
        "schemes are case-insensitive",
        CREDENTIALS,
        'rb"(?i:bearer)',
        'rb"(?:Bearer)',
        ("credentials/scheme-lower-case",),
    ),
    Rule(
        "the scheme is a whole word",
        CREDENTIALS,
        'rb"(?i:bearer)(?![!#$%&\'*+.^_`|~0-9A-Za-z-])"',
        'rb"(?i:bearer)"',
        ("credentials/scheme-suffix",),
    ),
    Rule(
        "nothing may follow the token",
        CREDENTIALS,
        "or text.translate(_TOKEN) != text:",
        "or False:",
        ("credentials/trailing-word", "credentials/two-in-a-list"),
    ),
    Rule(
        "unsafe methods with a cookie need an origin",
        BROWSER,
        '    if head.origin is None or b"origin" in head.repeated:\n        return False',
        '    if head.origin is None or b"origin" in head.repeated:\n        return True',
        ("credentials/cookie-post-two-origins", "credentials/cookie-post-without-origin"),
    ),
    Rule(
        "upgrades with a cookie need an origin",
        BROWSER,
        " or head.upgrade is not None",
        "",
        ("upgrades/cookie-from-elsewhere", "upgrades/cookie-without-origin"),
    ),
    # Upgrades
    Rule(
        "only configured upgrades are forwarded",
        LEG,
        " and head.upgrade in upgrades:",
        ":",
        ("upgrades/h2c", "upgrades/two-protocols"),
    ),
    Rule(
        "all Upgrade lines count",
        FIELDS,
        'head.upgrade = joined(head.upgrade, b", ", value.lower())',
        "head.upgrade = value.lower()",
        ("upgrades/two-protocols-in-two-lines",),
    ),
    Rule(
        "a request with a body is not upgraded",
        LEG,
        "if head.upgrade is not None and head.framing is _NONE and",
        "if head.upgrade is not None and",
        ("upgrades/with-length", "upgrades/with-chunks"),
    ),
    Rule(
        "Connection must name Upgrade",
        FIELDS,
        '    if b"upgrade" not in tokens:\n        head.upgrade = None\n',
        "",
        ("upgrades/connection-close-only",),
    ),
    Rule(
        "HTTP/1.0 requests are not upgraded",
        FIELDS,
        "        head.upgrade = None  # ignored in HTTP/1.0",
        "        pass",
        ("upgrades/http-1.0",),
    ),
    Rule(
        "an unrequested 101 is refused",
        LEG,
        "wanted is None or head.upgrade != wanted:",
        "False:",
        ("answer-heads/unasked-101", "answer-heads/bare-101"),
    ),
    # Answers
    Rule(
        "the status line is well-formed",
        RESPONSES,
        '( [\\t\\x20-\\x7e\\x80-\\xff]*)?\\Z")',
        '( [\\x00-\\xff]*)?\\Z")',
        ("answer-heads/reason-carriage-return", "answer-heads/reason-nul"),
    ),
    Rule(
        "status codes have three digits",
        RESPONSES,
        " ([1-9][0-9]{2})(",
        " ([1-9][0-9]{1,3})(",
        ("answer-heads/status-two-digits",),
    ),
    Rule(
        "status codes begin at 100",
        RESPONSES,
        " ([1-9][0-9]{2})(",
        " ([0-9][0-9]{2})(",
        ("answer-heads/status-099", "answer-heads/status-000"),
    ),
    Rule(
        "answers are HTTP/1",
        RESPONSES,
        'rb"HTTP/1\\.([01]) ',
        'rb"HTTP/1\\.([0-9]) ',
        ("answer-heads/version-1.2",),
    ),
    Rule(
        "a second Content-Length in an answer is refused",
        RESPONSES,
        "                if head.framing is _LENGTH:\n",
        "                if False:\n",
        ("answer-bodies/cl-twice-differing", "answer-bodies/cl-twice-same"),
    ),
    Rule(
        "Content-Length beside Transfer-Encoding in an answer is refused",
        RESPONSES,
        "if head.framing is _LENGTH or value",
        "if value",
        ("answer-bodies/cl-and-te",),
    ),
    Rule(
        "chunked is the only coding of an answer",
        RESPONSES,
        ' or value.lower() != b"chunked":',
        ":",
        ("answer-bodies/te-gzip-chunked", "answer-bodies/te-identity"),
    ),
    Rule(
        "an HTTP/1.0 answer with chunks ends the connection",
        RESPONSES,
        "        head.keep_alive = False  # its",
        "        pass  # its",
        ("answer-bodies/chunks-http-1.0",),
    ),
    Rule(
        "204, 304 and answers to HEAD have no content",
        RESPONSES,
        "if to_head or status < 200 or status == 204 or status == 304:",
        "if status < 200:",
        ("answer-bodies/204-with-answer", "answer-bodies/head-plain"),
    ),
    Rule(
        "a 204 has no length",
        RESPONSES,
        "if head.status >= 200 and head.status != 204:",
        "if True:",
        ("answer-bodies/204-with-length",),
    ),
    Rule(
        "the number of fields in an answer is limited",
        RESPONSES,
        "if len(received) > self._limits.headers + 3:",
        "if False:",
        ("answer-heads/fields-too-many",),
    ),
    Rule(
        "the size of an answer's head is limited",
        UPSTREAM,
        "if end < len(HEAD_END) or end > self._limits.size:",
        "if end < len(HEAD_END):",
        ("answer-heads/head-too-large",),
    ),
    Rule(
        "the number of interim answers is limited",
        UPSTREAM,
        "_MAX_INTERIM: Final = 16",
        "_MAX_INTERIM: Final = 1 << 20",
        ("answer-heads/interim-flood",),
    ),
    Rule(
        "HTTP/1.0 clients get no interim answers",
        LEG,
        "if exchange.head.minor and not (exchange.continued",
        "if not (exchange.continued",
        ("answer-heads/interim-not-for-http-1.0",),
    ),
    Rule(
        "octets after an answer end the connection",
        UPSTREAM,
        "        if body.rest:  #",
        "        if False:  #",
        ("answer-bodies/cl-excess-is-an-answer", "answer-bodies/chunks-excess"),
    ),
    Rule(
        "a body that must not be there ends the connection",
        UPSTREAM,
        "            if data:\n                self.reusable = False\n            exchange",
        "            exchange",
        ("answer-bodies/head-with-answer", "answer-bodies/204-with-answer"),
    ),
    Rule(
        "octets on an idle connection end it",
        UPSTREAM,
        (
            "            # They must never be taken for the answer to the next request.\n"
            "            self.abort()"
        ),
        "            pass",
        ("answer-bodies/cl-excess-is-an-answer", "answer-bodies/204-with-answer"),
    ),
    Rule(
        "a connection that the upstream closes is not reusable",
        UPSTREAM,
        "        if not head.keep_alive:\n            self.reusable = False\n",
        "",
        ("answer-bodies/cl-close", "answer-bodies/cl-http-1.0"),
    ),
    Rule(
        "only a reusable connection is pooled",
        POOL,
        "if not connection.reusable or self.closing:",
        "if self.closing:",
        ("answer-bodies/cl-close", "answer-bodies/cl-http-1.0"),
    ),
    Rule(
        "a cut-off answer looks cut off",
        EXCHANGE,
        (
            "        if self.accounting.status:\n"
            "            self.abandon()\n"
            "        else:\n"
            "            self._problem(error.status, RETRY"
        ),
        (
            "        if self.accounting.status:\n"
            "            self.finish(monotonic())\n"
            "        else:\n"
            "            self._problem(error.status, RETRY"
        ),
        ("answer-bodies/chunks-without-last", "answer-bodies/cl-short-then-close"),
    ),
    Rule(
        "a reset is not a clean end",
        UPSTREAM,
        "if self.until_close and self._ended and error is None:",
        "if self.until_close:",
        ("answer-bodies/until-reset",),
    ),
    Rule(
        "a POST is sent once",
        "sidecar.proxy.upstream_loss",
        "not status and head.framing is Framing.NONE and head.method in _IDEMPOTENT",
        "not status",
        ("answer-heads/closed-on-a-post",),
    ),
    Rule(
        "a request is not retried once an answer began",
        UPSTREAM,
        "stale=self.served > 0 and not self.answering)",
        "stale=self.served > 0)",
        ("answer-heads/half-a-head-then-close-when-warm",),
    ),
    Rule(
        "hop-by-hop fields of an answer are dropped",
        RESPONSES,
        "return lines if not named else lines[:1] + without(lines[1:], named)",
        "return lines",
        ("answer-heads/hop-by-hop-is-dropped",),
    ),
    # Preflights
    Rule(
        "a preflight is forwarded without credentials",
        EXCHANGE,
        "self.head = preflight.without_credentials(self.head)",
        "pass",
        ("preflights/with-bearer", "preflights/with-other-cookies"),
    ),
    Rule(
        "a preflight is forwarded without Authorization",
        PREFLIGHT,
        'frozenset((b"authorization", b"cookie"))',
        'frozenset((b"cookie",))',
        ("preflights/with-bearer", "preflights/with-two-authorizations"),
    ),
    Rule(
        "a preflight is forwarded without cookies",
        PREFLIGHT,
        'frozenset((b"authorization", b"cookie"))',
        'frozenset((b"authorization",))',
        ("preflights/with-session-cookie", "preflights/with-other-cookies"),
    ),
    Rule(
        "a preflight has empty identity headers",
        EXCHANGE,
        "self._act_on(context.gate.anonymous)",
        "self._act_on(type(context.gate.anonymous)(b'', '', '', b'{}', None))",
        ("preflights/plain", "preflights/with-identity"),
    ),
    Rule(
        "a preflight has no body",
        PREFLIGHT,
        " or head.framing is not Framing.NONE",
        "",
        ("preflights/length", "preflights/chunks"),
    ),
    Rule(
        "a preflight opens no tunnel",
        PREFLIGHT,
        " or head.upgrade is not None:",
        ":",
        ("preflights/upgrade",),
    ),
    Rule(
        "a preflight has each header only once",
        PREFLIGHT,
        "if folded in values or name.lower() != folded:",
        "if name.lower() != folded:",
        ("preflights/two-origins", "preflights/two-methods"),
    ),
    Rule(
        "a preflight has each header in one spelling",
        PREFLIGHT,
        "        folded = fold(name)\n        if folded in _HEADERS:",
        "        folded = name.lower()\n        if folded in _HEADERS:",
        ("preflights/second-spelling",),
    ),
    Rule(
        "a preflight has no method override",
        PREFLIGHT,
        "    if head.overrides:\n        return None\n",
        "",
        ("preflights/method-override",),
    ),
    Rule(
        "a preflight announces a method",
        PREFLIGHT,
        "if not is_method(method) or method",
        "if method",
        ("preflights/no-method", "preflights/list-of-methods", "preflights/lower-case-method"),
    ),
    Rule(
        "a preflight cannot announce TRACE or CONNECT",
        PREFLIGHT,
        " or method in _NEVER_SERVED:",
        ":",
        ("preflights/method-trace",),
    ),
    Rule(
        "a preflight has an origin",
        PREFLIGHT,
        'return method if _ONE_ORIGIN.fullmatch(values.get(_ORIGIN, b"")) else None',
        "return method",
        ("preflights/no-origin", "preflights/empty-origin"),
    ),
    Rule(
        "a preflight has only one origin",
        PREFLIGHT,
        '_ONE_ORIGIN.fullmatch(values.get(_ORIGIN, b""))',
        "values.get(_ORIGIN)",
        ("preflights/list-of-origins",),
    ),
    Rule(
        "the announced method's route rule applies to a preflight",
        PREFLIGHT,
        "routes.match(method, head.host",
        "routes.match(head.method, head.host",
        ("preflights/method-under-another-rule",),
    ),
    Rule(
        "headers named in Connection do not make a preflight",
        PREFLIGHT,
        "    values: dict[bytes, bytes] = {}\n",
        "    values = {} if head.origin is None else {_ORIGIN: head.origin}\n",
        ("preflights/origin-named-in-connection",),
    ),
    # Max-Forwards
    Rule(
        "an OPTIONS with Max-Forwards 0 is answered here",
        HOPS,
        "    if not digits:\n        return None\n",
        '    if not digits:\n        digits = b"1"\n',
        ("hops/zero", "hops/zero-of-the-server"),
    ),
    Rule(
        "Max-Forwards is decremented",
        HOPS,
        "int(digits) - 1 if",
        "int(digits) if",
        ("hops/one", "hops/ten"),
    ),
    Rule(
        "Max-Forwards is a number",
        HOPS,
        "    if not value.isdigit():\n",
        "    if not value.isdigit():\n        return head\n    if False:\n",
        ("hops/minus", "hops/word"),
    ),
    Rule(
        "a second Max-Forwards is refused",
        HOPS,
        "if len(places) > 1:",
        "if False:",
        ("hops/twice", "hops/zero-and-more"),
    ),
    Rule(
        "Max-Forwards has a maximum",
        HOPS,
        " if len(digits) <= _MOST_DIGITS else _MOST",
        "",
        ("hops/more-than-is-kept",),
    ),
    Rule(
        "Max-Forwards applies to OPTIONS only",
        EXCHANGE,
        "if self.head.method == _OPTIONS and not self._spend_hop()",
        'if self.head.method in (_OPTIONS, b"DELETE") and not self._spend_hop()',
        ("hops/delete",),
    ),
    Rule(
        "the sidecar's own paths ignore Max-Forwards",
        EXCHANGE,
        "        else:\n            self._ask_control_plane(decision)\n",
        (
            "        elif self.head.method == _OPTIONS and not self._spend_hop():\n"
            "            return\n"
            "        else:\n            self._ask_control_plane(decision)\n"
        ),
        ("hops/zero-of-our-own",),
    ),
    Rule(
        "Connection cannot name Max-Forwards",
        FIELDS,
        'frozenset((b"host", b"max-forwards"))',
        'frozenset((b"host",))',
        ("hops/zero-named-in-connection",),
    ),
    # Credentials that the application does not get
    Rule(
        "the session cookie is not forwarded",
        CREDENTIALS,
        "left = self._without_pair(value)",
        "left = value",
        (
            "credentials/the-application-gets-no-session-cookie",
            "credentials/a-public-route-gets-no-session-cookie",
        ),
    ),
    Rule(
        "a public route gets no bearer token",
        CREDENTIALS,
        'return b"" if _SCHEME.match(value.strip()) else line',
        "return line",
        ("credentials/a-public-route-gets-no-token",),
    ),
    # Answers to sessions
    Rule(
        "an answer to a session without Cache-Control is not stored",
        LEG,
        "lines = self._context.cache_control",
        'lines = b""',
        ("answer-heads/cache-control-of-a-session",),
    ),
    Rule(
        "a Cache-Control that Connection names does not count",
        RESPONSES,
        'if b"cache-control" in named:',
        "if False:",
        ("answer-heads/cache-control-named-by-connection",),
    ),
    Rule(
        "an answer to nobody in particular may be stored",
        LEG,
        "if not head.cache_control and exchange.allow is not self._context.gate.anonymous:",
        "if not head.cache_control:",
        ("answer-heads/cache-control-of-nobody",),
    ),
)

# Changes nothing: if a vector always failed, it would seem to prove every rule.
CONTROL: Final = Rule(
    "nothing",
    KINDS,
    "HOP_BY_HOP: Final",
    "HOP_BY_HOP: Final",
    tuple(sorted({name for rule in RULES for name in rule.vectors})),
)
