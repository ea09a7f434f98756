"""`make sbom` as a release would run it."""

import json
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]


def test_the_sbom_names_every_dependency() -> None:
    """Each dependency of the package is a component with a version; nothing that only tests use is."""
    subprocess.run(["make", "sbom"], cwd=ROOT, check=True, capture_output=True)
    document = json.loads((ROOT / "dist" / "asynq-ttl.cdx.json").read_text())
    assert document["metadata"]["component"]["name"] == "asynq-ttl"
    components = {canonicalize_name(each["name"]): each["version"] for each in document["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert components[canonicalize_name(requirement.name)] in requirement.specifier
    assert not {"pytest", "ruff", "pip"} & set(components)
