"""All containers in the manifests meet the restricted Pod Security Standard and further rules."""

from __future__ import annotations

from typing import Final

import pytest

from tests.deploy.manifests import (
    KUSTOMIZATIONS,
    Manifest,
    build,
    container,
    containers,
    of_kind,
    one,
    pod_templates,
)

NAMES: Final = ("sidecar", "application", "redis")
# The volume types that the restricted standard allows.
ALLOWED_VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir"),
    *("ephemeral", "persistentVolumeClaim", "projected", "secret"),
}

pytestmark = pytest.mark.needs("kubectl")


@pytest.fixture(params=KUSTOMIZATIONS)
def templates(request: pytest.FixtureRequest) -> list[Manifest]:
    """The pod templates of each kustomization."""
    return pod_templates(build(request.param))


def _contexts(templates: list[Manifest]) -> dict[str, Manifest]:
    found = [each for template in templates for each in containers(template)]
    assert {each["name"] for each in found} <= set(NAMES)
    assert len(found) >= 2
    return {each["name"]: each["securityContext"] for each in found}


def test_no_container_runs_as_root(templates: list[Manifest]) -> None:
    """Each pod and container sets runAsNonRoot, and no user or group id is 0."""
    for template in templates:
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"] is True
        for context in (pod, *(each["securityContext"] for each in containers(template))):
            assert context.get("runAsUser", 1) != 0
            assert context.get("runAsGroup", 1) != 0
    assert all(context["runAsNonRoot"] is True for context in _contexts(templates).values())


def test_no_privilege_can_be_gained(templates: list[Manifest]) -> None:
    """No container is privileged or can gain privileges, and all capabilities are dropped."""
    for context in _contexts(templates).values():
        assert context["allowPrivilegeEscalation"] is False
        assert not context.get("privileged", False)
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_root_file_system_is_read_only(templates: list[Manifest]) -> None:
    """The root file system of each container is read-only."""
    assert all(
        context["readOnlyRootFilesystem"] is True for context in _contexts(templates).values()
    )


def test_seccomp_profile(templates: list[Manifest]) -> None:
    """Each pod and container uses the runtime's default seccomp profile."""
    expected = {"type": "RuntimeDefault"}
    assert all(t["spec"]["securityContext"]["seccompProfile"] == expected for t in templates)
    assert all(context["seccompProfile"] == expected for context in _contexts(templates).values())


def test_nothing_of_the_host(templates: list[Manifest]) -> None:
    """No pod uses host networks, process ids, ports or paths, only allowed volume types."""
    for template in templates:
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys()
        for volume in spec["volumes"]:
            assert volume.keys() - {"name"} <= ALLOWED_VOLUMES
        ports = [port for each in containers(template) for port in each.get("ports", ())]
        assert not any("hostPort" in port for port in ports)


def test_no_service_account_token(templates: list[Manifest]) -> None:
    """No pod gets a service account token or the environment variables of Services."""
    for template in templates:
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["enableServiceLinks"] is False


def test_the_image_user_runs_the_sidecar(templates: list[Manifest]) -> None:
    """The sidecar runs as the user of the image."""
    context = _contexts(templates)["sidecar"]
    assert (context["runAsUser"], context["runAsGroup"]) == (65532, 65532)


def test_memory_is_bounded(templates: list[Manifest]) -> None:
    """Each container requests CPU and memory and has a memory limit."""
    for template in templates:
        for each in containers(template):
            assert each["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in each["resources"]["limits"]


def test_secrets_reach_the_sidecar_alone(templates: list[Manifest]) -> None:
    """Only the sidecar gets secrets, as files that only owner and group can read."""
    for template in templates:
        names = {each["name"] for each in containers(template)}
        if "application" not in names:
            continue
        assert "volumeMounts" not in container(template, "application")
        assert "env" not in container(template, "application")
        secrets = [volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume]
        assert len(secrets) >= 2
        assert all(secret["defaultMode"] == 0o440 for secret in secrets)


def test_the_example_namespace_enforces_it() -> None:
    """The namespace of the example enforces the restricted standard."""
    (namespace,) = of_kind(build("example"), "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_network_policy_of_the_application(name: str) -> None:
    """Only traffic and monitoring may reach the pod, which may reach only Redis and DNS."""
    spec = one(build(name), "NetworkPolicy", "application")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    traffic, metrics = spec["ingress"]
    assert traffic["ports"] == [{"port": "traffic", "protocol": "TCP"}]
    assert metrics["ports"] == [{"port": "admin", "protocol": "TCP"}]
    controller, clients = traffic["from"]  # nobody else
    assert controller["namespaceSelector"]["matchLabels"].keys() == {"kubernetes.io/metadata.name"}
    assert clients == {"podSelector": {"matchLabels": {"auth-sidecar/client": "true"}}}
    (peer,) = metrics["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    redis, dns = spec["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}
    assert {port["protocol"] for port in dns["ports"]} == {"TCP", "UDP"}
    assert [port["port"] for port in redis["ports"]] == [6380 if "production" in name else 6379]
    assert all(rule["to"] for rule in (redis, dns))


def test_network_policy_of_redis() -> None:
    """Only pods with a sidecar may reach Redis, which may not open connections."""
    manifests = build("overlays/in-cluster-redis")
    spec = one(manifests, "NetworkPolicy", "redis")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert not spec["egress"]
    (rule,) = spec["ingress"]
    (peer,) = rule["from"]
    labels = one(manifests, "Deployment", "application")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    redis = one(manifests, "StatefulSet", "redis")["spec"]["template"]["metadata"]["labels"]
    assert not peer["podSelector"]["matchLabels"].items() <= redis.items()
