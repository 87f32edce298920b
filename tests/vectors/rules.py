"""The rules that the corpus holds, each with a change of the sidecar's source that switches it off.

A change replaces one piece of text, which must be there exactly once; `vectors` are those of which
at least one must fail then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEADERS: Final = "sidecar.wire.headers"
REQUESTS: Final = "sidecar.wire.requests"
RESPONSES: Final = "sidecar.wire.responses"
FRAMING: Final = "sidecar.wire.framing"
TARGET: Final = "sidecar.wire.target"
FORWARDED: Final = "sidecar.wire.forwarded"
DOWNSTREAM: Final = "sidecar.proxy.downstream"
CLIENT: Final = "sidecar.proxy.client_base"
EXCHANGE: Final = "sidecar.proxy.exchange"
UPSTREAM: Final = "sidecar.proxy.upstream"
RELAY: Final = "sidecar.proxy.relay"
ORIGIN: Final = "sidecar.proxy.upstream_pool"
CREDENTIALS: Final = "sidecar.auth.credentials"
BROWSER: Final = "sidecar.auth.same_origin"
PREFLIGHT: Final = "sidecar.auth.preflight"
OPTIONS: Final = "sidecar.proxy.options"
HOPS: Final = "sidecar.wire.hops"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; without it `old` in the source of `module` is `new`."""

    name: str
    module: str
    old: str
    new: str
    vectors: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    def switch_off(self, source: str) -> str:
        """The module's source without the rule. ValueError if the rule is not found in it."""
        if source.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.old!r} is not once in {self.module}")
        return source.replace(self.old, self.new)


RULES: Final = (
    # Framing of requests
    Rule(
        "length beside chunks",
        REQUESTS,
        '    if head.length >= 0:\n        raise PeerError(400, "Transfer-Encoding beside',
        '    if False:\n        raise PeerError(400, "Transfer-Encoding beside',
        ("framing/cl-then-te", "framing/te-then-cl"),
    ),
    Rule(
        "one length",
        REQUESTS,
        '        if head.length >= 0:\n            raise PeerError(400, "more',
        '        if False:\n            raise PeerError(400, "more',
        ("framing/cl-twice-differing", "smuggling/request-behind-two-lengths"),
    ),
    Rule(
        "a length is digits",
        HEADERS,
        "if not value.isdigit() or len(value)",
        "if len(value)",
        ("framing/cl-plus", "framing/cl-underscore"),
    ),
    Rule(
        "a length has an end",
        HEADERS,
        " or len(value) > _MAX_DIGITS:",
        ":",
        ("framing/cl-64-bit-overflow",),
    ),
    Rule(
        "chunked and nothing else",
        REQUESTS,
        '    if value.lower() != b"chunked":\n',
        '    if b"chunked" not in value.lower():\n',
        ("framing/te-gzip-then-chunked", "framing/te-chunked-twice"),
    ),
    Rule(
        "unknown codings",
        REQUESTS,
        '    if value.lower() != b"chunked":\n',
        "    if False:\n",
        ("framing/te-gzip",),
    ),
    Rule(
        "all lines of a coding count",
        REQUESTS,
        'head.transfer_encoding = joined(head.transfer_encoding, b",", value)',
        "head.transfer_encoding = value",
        ("framing/te-identity-then-chunked-lines",),
    ),
    Rule(
        "no chunks in HTTP/1.0",
        REQUESTS,
        '    if not head.minor:\n        raise PeerError(400, "Transfer',
        '    if False:\n        raise PeerError(400, "Transfer',
        ("framing/te-in-http-1.0",),
    ),
    Rule(
        "Connection takes out no length",
        REQUESTS,
        'if b"content-length" in named and',
        "if False and",
        ("framing/cl-named-in-connection",),
    ),
    Rule(
        "a spelling of a length is none",
        HEADERS,
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
        "chunk sizes have an end",
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
        "chunk extensions have an end",
        FRAMING,
        "_MAX_SIZE_LINE: Final = 1024",
        "_MAX_SIZE_LINE: Final = 1 << 20",
        ("chunks/ext-too-long",),
    ),
    Rule(
        "a chunk ends with CRLF",
        FRAMING,
        '        if ending != b"\\r\\n":',
        "        if len(ending) < 2:",
        ("chunks/data-end-other",),
    ),
    Rule(
        "plain chunks end with CRLF",
        FRAMING,
        'size == 0 or data[beyond - 2 : beyond] != b"\\r\\n"',
        "size == 0 or len(data) < beyond",
        ("chunks/data-end-other", "answer-bodies/chunk-data-end-other"),
    ),
    Rule(
        "chunk extensions are not passed on",
        FRAMING,
        'passed.append(match[1] + b"\\r\\n")',
        'passed.append(match[0] + b"\\r\\n")',
        ("chunks/ext-is-dropped", "answer-bodies/chunks-ext-dropped"),
    ),
    Rule(
        "trailers have an end",
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
        HEADERS,
        'if judged.__class__ is bytes and lines.kinds.allows_trailer(each.partition(b":")[0]):',
        'judged = each + b"\\r\\n"\n        if True:',
        ("identity/in-trailers", "chunks/trailer-of-framing-is-dropped"),
    ),
    Rule(
        "trailers describe no content",
        HEADERS,
        " and fold(name) not in _NOT_IN_TRAILERS",
        "",
        ("chunks/trailer-of-content-is-dropped",),
    ),
    # Field lines and Host
    Rule(
        "names are tokens",
        HEADERS,
        "        if not is_token(name):\n",
        "        if not name:\n",
        ("lines/space-before-colon", "lines/obs-fold-space", "identity/refused-folded"),
    ),
    Rule(
        "no empty names",
        HEADERS,
        "        if not is_token(name):\n",
        "        if name and not is_token(name):\n",
        ("lines/empty-name",),
    ),
    Rule(
        "values have no control characters",
        HEADERS,
        "if not colon or value.translate(None, _VALUE_OCTETS):",
        "if not colon:",
        ("lines/nul-in-value", "lines/line-feed-between-fields"),
    ),
    Rule(
        "a delete is a control character",
        HEADERS,
        "*range(0x20, 0x7F), *range(0x80, 0x100)",
        "*range(0x20, 0x100)",
        ("lines/delete-in-value", "answer-heads/value-delete"),
    ),
    Rule(
        "a line has a colon",
        HEADERS,
        "if not colon or value",
        "if value",
        ("lines/no-colon",),
    ),
    Rule(
        "one Host",
        REQUESTS,
        'raise PeerError(400, "more than one Host")',
        "return line",
        ("lines/host-twice-differing",),
    ),
    Rule(
        "there is a Host",
        REQUESTS,
        "if not head.host and head.minor:",
        "if False:",
        ("lines/host-missing",),
    ),
    Rule(
        "Host is a host",
        HEADERS,
        "if kind is _HOST and not is_host(value):",
        "if False:",
        ("lines/host-user-information", "lines/host-list"),
    ),
    Rule(
        "Host stays",
        REQUESTS,
        '- {b"close", b"keep-alive", b"upgrade"} - _FOR_ALL',
        '- {b"close", b"keep-alive", b"upgrade"}',
        ("lines/host-named-in-connection",),
    ),
    Rule(
        "hop-by-hop fields end here",
        HEADERS,
        "**dict.fromkeys(HOP_BY_HOP | PATH_OVERRIDES, HeaderKind.DROP)",
        "**dict.fromkeys(PATH_OVERRIDES, HeaderKind.DROP)",
        ("lines/hop-by-hop-is-dropped",),
    ),
    Rule(
        "what Connection names ends here",
        REQUESTS,
        "    return without(lines, named)",
        "    return lines",
        ("lines/hop-by-hop-is-dropped", "credentials/named-in-connection"),
    ),
    Rule(
        "not too many fields",
        REQUESTS,
        "if len(received) > self._limits.headers + 3:",
        "if False:",
        ("lines/fields-too-many",),
    ),
    Rule(
        "no endless head",
        DOWNSTREAM,
        "if len(data) >= limit:",
        "if len(data) >= 100 * limit:",
        ("lines/head-too-large", "lines/target-too-long"),
    ),
    Rule(
        "414 for the target",
        TARGET,
        "return PeerError(414,",
        "return PeerError(431,",
        ("lines/target-too-long",),
    ),
    # Request lines
    Rule(
        "one space",
        REQUESTS,
        'method, target, version = line.split(b" ")',
        "method, target, version = line.split()",
        ("lines/two-spaces", "lines/tab-for-space", "lines/space-before"),
    ),
    Rule(
        "methods are tokens",
        REQUESTS,
        "    if not is_token(method):",
        "    if False:",
        ("lines/method-not-a-token",),
    ),
    Rule(
        "no CONNECT, no TRACE",
        REQUESTS,
        'if method in {b"CONNECT", b"TRACE"}:',
        "if False:",
        ("lines/trace", "lines/connect-of-a-path"),
    ),
    Rule(
        "only HTTP/1",
        REQUESTS,
        "    if _VERSION.match(version):\n        raise",
        "    if _VERSION.match(version):\n        return 1\n        raise",
        ("lines/http-2.0", "lines/http-2-preface"),
    ),
    Rule(
        "versions are of the form",
        REQUESTS,
        '    raise PeerError(400, "malformed request line")\n\n\ndef _conclude',
        "    return 1\n\n\ndef _conclude",
        ("lines/version-lower-case", "lines/version-two-digit-minor"),
    ),
    Rule(
        "one empty line before",
        DOWNSTREAM,
        'if data.startswith(b"\\r\\n", at) and not data.startswith(HEAD_END, at):',
        'if data.startswith(b"\\r\\n", at):',
        ("lines/two-empty-lines-before",),
    ),
    # Targets
    Rule(
        "no dot segments",
        TARGET,
        '(b"/." in decoded and _has_dot_segment(decoded))',
        "False",
        ("targets/dots", "targets/dot-last"),
    ),
    Rule(
        "no empty segments",
        TARGET,
        'if b"//" in decoded or',
        "if",
        ("targets/double-slash", "targets/double-slash-inside"),
    ),
    Rule(
        "no encoded slashes",
        TARGET,
        'if decoded.count(b"/") != path.count(b"/") or',
        "if",
        ("targets/encoded-slash-upper",),
    ),
    Rule(
        "no encoded dots",
        TARGET,
        ' or decoded.count(b".") != path.count(b"."):',
        ":",
        ("targets/encoded-dot-in-name",),
    ),
    Rule(
        "no backslashes and parameters, plain or encoded",
        TARGET,
        '_UNWANTED: Final = bytes(range(0x20)) + b"\\x7f\\\\;"',
        '_UNWANTED: Final = bytes(range(0x20)) + b"\\x7f"',
        ("targets/encoded-params", "targets/encoded-backslash"),
    ),
    Rule(
        "no parameters",
        TARGET,
        'not in "%#\\\\;?")',
        'not in "%#\\\\?")',
        ("targets/params",),
    ),
    Rule(
        "no raw backslashes",
        TARGET,
        'not in "%#\\\\;?")',
        'not in "%#;?")',
        ("targets/backslash",),
    ),
    Rule(
        "no encoded control characters",
        TARGET,
        '_UNWANTED: Final = bytes(range(0x20)) + b"\\x7f\\\\;"',
        '_UNWANTED: Final = b"\\\\;"',
        ("targets/nul", "targets/encoded-line-break"),
    ),
    Rule(
        "nothing is encoded twice",
        TARGET,
        " or _ESCAPE.search(decoded):",
        ":",
        ("targets/encoded-twice",),
    ),
    Rule(
        "escapes are whole",
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
        "no fragments",
        TARGET,
        'if chr(c) not in "%#\\\\;?")',
        'if chr(c) not in "%\\\\;?")',
        ("targets/fragment",),
    ),
    Rule(
        "queries are visible ASCII",
        TARGET,
        "        if mark and query.translate(None, _QUERY):",
        "        if False:",
        ("targets/fragment-after-query", "targets/query-not-ascii"),
    ),
    Rule(
        "one host in absolute form",
        REQUESTS,
        "if contradicted or not",
        "if not",
        ("targets/absolute-contradicts-host", "targets/absolute-contradicts-port"),
    ),
    Rule(
        "no other schemes",
        TARGET,
        "(?i:https?)://",
        "(?i:[a-z]+)://",
        ("targets/absolute-other-scheme",),
    ),
    Rule(
        "asterisk for OPTIONS alone",
        REQUESTS,
        'if target == b"*" and method == b"OPTIONS":',
        'if target == b"*":',
        ("targets/asterisk-of-get",),
    ),
    Rule(
        "OPTIONS of the server",
        REQUESTS,
        'if not target and method == b"OPTIONS":',
        "if False:",
        ("targets/options-absolute-empty-path",),
    ),
    # Targets where paths are normalised
    Rule(
        "dots are resolved",
        TARGET,
        '        if segment == b"..":\n',
        "        if False:\n",
        ("normalised/dots", "normalised/private-by-dots"),
    ),
    Rule(
        "dots take away one segment",
        TARGET,
        "            kept.pop()\n",
        "            kept.clear()\n",
        ("normalised/dots",),
    ),
    Rule(
        "nothing is above the root",
        TARGET,
        'if not kept:\n                raise PeerError(400, "ambiguous path")',
        "if not kept:\n                continue",
        ("normalised/dots-above-the-root", "normalised/dots-above-the-root-later"),
    ),
    Rule(
        "single dots fall away",
        TARGET,
        'elif segment not in {b"", b"."}:',
        'elif segment != b"":',
        ("normalised/dot", "normalised/escaped-dot"),
    ),
    Rule(
        "empty segments are folded",
        TARGET,
        'elif segment not in {b"", b"."}:',
        'elif segment != b".":',
        ("normalised/empty-segments", "normalised/empty-segment-before-dots"),
    ),
    Rule(
        "a slash at the end stays",
        TARGET,
        'last in {b"", b".", b".."} and kept',
        "False",
        ("normalised/dots-last", "normalised/empty-segments-last"),
    ),
    Rule(
        "after dots at the end there is a slash",
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
        "needless escapes go before dots are resolved",
        TARGET,
        "unescaped = _ESCAPE.sub(_unreserved, path)",
        "unescaped = path",
        ("normalised/escaped-dots", "normalised/private-by-escaped-dots"),
    ),
    Rule(
        "needed escapes stay",
        TARGET,
        "return character if character in _UNRESERVED else",
        "return character if character.isascii() else",
        ("normalised/escaped-reserved", "normalised/encoded-slash"),
    ),
    Rule(
        "escapes are in capitals",
        TARGET,
        "else escape[0].upper()",
        "else escape[0]",
        ("normalised/escape-in-small-letters",),
    ),
    Rule(
        "escapes are whole before any is undone",
        TARGET,
        "    _check_escapes(path)\n    unescaped",
        "    unescaped",
        (
            "normalised/percent-made-whole",
            "normalised/percent-made-whole-by-its-first-digit",
        ),
    ),
    Rule(
        "what falls away is checked",
        TARGET,
        "    _decode(unescaped)\n",
        "",
        (
            "normalised/encoded-slash-that-would-fall-away",
            "normalised/fragment-that-would-fall-away",
        ),
    ),
    Rule(
        "nothing is rewritten into our own",
        TARGET,
        "if plain != path and self._is_own(plain):",
        "if False:",
        ("normalised/own-by-dots", "normalised/own-by-empty-segments"),
    ),
    Rule(
        "our own is all that is below",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path in self._own",
        ("normalised/own-by-dots", "normalised/out-of-a-subrequest"),
    ),
    Rule(
        "our own without a slash",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path.startswith(self._below)",
        ("normalised/own-by-dots-without-slash", "normalised/own-keys-by-escapes"),
    ),
    Rule(
        "another's name may begin like ours",
        TARGET,
        "return path.startswith(self._below) or path in self._own",
        "return path.startswith(self._own)",
        ("normalised/own-name-begins-another",),
    ),
    Rule(
        "nothing of our own is rewritten",
        TARGET,
        "plain = path if self._is_own(path) else normalise(path)\n        text",
        "plain = normalise(path)\n        text",
        ("normalised/out-of-our-own", "normalised/out-of-a-subrequest"),
    ),
    Rule(
        "what is left is read strictly",
        TARGET,
        "text = self._plain[plain]",
        'text = unquote_to_bytes(plain).decode("utf-8")',
        ("normalised/own-by-a-dot-alone", "normalised/own-empty-segments-within"),
    ),
    Rule(
        "the result is what goes on",
        TARGET,
        "self._rewritten[path] = plain\n",
        "pass\n",
        ("normalised/dots", "normalised/public-by-dots"),
    ),
    Rule(
        "the result goes on at any length",
        TARGET,
        "if len(path) > _LONGEST_REMEMBERED:\n            plain",
        "if False:\n            plain",
        ("normalised/too-long-to-remember",),
    ),
    Rule(
        "the query stays",
        TARGET,
        "else plain + mark + query",
        "else plain + mark + normalise(b'/' + query)[1:]",
        ("normalised/query-stays", "normalised/query-of-the-root"),
    ),
    Rule(
        "an empty query stays",
        TARGET,
        "else plain + mark + query",
        "else plain + (query and mark + query)",
        ("normalised/query-empty",),
    ),
    Rule(
        "the path ends where the query begins",
        TARGET,
        "        return self[path]\n\n\nclass NormalisingTargetParser",
        "        return self[target]\n\n\nclass NormalisingTargetParser",
        ("normalised/query-is-no-path", "targets/private-in-query"),
    ),
    Rule(
        "the request goes on as it was read",
        REQUESTS,
        "            if self._rewrites:\n",
        "            if False:\n",
        ("normalised/dots", "normalised/public-by-dots"),
    ),
    Rule(
        "absolute form goes on as it was read",
        REQUESTS,
        'head.target = self._paths.as_forwarded(target or b"/")',
        'head.target = target or b"/"',
        ("normalised/absolute",),
    ),
    # Pipelines
    Rule(
        "what follows a refusal is not read",
        CLIENT,
        "close=True))\n        self._end(unread=True)",
        "close=True))",
        ("smuggling/request-behind-two-lengths", "framing/cl-then-te"),
    ),
    Rule(
        "what is left of a body is no request",
        DOWNSTREAM,
        "elif not exchange.keep_alive:",
        "elif self._home.closing:",
        ("lines/close", "framing/cl-http-1.0-closes"),
    ),
    # Identity and forwarding
    Rule(
        "identity is ours to say",
        HEADERS,
        "kinds | {fold(name): HeaderKind.DROP for name in dropped}",
        "kinds",
        ("identity/of-another-name",),
    ),
    Rule(
        "names that may be identity",
        HEADERS,
        "return HeaderKind.DROP if folded.startswith(self._reserved) else HeaderKind.PASS",
        "return HeaderKind.PASS",
        ("identity/not-in-use", "identity/forwarded-other-names"),
    ),
    Rule(
        "names are folded",
        HEADERS,
        "    return name.lower().translate(_FOLDED)",
        "    return name.lower()",
        ("identity/user-underscores", "identity/user-dots"),
    ),
    Rule(
        "underscores and all the rest",
        HEADERS,
        "c if bytes((c,)).isalnum() else 0x2D",
        "0x2D if c == 0x5F else c",
        ("identity/user-dots",),
    ),
    Rule(
        "paths are not overridden",
        HEADERS,
        "**dict.fromkeys(HOP_BY_HOP | PATH_OVERRIDES, HeaderKind.DROP)",
        "**dict.fromkeys(HOP_BY_HOP, HeaderKind.DROP)",
        ("identity/path-overrides",),
    ),
    Rule(
        "a stranger is not believed",
        FORWARDED,
        "if self.trusted and head.forwarded is not None:\n            return self._appended",
        "if head.forwarded is not None:\n            return self._appended",
        ("identity/forwarded-of-a-stranger",),
    ),
    Rule(
        "quotes come in pairs",
        FORWARDED,
        'before = before if _FORWARDED.match(before) else b""',
        "pass",
        ("identity/forwarded-junk-of-a-trusted-proxy",),
    ),
    Rule(
        "a certificate is a byte sequence",
        FORWARDED,
        "if form.match(value):",
        "if value:",
        ("identity/certificate-junk-of-a-trusted-proxy",),
    ),
    Rule(
        "a client's word on its certificate",
        HEADERS,
        'b"x-auth-", b"client-cert-"),',
        'b"x-auth-"),',
        ("identity/certificate-of-a-stranger",),
    ),
    Rule(
        "a certificate by other names",
        HEADERS,
        '*(b"x-client-cert", b"x-ssl-client-", b"ssl-client-", b"x-amzn-mtls-"),',
        "",
        ("identity/certificate-by-other-names",),
    ),
    # Credentials
    Rule(
        "one Authorization",
        CREDENTIALS,
        'if head.repeated and b"authorization" in head.repeated:',
        "if False:",
        ("credentials/two-lines-differing", "credentials/two-lines-same"),
    ),
    Rule(
        "one credential",
        CREDENTIALS,
        "if len(values) + (token is not None) > 1:",
        "if False:",
        ("credentials/cookie-and-bearer", "credentials/cookie-twice"),
    ),
    Rule(
        "schemes in any case",
        CREDENTIALS,
        'rb"(?i:bearer)',
        'rb"(?:Bearer)',
        ("credentials/scheme-lower-case",),
    ),
    Rule(
        "schemes are whole words",
        CREDENTIALS,
        'rb"(?i:bearer)(?![!#$%&\'*+.^_`|~0-9A-Za-z-])"',
        'rb"(?i:bearer)"',
        ("credentials/scheme-suffix",),
    ),
    Rule(
        "a token and nothing behind it",
        CREDENTIALS,
        "match = _TOKEN.fullmatch(value, scheme.end())",
        "match = _TOKEN.match(value, scheme.end())",
        ("credentials/trailing-word", "credentials/two-in-a-list"),
    ),
    Rule(
        "cookies want an origin",
        BROWSER,
        '    if head.origin is None or b"origin" in head.repeated:\n        return False',
        '    if head.origin is None or b"origin" in head.repeated:\n        return True',
        ("credentials/cookie-post-two-origins", "credentials/cookie-post-without-origin"),
    ),
    Rule(
        "tunnels want an origin",
        BROWSER,
        " or head.upgrade is not None",
        "",
        ("upgrades/cookie-from-elsewhere", "upgrades/cookie-without-origin"),
    ),
    # Upgrades
    Rule(
        "only what is configured",
        RELAY,
        " and head.upgrade in upgrades:",
        ":",
        ("upgrades/h2c", "upgrades/two-protocols"),
    ),
    Rule(
        "all lines of an upgrade count",
        REQUESTS,
        'head.upgrade = joined(head.upgrade, b", ", value.lower())',
        "head.upgrade = value.lower()",
        ("upgrades/two-protocols-in-two-lines",),
    ),
    Rule(
        "no body beside an upgrade",
        RELAY,
        "if head.upgrade is not None and head.framing is _NONE and",
        "if head.upgrade is not None and",
        ("upgrades/with-length", "upgrades/with-chunks"),
    ),
    Rule(
        "Connection names the upgrade",
        REQUESTS,
        '    if b"upgrade" not in tokens:\n        head.upgrade = None\n',
        "",
        ("upgrades/connection-close-only",),
    ),
    Rule(
        "no upgrade in HTTP/1.0",
        REQUESTS,
        "        head.upgrade = None  # ignored in HTTP/1.0",
        "        pass",
        ("upgrades/http-1.0",),
    ),
    Rule(
        "no upgrade that was not asked for",
        RELAY,
        "wanted is None or head.upgrade != wanted:",
        "False:",
        ("answer-heads/unasked-101", "answer-heads/bare-101"),
    ),
    # Answers
    Rule(
        "status lines are of the form",
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
        "one length in an answer",
        RESPONSES,
        "                if head.framing is _LENGTH:\n",
        "                if False:\n",
        ("answer-bodies/cl-twice-differing", "answer-bodies/cl-twice-same"),
    ),
    Rule(
        "no length beside an answer's chunks",
        RESPONSES,
        "if head.framing is _LENGTH or value",
        "if value",
        ("answer-bodies/cl-and-te",),
    ),
    Rule(
        "an answer's chunks alone",
        RESPONSES,
        ' or value.lower() != b"chunked":',
        ":",
        ("answer-bodies/te-gzip-chunked", "answer-bodies/te-identity"),
    ),
    Rule(
        "chunks in HTTP/1.0 end the connection",
        RESPONSES,
        "        head.keep_alive = False  # its",
        "        pass  # its",
        ("answer-bodies/chunks-http-1.0",),
    ),
    Rule(
        "no content in 204, 304 and to HEAD",
        RESPONSES,
        "if to_head or status < 200 or status == 204 or status == 304:",
        "if status < 200:",
        ("answer-bodies/204-with-answer", "answer-bodies/head-plain"),
    ),
    Rule(
        "no length in 204",
        RESPONSES,
        "if head.status >= 200 and head.status != 204:",
        "if True:",
        ("answer-bodies/204-with-length",),
    ),
    Rule(
        "answers have limits",
        RESPONSES,
        "if len(received) > self._limits.headers + 3:",
        "if False:",
        ("answer-heads/fields-too-many",),
    ),
    Rule(
        "an answer's head has an end",
        UPSTREAM,
        "if end < 4 or end > self._limits.size:",
        "if end < 4:",
        ("answer-heads/head-too-large",),
    ),
    Rule(
        "no flood of interim answers",
        UPSTREAM,
        "_MAX_INTERIM: Final = 16",
        "_MAX_INTERIM: Final = 1 << 20",
        ("answer-heads/interim-flood",),
    ),
    Rule(
        "HTTP/1.0 gets no interim answers",
        RELAY,
        "if self.head.minor and not (self.continued",
        "if not (self.continued",
        ("answer-heads/interim-not-for-http-1.0",),
    ),
    Rule(
        "excess ends the connection",
        UPSTREAM,
        "        if body.rest:  #",
        "        if False:  #",
        ("answer-bodies/cl-excess-is-an-answer", "answer-bodies/chunks-excess"),
    ),
    Rule(
        "a body where none may be ends the connection",
        UPSTREAM,
        "            if data:\n                self.reusable = False\n            exchange",
        "            exchange",
        ("answer-bodies/head-with-answer", "answer-bodies/204-with-answer"),
    ),
    Rule(
        "what nobody asked for ends the connection",
        UPSTREAM,
        (
            "            # Never to be taken for the answer to the next request.\n"
            "            self.abort()"
        ),
        "            pass",
        ("answer-bodies/cl-excess-is-an-answer", "answer-bodies/204-with-answer"),
    ),
    Rule(
        "a closing upstream is left alone",
        UPSTREAM,
        "        if not head.keep_alive:\n            self.reusable = False\n",
        "",
        ("answer-bodies/cl-close", "answer-bodies/cl-http-1.0"),
    ),
    Rule(
        "only what is reusable is used again",
        ORIGIN,
        "if not connection.reusable or self.closing:",
        "if self.closing:",
        ("answer-bodies/cl-close", "answer-bodies/cl-http-1.0"),
    ),
    Rule(
        "what is cut short looks so",
        EXCHANGE,
        (
            "        if self.status:\n"
            "            self.abandon()\n"
            "        else:\n"
            "            self._problem(error.status, RETRY"
        ),
        (
            "        if self.status:\n"
            "            self.finish(monotonic())\n"
            "        else:\n"
            "            self._problem(error.status, RETRY"
        ),
        ("answer-bodies/chunks-without-last", "answer-bodies/cl-short-then-close"),
    ),
    Rule(
        "a reset is no end",
        UPSTREAM,
        "if self._until_close and self._ended and error is None:",
        "if self._until_close:",
        ("answer-bodies/until-reset",),
    ),
    Rule(
        "a POST is sent once",
        RELAY,
        (
            "            and self.head.framing is _NONE\n"
            "            and self.head.method in _IDEMPOTENT\n"
        ),
        "",
        ("answer-heads/closed-on-a-post",),
    ),
    Rule(
        "what was answered is not asked again",
        UPSTREAM,
        "stale=self.served > 0 and not self.answering)",
        "stale=self.served > 0)",
        ("answer-heads/half-a-head-then-close-when-warm",),
    ),
    Rule(
        "an answer's hop-by-hop fields end here",
        RESPONSES,
        "return lines if not named else lines[:1] + without(lines[1:], named)",
        "return lines",
        ("answer-heads/hop-by-hop-is-dropped",),
    ),
    # Preflights
    Rule(
        "a preflight takes no credentials along",
        OPTIONS,
        "self.head = preflight.without_credentials(self.head)",
        "pass",
        ("preflights/with-bearer", "preflights/with-other-cookies"),
    ),
    Rule(
        "a preflight takes no token along",
        PREFLIGHT,
        'frozenset((b"authorization", b"cookie"))',
        'frozenset((b"cookie",))',
        ("preflights/with-bearer", "preflights/with-two-authorizations"),
    ),
    Rule(
        "a preflight takes no cookie along",
        PREFLIGHT,
        'frozenset((b"authorization", b"cookie"))',
        'frozenset((b"authorization",))',
        ("preflights/with-session-cookie", "preflights/with-other-cookies"),
    ),
    Rule(
        "a preflight is nobody's",
        OPTIONS,
        "self._decided(shared.gate.anonymous)",
        "self._decided(type(shared.gate.anonymous)(b'', '', '', b'{}', None))",
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
        "a preflight has each header once",
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
        "a preflight names no other method",
        PREFLIGHT,
        "        elif folded in _OVERRIDES:\n            return None\n",
        "",
        ("preflights/method-override",),
    ),
    Rule(
        "a preflight announces a method",
        PREFLIGHT,
        "if not is_token(method) or method",
        "if method",
        ("preflights/no-method", "preflights/list-of-methods"),
    ),
    Rule(
        "a preflight announces a method that is served",
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
        "a preflight has one origin",
        PREFLIGHT,
        '_ONE_ORIGIN.fullmatch(values.get(_ORIGIN, b""))',
        "values.get(_ORIGIN)",
        ("preflights/list-of-origins",),
    ),
    Rule(
        "a preflight falls under the announced method's rule",
        PREFLIGHT,
        "routes.match(method, head.host",
        "routes.match(head.method, head.host",
        ("preflights/method-under-another-rule",),
    ),
    Rule(
        "a preflight is what the application sees",
        PREFLIGHT,
        "    values: dict[bytes, bytes] = {}\n",
        "    values = {} if head.origin is None else {_ORIGIN: head.origin}\n",
        ("preflights/origin-named-in-connection",),
    ),
    # Max-Forwards
    Rule(
        "an OPTIONS ends where it may go no further",
        HOPS,
        "    if not digits:\n        return None\n",
        '    if not digits:\n        digits = b"1"\n',
        ("hops/zero", "hops/zero-of-the-server"),
    ),
    Rule(
        "every OPTIONS has one hop less",
        HOPS,
        "int(digits) - 1 if",
        "int(digits) if",
        ("hops/one", "hops/ten"),
    ),
    Rule(
        "hops are a number",
        HOPS,
        "    if not value.isdigit():\n",
        "    if not value.isdigit():\n        return head\n    if False:\n",
        ("hops/minus", "hops/word"),
    ),
    Rule(
        "hops are told once",
        HOPS,
        "if len(places) > 1:",
        "if False:",
        ("hops/twice", "hops/zero-and-more"),
    ),
    Rule(
        "hops have an end",
        HOPS,
        " if len(digits) <= _MOST_DIGITS else _MOST",
        "",
        ("hops/more-than-is-kept",),
    ),
    Rule(
        "hops are counted in an OPTIONS alone",
        OPTIONS,
        '{b"HEAD": HeadExchange, ',
        '{b"DELETE": OptionsExchange, b"HEAD": HeadExchange, ',
        ("hops/delete",),
    ),
    Rule(
        "what is ours is at its end already",
        OPTIONS,
        'if self.route.target == "upstream":',
        "if True:",
        ("hops/zero-of-our-own",),
    ),
    Rule(
        "Max-Forwards stays",
        REQUESTS,
        'frozenset((b"host", b"max-forwards"))',
        'frozenset((b"host",))',
        ("hops/zero-named-in-connection",),
    ),
)

# Changes nothing: without it, a vector that always fails would prove every rule.
CONTROL: Final = Rule(
    "nothing",
    HEADERS,
    "HOP_BY_HOP: Final",
    "HOP_BY_HOP: Final",
    tuple(sorted({name for rule in RULES for name in rule.vectors})),
)
