"""What `deploy/` holds: valid for Kubernetes, alike in every variant, and speaking of options and verbs that exist."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from asynq_ttl.cli import serve as serving
from asynq_ttl.net.address import parse_ports, parse_upstream
from asynq_ttl.policy_file.load import load_policy
from support.paths import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = [DEPLOY / "kubernetes" / "sidecar.yaml", DEPLOY / "kubernetes" / "transparent.yaml"]
# Native sidecars are on by default from 1.29 on.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
Json = dict[str, Any]


def documents(path: Path) -> list[Json]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def pod(deployment: Json) -> Json:
    """Return the pod of a Deployment."""
    found: Json = deployment["spec"]["template"]["spec"]
    return found


def sidecar(deployment: Json) -> Json:
    """Return the sidecar's container in a Deployment."""
    containers = pod(deployment).get("initContainers", []) + pod(deployment).get("containers", [])
    found: Json = next(container for container in containers if container["name"] == "asynq-ttl")
    return found


def deployments() -> Iterator[tuple[str, Json]]:
    """Yield each Deployment with a sidecar in plain YAML, by the name of its file."""
    for path in (*MANIFESTS, DEPLOY / "kustomize" / "component" / "sidecar.yaml"):
        for document in documents(path):
            if document["kind"] == "Deployment":
                yield path.name, document


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_manifests_are_what_kubernetes_takes(path: Path, version: str) -> None:
    """Each document is valid by the strict schema: no unknown field, no wrong type."""
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_is_noticed() -> None:
    """The schemas are strict: a field that Kubernetes does not know is refused."""
    deployment = next(document for _, document in deployments())
    sidecar(deployment)["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize(("name", "deployment"), list(deployments()), ids=lambda value: str(value)[:20])
def test_the_sidecar_is_a_native_one(name: str, deployment: Json) -> None:
    """It starts first and ends last, has all its time, is nobody, writes nowhere; the first init container is it."""
    first = pod(deployment)["initContainers"][0]
    assert first == sidecar(deployment)
    assert first["restartPolicy"] == "Always"
    assert first["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    values = {entry["name"]: entry.get("value") for entry in first["env"]}
    drain = int(values.get("ASYNQ_TTL_DRAIN_TIMEOUT", "10"))
    # Asynq's own 8 s, the drain, and 6 s for the last export of each signal.
    assert pod(deployment)["terminationGracePeriodSeconds"] >= 8 + drain + 6


def variables(node: object) -> Iterator[str]:
    """Yield the names of environment variables anywhere in a document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, str) and key.startswith("ASYNQ_TTL_"):
                yield key
            if key == "name" and isinstance(value, str) and value.startswith("ASYNQ_TTL_"):
                yield value
            yield from variables(value)
    elif isinstance(node, list):
        for value in node:
            yield from variables(value)


def test_every_variable_is_an_option() -> None:
    """What the files set, `serve` reads."""
    known = {param.envvar for param in serving.serve.params if isinstance(param, click.Option)}
    paths = [*DEPLOY.glob("kubernetes/*.yaml"), *DEPLOY.glob("kustomize/**/*.yaml"), *DEPLOY.glob("docker/*.yaml")]
    used = {name for path in paths for document in documents(path) for name in variables(document)}
    assert used
    assert used <= known


def test_the_policies_in_configmaps_are_valid(tmp_path: Path) -> None:
    """The example policies are policies."""
    texts = [
        *(
            document["data"]["policy.yaml"]
            for path in MANIFESTS
            for document in documents(path)
            if document["kind"] == "ConfigMap"
        ),
        (DEPLOY / "kustomize" / "component" / "policy.yaml").read_text(),
        yaml.safe_dump(documents(DEPLOY / "helm" / "asynq-ttl" / "values.yaml")[0]["policy"]),
    ]
    for text in texts:
        file = tmp_path / "policy.yaml"
        file.write_text(text)
        assert load_policy(file).mode.value == "shadow"


def test_compose_starts_what_it_says() -> None:
    """The sidecar is read-only and without capabilities, its policy is one of ours, and the volumes are there."""
    compose = documents(DEPLOY / "docker" / "compose.yaml")[0]
    assert set(compose["services"]) == {"redis", "asynq-ttl", "asynqmon", "collector", "jaeger"}
    service = compose["services"]["asynq-ttl"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert (ROOT / "policies" / Path(service["environment"]["ASYNQ_TTL_POLICY"]).name).exists()
    for name, each in compose["services"].items():
        for volume in each.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / "docker" / source).exists(), name
    collector = documents(DEPLOY / "docker" / "collector.yaml")[0]
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= set(collector[kind])


def test_compose_has_a_cluster_whose_ports_are_published() -> None:
    """Six nodes that are made a cluster of; each port of the sidecar is one that programs of the machine reach."""
    compose = documents(DEPLOY / "docker" / "compose-cluster.yaml")[0]
    nodes = {name for name in compose["services"] if name.startswith("node-")}
    assert len(nodes) == 6
    assert set(compose["services"]["create"]["depends_on"]) == nodes
    service = compose["services"]["asynq-ttl"]
    assert service["read_only"] is True
    variables = service["environment"]
    upstream = parse_upstream(variables["ASYNQ_TTL_UPSTREAM"])
    assert {address.host for address in upstream.nodes} <= nodes
    ports, listen = variables["ASYNQ_TTL_CLUSTER_PORTS"], variables["ASYNQ_TTL_LISTEN"].rpartition(":")[2]
    assert len(parse_ports(ports)) > len(nodes)
    host = variables["ASYNQ_TTL_ANNOUNCE"]
    assert service["ports"] == [f"{host}:{listen}:{listen}", f"{host}:{ports}:{ports}"]


def test_the_socket_unit_can_have_the_ports_of_nodes() -> None:
    """In a row, as the comment says."""
    text = (DEPLOY / "systemd" / "asynq-ttl.socket.d" / "cluster.conf").read_text()
    found = re.search(r"ASYNQ_TTL_CLUSTER_PORTS=(\d+-\d+)", text)
    assert found
    assert [int(port) for port in re.findall(r"^ListenStream=127\.0\.0\.1:(\d+)$", text, re.MULTILINE)] == [
        *parse_ports(found[1])
    ]


def test_the_dockerfile_has_no_fault() -> None:
    """hadolint, which includes ShellCheck, finds nothing."""
    hadolint = Path(sys.executable).parent / "hadolint"
    run = subprocess.run([hadolint, DEPLOY / "docker" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_the_version_is_the_same_everywhere() -> None:
    """Image tags and the chart carry the package's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = documents(DEPLOY / "helm" / "asynq-ttl" / "Chart.yaml")[0]
    assert chart["appVersion"] == version
    for name, deployment in deployments():
        assert sidecar(deployment)["image"] == f"asynq-ttl:{version}", name
    for name in ("compose.yaml", "compose-cluster.yaml"):
        assert documents(DEPLOY / "docker" / name)[0]["services"]["asynq-ttl"]["image"] == f"asynq-ttl:{version}"
