"""What is packaged is what the programs take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from wgpy.cli.choices import read_choices
from wgpy.cli.up import up

MANIFEST = Path(__file__).parents[1] / "packaging" / "kubernetes" / "daemonset.yaml"


@pytest.fixture
def pod() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    manifest = yaml.safe_load(MANIFEST.read_text())
    assert manifest["kind"] == "DaemonSet"
    spec = manifest["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    found: dict[str, Any] = spec["template"]["spec"]
    return found


def test_the_command_of_the_daemonset_is_one_that_wgpy_up_takes(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    assert container["command"][:2] == ["wgpy", "up"]
    context = up.make_context("wgpy up", list(container["command"][2:]), resilient_parsing=True)
    given = {name: value for name, value in context.params.items() if name in ("advertise", "accept_routes")}
    assert read_choices(given) == {"advertise": "10.244.0.0/16,10.96.0.0/12", "accept_routes": True}
    assert context.params["node_name"] == "$(MACHINE)"


def test_the_daemonset_has_what_a_gateway_needs_and_no_more(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    assert pod["hostNetwork"] is True
    assert container["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
    assert "privileged" not in container["securityContext"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert [each["name"] for each in container["env"]] == ["WGPY_TOKEN", "MACHINE"]
