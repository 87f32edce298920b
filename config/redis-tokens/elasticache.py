"""Prints an IAM token for Amazon ElastiCache or MemoryDB, as a JSON object.

    python elasticache.py USER CACHE REGION [elasticache | serverless | memorydb]

USER is the IAM user of the cache, CACHE the name of the replication group, serverless cache or
cluster. The credentials are those of EKS Pod Identity, or AWS_ACCESS_KEY_ID and the other variables
of the SDKs. The token is a request signed beforehand (Signature Version 4), without its scheme.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import os
import sys
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlencode

LIFETIME = 900  # seconds; more is not accepted


def credentials() -> tuple[str, str, str]:
    """Key id, secret key and session token, which may be empty."""
    url = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not url:
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        key, secret = (os.environ[name] for name in names)
        return key, secret, os.environ.get("AWS_SESSION_TOKEN", "")
    token = Path(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read_text().strip()
    request = urllib.request.Request(url, headers={"Authorization": token})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=5) as answer:
        found = json.load(answer)
    return found["AccessKeyId"], found["SecretAccessKey"], found["Token"]


def sign(key: bytes, text: str) -> bytes:
    """One step of the signature."""
    return hmac.digest(key, text.encode(), "sha256")


def make_token(user: str, cache: str, region: str, kind: str, now: dt.datetime) -> str:
    """The URL of the request, without https://."""
    key_id, secret, session = credentials()
    service = "memorydb" if kind == "memorydb" else "elasticache"
    time = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{time[:8]}/{region}/{service}/aws4_request"
    fields = {
        "Action": "connect",
        "User": user,
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key_id}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(LIFETIME),
        "X-Amz-SignedHeaders": "host",
    }
    if kind == "serverless":
        fields["ResourceType"] = "ServerlessCache"
    if session:
        fields["X-Amz-Security-Token"] = session
    query = urlencode(sorted(fields.items()), quote_via=quote, safe="-_.~")
    empty = hashlib.sha256().hexdigest()
    request = f"GET\n/\n{query}\nhost:{cache}\n\nhost\n{empty}"
    digest = hashlib.sha256(request.encode()).hexdigest()
    signing = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing = sign(signing, part)
    signature = sign(signing, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}").hex()
    return f"{cache}/?{query}&X-Amz-Signature={signature}"


def main() -> None:
    """Print the token for the arguments of the command line."""
    user, cache, region, *more = sys.argv[1:]
    now = dt.datetime.now(dt.UTC)
    token = make_token(user, cache.lower(), region, more[0] if more else "elasticache", now)
    print(json.dumps({"username": user, "password": token, "expires_in": LIFETIME}))


if __name__ == "__main__":
    main()
