"""The programs that print a cloud's token for Redis, against stand-ins for the clouds."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import runpy
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from aiohttp import web

from sidecar.sessions.redis.credential_command import CredentialCommand
from sidecar.sessions.redis.credentials import Credential, parse_credential
from tests.deploy.manifests import ROOT, container, of_kind, pod_templates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKENS: Final = ROOT / "config" / "redis-tokens"
NOW: Final = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
KEY: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}


async def printed(
    program: str, *arguments: str, **environment: str
) -> tuple[Credential, float | None]:
    """The credential that the sidecar gets from the program."""
    argv = [sys.executable, str(TOKENS / program), *arguments]
    command = CredentialCommand(argv, {"PATH": os.environ["PATH"], **environment}, timeout=30.0)
    return parse_credential(await command.fetch(), "from-settings")


@contextlib.asynccontextmanager
async def cloud(answer: dict[str, Any]) -> AsyncIterator[tuple[str, list[web.BaseRequest]]]:
    """The address of a server that gives this answer, and the requests it got."""
    got: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        got.append(request)
        return web.json_response(answer)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    yield f"{host}:{port}", got
    await runner.cleanup()


async def test_memorystore() -> None:
    """The metadata server is asked for the pod's token."""
    token = {"access_token": "ya29.x", "expires_in": 3599, "token_type": "Bearer"}
    async with cloud(token) as (address, got):
        credential, lifetime = await printed("memorystore.py", GCE_METADATA_HOST=address)
    (request,) = got
    assert request.path == "/computeMetadata/v1/instance/service-accounts/default/token"
    assert request.headers["Metadata-Flavor"] == "Google"
    assert (credential.password.reveal(), lifetime) == ("ya29.x", 3599.0)
    assert credential.username == "from-settings"


async def test_entra(tmp_path: Path) -> None:
    """The pod's federated token is exchanged for one of Redis."""
    (tmp_path / "federated").write_text("federated-token\n")
    token = {"token_type": "Bearer", "expires_in": 86399, "access_token": "eyJ0.x.y"}
    async with cloud(token) as (address, got):
        credential, lifetime = await printed(
            "entra.py",
            AZURE_AUTHORITY_HOST=f"http://{address}/",
            AZURE_CLIENT_ID="client",
            AZURE_TENANT_ID="tenant",
            AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "federated"),
        )
        (request,) = got
        fields = parse_qs(await request.text())
    assert (request.method, request.path) == ("POST", "/tenant/oauth2/v2.0/token")
    assert fields == {
        "grant_type": ["client_credentials"],
        "client_id": ["client"],
        "scope": ["https://redis.azure.com/.default"],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
        "client_assertion": ["federated-token"],
    }
    assert (credential.password.reveal(), lifetime) == ("eyJ0.x.y", 86399.0)


@pytest.mark.parametrize(
    ("kind", "signature"),
    [
        pytest.param(
            "elasticache",
            "13191cf9457253aa4f6a6001d9541ea27c44377bc65949e080a8dc8d110a7b1b",
            id="elasticache",
        ),
        pytest.param(
            "serverless",
            "a0a50bfdc138124256050628ecddf84bc1fe230bed4ce624c674f2e8966af01a",
            id="serverless",
        ),
        pytest.param(
            "memorydb",
            "6745823682783d523ca9d473dd3c29ff47e6db4222fdbbd6bc68ab3914e103f4",
            id="memorydb",
        ),
    ],
)
def test_signatures(kind: str, signature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those that botocore's RequestSigner makes for the same request and time."""
    for name, value in {**KEY, "AWS_SESSION_TOKEN": "session/token+with=signs"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", raising=False)
    program = runpy.run_path(str(TOKENS / "elasticache.py"))
    token = program["make_token"]("iam-user@x", "my-cache", "eu-west-1", kind, NOW)
    assert token.startswith("my-cache/?Action=connect&")
    fields = parse_qs(urlsplit(f"https://{token}").query)
    assert fields["X-Amz-Signature"] == [signature]
    assert fields["User"] == ["iam-user@x"]


async def test_elasticache(tmp_path: Path) -> None:
    """Credentials come from EKS Pod Identity; the output has the user and the lifetime."""
    (tmp_path / "token").write_text("pod-token\n")
    answer = {"AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "secret", "Token": "session"}
    async with cloud(answer) as (address, got):
        credential, lifetime = await printed(
            *("elasticache.py", "iam-user", "My-Cache", "eu-west-1"),
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"http://{address}/v1/credentials",
            AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "token"),
        )
    (request,) = got
    assert request.headers["Authorization"] == "pod-token"
    assert (credential.username, lifetime) == ("iam-user", 900.0)
    host, _, query = credential.password.reveal().partition("/?")
    fields = parse_qs(query)
    assert host == "my-cache"
    assert fields["X-Amz-Expires"] == ["900"]
    assert fields["X-Amz-Credential"][0].startswith("ASIAEXAMPLE/")
    assert fields["X-Amz-Security-Token"] == ["session"]


@pytest.mark.needs("kubectl")
def test_the_documented_patch(tmp_path: Path) -> None:
    """On the manifests, it replaces the file with the program, which is mounted by its name."""
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    (patch,) = re.findall(r"```text\n(env:\n.*?)```", page, re.DOTALL)
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "token"
    overlay.mkdir()
    shutil.copy(TOKENS / "memorystore.py", overlay)
    sidecar = {"name": "sidecar", **yaml.safe_load(patch)}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "application"},
        "spec": {"template": {"spec": {"containers": [sidecar]}}},
    }
    files = {"name": "auth-sidecar", "behavior": "merge", "files": ["memorystore.py"]}
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "resources": ["../../base"],
                "configMapGenerator": [files],
                "patches": [{"patch": yaml.safe_dump(deployment)}],
            }
        )
    )
    built = subprocess.run(["kubectl", "kustomize", overlay], capture_output=True, check=True)
    manifests = list(yaml.safe_load_all(built.stdout))
    (template,) = pod_templates(manifests)
    values = {each["name"]: each.get("value") for each in container(template, "sidecar")["env"]}
    assert values["REDIS_PASSWORD_COMMAND"] == "python /etc/sidecar/memorystore.py"
    assert "REDIS_PASSWORD_FILE" not in values
    (mount,) = (
        each for each in of_kind(manifests, "ConfigMap") if "memorystore.py" in each["data"]
    )
    assert mount["data"]["memorystore.py"] == (TOKENS / "memorystore.py").read_text("utf-8")
