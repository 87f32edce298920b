"""Prints an access token for Google Memorystore with IAM authentication, as a JSON object.

    python memorystore.py

The token is that of the pod's service account, from the metadata server of GKE or Compute Engine.
"""

from __future__ import annotations

import os
import sys
import urllib.request

PATH = "/computeMetadata/v1/instance/service-accounts/default/token"

host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
request = urllib.request.Request(f"http://{host}{PATH}", headers={"Metadata-Flavor": "Google"})
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
with direct.open(request, timeout=5) as answer:  # {"access_token": …, "expires_in": …}
    sys.stdout.write(answer.read().decode())
