"""The Kubernetes manifests build, match the schema, and have consistent references."""

from __future__ import annotations

from typing import Final

import kubernetes_validate
import pytest

from sidecar.settings import Settings
from sidecar.settings.kinds import seconds
from sidecar.settings.model import NO_SECRET
from tests.deploy.manifests import (
    KUSTOMIZATIONS,
    Manifest,
    build,
    container,
    containers,
    of_kind,
    one,
    pod_templates,
    selected,
)

VERSIONS: Final = ("1.31", "1.37")  # the oldest that has all fields, the newest available

pytestmark = pytest.mark.needs("kubectl")


@pytest.fixture(params=KUSTOMIZATIONS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """The objects of each kustomization."""
    return build(request.param)


def test_every_folder_is_built() -> None:
    """The tests cover the base, the three overlays and the example."""
    assert KUSTOMIZATIONS == (
        "base",
        "example",
        "overlays/in-cluster-redis",
        "overlays/native-sidecar",
        "overlays/production",
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_strict_schema(manifests: list[Manifest], version: str) -> None:
    """Every object has only known fields, each of the correct type."""
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_strict_schema_finds_a_typing_error() -> None:
    """The strict validation refuses an unknown field."""
    service = one(build("base"), "Service", "application")
    service["spec"]["selektor"] = service["spec"].pop("selector")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSIONS[-1], strict=True)


def test_three_replicas_roll_without_a_gap(manifests: list[Manifest]) -> None:
    """There are three replicas, rolled without unavailability; the disruption budget keeps two."""
    spec = one(manifests, "Deployment", "application")["spec"]
    assert spec["replicas"] == 3
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    budget = one(manifests, "PodDisruptionBudget", "application")["spec"]
    assert budget["minAvailable"] == 2
    assert selected(budget["selector"], spec["template"]["metadata"]["labels"])


def test_selectors_select(manifests: list[Manifest]) -> None:
    """Each deployment, service and policy selects exactly one pod template."""
    labels = [template["metadata"]["labels"] for template in pod_templates(manifests)]
    selectors = [
        *(m["spec"]["selector"] for m in of_kind(manifests, "Deployment")),
        *(m["spec"]["selector"] for m in of_kind(manifests, "StatefulSet")),
        *({"matchLabels": m["spec"]["selector"]} for m in of_kind(manifests, "Service")),
        *(m["spec"]["podSelector"] for m in of_kind(manifests, "NetworkPolicy")),
    ]
    for selector in selectors:
        assert sum(selected(selector, one_pod) for one_pod in labels) == 1, selector


def test_service_leads_to_the_sidecar(manifests: list[Manifest]) -> None:
    """The service has one port, which leads to the sidecar; the application exposes no port."""
    (template,) = (m["spec"]["template"] for m in of_kind(manifests, "Deployment"))
    (port,) = one(manifests, "Service", "application")["spec"]["ports"]
    ports = {p["name"]: p["containerPort"] for p in container(template, "sidecar")["ports"]}
    assert port["targetPort"] == "traffic"
    assert ports == {"traffic": 5005, "admin": 9105}
    assert "ports" not in container(template, "application")


def test_probes_ask_the_admin_port(manifests: list[Manifest]) -> None:
    """Probes query the sidecar on its admin port, and the application through the sidecar."""
    (template,) = (m["spec"]["template"] for m in of_kind(manifests, "Deployment"))
    sidecar = container(template, "sidecar")
    probes = {name: sidecar[name]["httpGet"] for name in sidecar if name.endswith("Probe")}
    assert probes == {
        "startupProbe": {"path": "/livez", "port": "admin"},
        "livenessProbe": {"path": "/livez", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
    }
    asked = container(template, "application")["readinessProbe"]["httpGet"]
    assert asked == {"path": "/health", "port": 5005}


def test_shutdown_fits_the_grace_period(manifests: list[Manifest]) -> None:
    """The sidecar drains before the application stops, and both stop within the grace period."""
    (spec,) = (m["spec"]["template"]["spec"] for m in of_kind(manifests, "Deployment"))
    named = {c["name"]: c for c in containers({"spec": spec})}
    variables = {each["name"]: each.get("value") for each in named["sidecar"]["env"]}
    delay = seconds(variables["DRAIN_DELAY"])
    timeout = Settings(jwt_secret=NO_SECRET, refresh_secret=NO_SECRET).drain_timeout
    waits = named["application"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert delay > 0
    assert delay + timeout < waits
    assert waits + 30 <= spec["terminationGracePeriodSeconds"]


def test_volumes_and_references_exist(manifests: list[Manifest]) -> None:
    """Every referenced object is in the manifests or is a secret that the user creates."""
    made = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    made |= {
        ("Secret", "jwt-secrets"),
        ("Secret", "redis-credentials"),
    }  # with own-secrets, the user creates them
    for template in pod_templates(manifests):
        for kind, name in _references(template):
            assert (kind, name) in made
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        volumes |= {"data"} if ("StatefulSet", "redis") in made else set()
        for each in containers(template):
            assert {mount["name"] for mount in each.get("volumeMounts", ())} <= volumes


def test_every_object_is_in_the_overlay_namespace() -> None:
    """The namespace of an overlay applies to every object in it except the namespace itself."""
    for name, namespace in (("overlays/production", "shop"), ("example", "auth-sidecar-example")):
        for manifest in build(name):
            expected = None if manifest["kind"] == "Namespace" else namespace
            assert manifest["metadata"].get("namespace") == expected


def test_native_sidecar_is_the_same_container() -> None:
    """The native sidecar differs from the plain one only in its place and its restart policy."""
    plain = one(build("overlays/in-cluster-redis"), "Deployment", "application")["spec"]["template"]
    native = one(build("overlays/native-sidecar"), "Deployment", "application")["spec"]["template"]
    assert [c["name"] for c in native["spec"]["containers"]] == ["application"]
    (init,) = native["spec"]["initContainers"]
    assert init == {**container(plain, "sidecar"), "restartPolicy": "Always"}


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    """No image has the tag `latest`, except the base's placeholder, which has no tag."""
    for template in pod_templates(manifests):
        for each in containers(template):
            assert each["image"] == "application" or not each["image"].endswith(":latest")
            assert each["image"] == "application" or ":" in each["image"]


def _references(template: Manifest) -> set[tuple[str, str]]:
    spec = template["spec"]
    found: set[tuple[str, str]] = set()
    if "serviceAccountName" in spec:
        found.add(("ServiceAccount", spec["serviceAccountName"]))
    for volume in spec["volumes"]:
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            found.add(("Secret", volume["secret"]["secretName"]))
    for each in containers(template):
        found |= {
            ("ConfigMap", source["configMapRef"]["name"]) for source in each.get("envFrom", ())
        }
        sources = [
            variable["valueFrom"] for variable in each.get("env", ()) if "valueFrom" in variable
        ]
        found |= {("Secret", source["secretKeyRef"]["name"]) for source in sources}
    return found
