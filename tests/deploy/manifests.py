"""The Kubernetes manifests as they would be applied, built by the real kubectl."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
K8S: Final = ROOT / "k8s"
Manifest = dict[str, Any]

KUSTOMIZATIONS: Final = tuple(
    sorted(
        str(path.parent.relative_to(K8S))
        for path in K8S.rglob("kustomization.yaml")
        if "components" not in path.parts
    )
)


@functools.cache
def _built(name: str) -> str:
    command = ["kubectl", "kustomize", str(K8S / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    if done.stderr:
        raise AssertionError(f"{' '.join(command)} warns: {done.stderr}")
    return done.stdout


def build(name: str) -> list[Manifest]:
    """All objects of a kustomization."""
    return list(yaml.safe_load_all(_built(name)))


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The objects of this kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The object with this kind and name."""
    (found,) = (m for m in of_kind(manifests, kind) if m["metadata"]["name"] == name)
    return found


def pod_templates(manifests: list[Manifest]) -> list[Manifest]:
    """The pod templates of all workloads."""
    workloads = of_kind(manifests, "Deployment") + of_kind(manifests, "StatefulSet")
    return [workload["spec"]["template"] for workload in workloads]


def containers(template: Manifest) -> list[Manifest]:
    """All containers of a pod template, including init containers."""
    spec = template["spec"]
    found: list[Manifest] = [*spec.get("initContainers", ()), *spec["containers"]]
    return found


def container(template: Manifest, name: str) -> Manifest:
    """The container with this name."""
    (found,) = (one for one in containers(template) if one["name"] == name)
    return found


def selected(selector: Manifest, labels: Manifest) -> bool:
    """Whether the `matchLabels` of this selector match these labels."""
    return bool(selector["matchLabels"].items() <= labels.items())
