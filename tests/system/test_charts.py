"""The Helm chart and the kustomize component, rendered by the real tools and held against Kubernetes' schemas."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from asynq_ttl.policy_file.load import load_policy
from support.go_tools import go_tool
from support.paths import DEPLOY

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

KUBERNETES = "1.31"
Json = dict[str, Any]


def render(tool: str, *arguments: str | Path) -> dict[str, Json]:
    """Run a tool and return what it prints, by kind; each document is valid."""
    run = subprocess.run([go_tool(tool), *arguments], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    documents = [document for document in yaml.safe_load_all(run.stdout) if document]
    for document in documents:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    return {document["kind"]: document for document in documents}


def template(chart: Path, *options: str) -> dict[str, Json]:
    """Render a chart."""
    return render("helm", "template", "release", chart, "--kube-version", f"{KUBERNETES}.0", *options)


def first_container(deployment: Json) -> Json:
    """Return the first init container of a Deployment."""
    found: Json = deployment["spec"]["template"]["spec"]["initContainers"][0]
    return found


def reference() -> Json:
    """Return the sidecar of the plain manifest."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "sidecar.yaml").read_text())
    return first_container(next(each for each in documents if each["kind"] == "Deployment"))


def comparable(container: Json) -> Json:
    """Return a container without what is another's name in each variant."""
    container = {key: value for key, value in container.items() if key != "imagePullPolicy"}
    container["env"] = {entry["name"]: entry.get("value", "secret") for entry in container["env"]}
    return container


def test_kustomize_patches_the_sidecar_into_a_deployment() -> None:
    """An existing Deployment with the label gets the very sidecar of the manifest, before its other init containers."""
    rendered = render("kustomize", "build", DEPLOY / "kustomize" / "example")
    assert set(rendered) == {"ConfigMap", "Secret", "Deployment"}
    spec = rendered["Deployment"]["spec"]["template"]["spec"]
    assert [container["name"] for container in spec["initContainers"]] == ["asynq-ttl", "migrate"]
    assert comparable(first_container(rendered["Deployment"])) == comparable(reference())
    assert spec["terminationGracePeriodSeconds"] == 40
    secret = next(entry for entry in first_container(rendered["Deployment"])["env"] if "valueFrom" in entry)
    assert secret["valueFrom"]["secretKeyRef"]["name"] == rendered["Secret"]["metadata"]["name"]


def test_the_chart_brings_the_sidecar_to_another_chart(tmp_path: Path) -> None:
    """A chart that depends on this one gets the very sidecar of the manifest, and its policy is a policy."""
    shutil.copytree(DEPLOY / "helm", tmp_path / "helm")
    example = tmp_path / "helm" / "example"
    subprocess.run([go_tool("helm"), "dependency", "build", example], check=True, capture_output=True)
    rendered = template(example)
    assert set(rendered) == {"ConfigMap", "Secret", "Deployment"}
    assert comparable(first_container(rendered["Deployment"])) == comparable(reference())
    policy = tmp_path / "policy.yaml"
    policy.write_text(rendered["ConfigMap"]["data"]["policy.yaml"])
    assert load_policy(policy).mode.value == "shadow"
    volume = rendered["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    assert volume["configMap"]["name"] == rendered["ConfigMap"]["metadata"]["name"]


def test_the_chart_alone_is_a_gateway() -> None:
    """With `gateway.enabled` there are a Deployment and a Service whose selector finds it; without, neither."""
    chart = DEPLOY / "helm" / "asynq-ttl"
    lint = subprocess.run([go_tool("helm"), "lint", "--strict", chart], capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout
    assert set(template(chart)) == {"ConfigMap", "Secret"}
    rendered = template(chart, "--set", "gateway.enabled=true", "--set", "upstream.existingSecret=mine")
    assert set(rendered) == {"ConfigMap", "Deployment", "Service"}
    labels = rendered["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert rendered["Service"]["spec"]["selector"].items() <= labels.items()
    container = rendered["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["ASYNQ_TTL_UPSTREAM"]["valueFrom"]["secretKeyRef"]["name"] == "mine"
    assert environment["ASYNQ_TTL_LISTEN"]["value"] == "0.0.0.0:6380"
    # It listens until no more clients are sent to it, and has time for that, the drain and the last export.
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    assert rendered["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= 5 + 10 + 6


def test_the_chart_refuses_values_it_does_not_know() -> None:
    """A misspelt value is an error, not silence."""
    command = ["template", "x", str(DEPLOY / "helm" / "asynq-ttl"), "--kube-version", "1.31.0"]
    run = subprocess.run(
        [go_tool("helm"), *command, "--set", "drainTimeout=3"], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "drainTimeout" in run.stderr


def test_the_gateway_in_front_of_a_cluster_has_a_port_for_each_node() -> None:
    """Its Service has them too, by the name that clients are told; more than one pod would have different ones."""
    chart = DEPLOY / "helm" / "asynq-ttl"
    options = ["--set", "cluster.ports=6400-6402", "--set", "gateway.enabled=true"]
    rendered = template(chart, *options, "--set", "gateway.replicas=1")
    container = rendered["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["ASYNQ_TTL_CLUSTER_PORTS"] == "6400-6402"
    assert environment["ASYNQ_TTL_ANNOUNCE"] == rendered["Service"]["metadata"]["name"]
    assert [port["port"] for port in rendered["Service"]["spec"]["ports"]] == [6380, 6400, 6401, 6402]
    run = subprocess.run(
        [go_tool("helm"), "template", "x", chart, "--kube-version", f"{KUBERNETES}.0", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "gateway.replicas: 1" in run.stderr
