"""Prints a token of Microsoft Entra ID for Azure's Redis, as a JSON object.

    python entra.py

The token is that of the managed identity with which the pod is federated (AKS workload identity,
whose webhook sets the variables read here). REDIS_USERNAME is the object ID of this identity.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
import urllib.request
from pathlib import Path

authority = os.environ.get("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/").rstrip("/")
fields = {
    "grant_type": "client_credentials",
    "client_id": os.environ["AZURE_CLIENT_ID"],
    "scope": "https://redis.azure.com/.default",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_assertion": Path(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).read_text().strip(),
}
url = f"{authority}/{os.environ['AZURE_TENANT_ID']}/oauth2/v2.0/token"
data = urllib.parse.urlencode(fields).encode()
with urllib.request.urlopen(url, data, timeout=8) as answer:  # {"access_token": …, "expires_in": …}
    sys.stdout.write(answer.read().decode())
