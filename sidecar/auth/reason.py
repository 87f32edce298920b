"""Why a request was denied: one enum whose rows give the label, the status and RFC 6750's error.

Only the label names the exact reason. It appears in metrics and logs, and is never sent to clients.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

REALM: Final = "sidecar"  # in every challenge (RFC 9110 section 11.5)
INVALID_REQUEST: Final = "invalid_request"
INVALID_TOKEN: Final = "invalid_token"
INSUFFICIENT_SCOPE: Final = "insufficient_scope"


class Reason(Enum):
    """`label`, HTTP `status`, and `error` for WWW-Authenticate (RFC 6750 section 3.1)."""

    NO_CREDENTIALS = ("no_credentials", 401, None)
    CREDENTIALS_MALFORMED = ("credentials_malformed", 400, INVALID_REQUEST)
    CREDENTIALS_AMBIGUOUS = ("credentials_ambiguous", 400, INVALID_REQUEST)
    # 401, so that a browser is sent to log in, which replaces both cookies
    COOKIE_REPEATED = ("cookie_repeated", 401, INVALID_TOKEN)
    TOKEN_TOO_LONG = ("token_too_long", 401, INVALID_TOKEN)
    TOKEN_MALFORMED = ("token_malformed", 401, INVALID_TOKEN)
    TOKEN_TYPE = ("token_type", 401, INVALID_TOKEN)
    ID_TOKEN = ("id_token", 401, INVALID_TOKEN)
    LOGOUT_TOKEN = ("logout_token", 401, INVALID_TOKEN)
    ALGORITHM = ("algorithm", 401, INVALID_TOKEN)
    ISSUER_UNKNOWN = ("issuer_unknown", 401, INVALID_TOKEN)
    KEY_UNKNOWN = ("key_unknown", 401, INVALID_TOKEN)
    SIGNATURE = ("signature", 401, INVALID_TOKEN)
    AUDIENCE = ("audience", 401, INVALID_TOKEN)
    CLAIM_MISSING = ("claim_missing", 401, INVALID_TOKEN)
    CLAIM_INVALID = ("claim_invalid", 401, INVALID_TOKEN)
    CLAIM_REFUSED = (
        "claim_refused",
        401,
        INVALID_TOKEN,
    )  # by its issuer's table; CLAIM: by a route
    EXPIRED = ("expired", 401, INVALID_TOKEN)
    NOT_YET_VALID = ("not_yet_valid", 401, INVALID_TOKEN)
    SESSION_MISSING = ("session_missing", 401, INVALID_TOKEN)
    USER_GONE = ("user_gone", 401, INVALID_TOKEN)
    REVOKED = ("revoked", 401, INVALID_TOKEN)
    SESSION_MISMATCH = ("session_mismatch", 401, INVALID_TOKEN)
    STORE_UNAVAILABLE = ("store_unavailable", 503, None)
    OVERLOADED = ("overloaded", 503, None)
    ROLE = ("role", 403, INSUFFICIENT_SCOPE)
    SCOPE = ("scope", 403, INSUFFICIENT_SCOPE)
    CLAIM = ("claim", 403, INSUFFICIENT_SCOPE)
    CROSS_ORIGIN = ("cross_origin", 403, None)
    PROXY_UNTRUSTED = ("proxy_untrusted", 403, None)
    METHOD_OVERRIDE = ("method_override", 400, None)  # the method that was meant is unclear
    TARGET_MALFORMED = (
        "target_malformed",
        403,
        None,
    )  # the target of a subrequest; a malformed target of the request itself is a PeerError

    def __init__(self, label: str, status: int, error: str | None) -> None:
        self.label = label
        self.status = status
        self.error = error
