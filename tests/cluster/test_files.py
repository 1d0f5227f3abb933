"""The files that start clusters, each checked by what exists for its kind, and for what must hold in all of them.

KubeRay's schema is in no package index, so what a RayJob may say is listed here by field (KubeRay 1.6); what a
pod may say comes from the Kubernetes client.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from kubernetes import client
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.programs import ROOT

CLUSTER = ROOT / "cluster"
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
RAY = next(
    pin.partition("==")[2]
    for pin in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    if pin.startswith("ray[")
)
JOB = {"entrypoint", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "submissionMode"}
JOB |= {"runtimeEnvYAML", "rayClusterSpec", "activeDeadlineSeconds", "submitterPodTemplate", "suspend", "jobId"}
HEAD = {"rayStartParams", "serviceType", "template", "enableIngress", "headService"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "rayStartParams", "template"}
CLUSTER_SPEC = {"rayVersion", "enableInTreeAutoscaling", "authOptions", "headGroupSpec", "workerGroupSpecs"}
SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    done = subprocess.run([tool("shellcheck"), str(script)], capture_output=True, text=True)

    assert done.stdout + done.stderr == ""
    assert os.access(script, os.X_OK)


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([tool("hadolint"), str(CLUSTER / "Dockerfile")], capture_output=True, text=True)

    assert done.stdout + done.stderr == ""


def test_the_image_copies_only_what_is_there_and_nothing_else_reaches_the_build() -> None:
    dockerfile = (CLUSTER / "Dockerfile").read_text()
    copied = copies(dockerfile)
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()

    assert all((ROOT / name).exists() for name in copied)
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied)


def test_ray_up_takes_the_launcher_file() -> None:
    launcher = prepare_config(loaded("ray-cluster.yaml"))

    validate_config(launcher)
    types = launcher["available_node_types"]
    spot = {name: "InstanceMarketOptions" in kind["node_config"] for name, kind in types.items()}
    assert spot == {"head": False, "gpu": True, "cpu": True}
    assert all("ImageId" in kind["node_config"] for kind in types.values())  # Ray's own choice is an Ubuntu of 2018
    for command in (launcher["head_start_ray_commands"][-1], launcher["worker_start_ray_commands"][-1]):
        assert "RAY_AUTH_MODE=token" in command
    assert "--dashboard-host=127.0.0.1" in launcher["head_start_ray_commands"][-1]


def test_the_head_may_start_nodes_and_the_workers_may_not() -> None:
    types = loaded("ray-cluster.yaml")["available_node_types"]

    profiles = {name: kind["node_config"]["IamInstanceProfile"]["Name"] for name, kind in types.items()}

    assert profiles == {"head": "emoray-head", "gpu": "emoray", "cpu": "emoray"}


def test_what_ray_up_takes_along_is_what_the_image_copies() -> None:
    mounts = loaded("ray-cluster.yaml")["file_mounts"]
    mine = {there: here for there, here in mounts.items() if not here.startswith("~")}

    assert mine == {f"/home/ray/emoray/{name}": name for name in copies((CLUSTER / "Dockerfile").read_text())}


def test_the_launcher_check_knows_a_wrong_file() -> None:
    wrong = loaded("ray-cluster.yaml")
    wrong["available_node_types"]["gpu"]["spot"] = True

    with pytest.raises(ValidationError, match="'spot' was unexpected"):
        validate_config(prepare_config(wrong))


def test_the_rayjob_says_only_what_kuberay_and_kubernetes_know() -> None:
    job = loaded("rayjob.yaml")

    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert list(strangers(job["spec"])) == []


@pytest.mark.parametrize("path", [("backofflimit",), ("rayClusterSpec", "headGroupSpec", "template", "spec", "volume")])
def test_the_rayjob_check_knows_a_wrong_file(path: tuple[str, ...]) -> None:
    spec = loaded("rayjob.yaml")["spec"]
    inner = spec
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = 1

    assert [where.rpartition(".")[2] for where in strangers(spec)] == [path[-1]]


def test_the_rayjob_retries_behind_a_token_with_keys_by_reference() -> None:
    spec = loaded("rayjob.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    boxes = [box for pod in pods for box in pod["containers"]]

    assert spec["backoffLimit"] > 0
    assert spec["entrypoint"].split()[1] == "/home/ray/emoray/jobs/rayjob.py"  # which knows what is worth a retry
    assert cluster["authOptions"] == {"mode": "token"}
    assert {group["groupName"] for group in cluster["workerGroupSpecs"]} == {"gpu", "cpu"}
    assert all(box["envFrom"] == [{"secretRef": {"name": "emoray-keys", "optional": True}}] for box in boxes)
    assert not any("env" in box for box in boxes)
    assert not SECRET.search(spec["runtimeEnvYAML"])


def test_every_pod_of_the_rayjob_reaches_the_bucket_and_kuberay_sizes_its_shared_memory() -> None:
    cluster = loaded("rayjob.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] == "emoray"
        assert all(mount["mountPath"] != "/dev/shm" for box in pod["containers"] for mount in box["volumeMounts"])


def test_what_a_pod_mounts_is_among_its_volumes() -> None:
    cluster = loaded("rayjob.yaml")["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounted = {mount["name"] for box in pod["containers"] for mount in box["volumeMounts"]}
        assert mounted
        assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_all_files_mean_the_ray_and_the_python_that_we_test_with() -> None:
    texts = "\n".join(file.read_text() for file in CLUSTER.iterdir() if file.suffix != ".md")

    assert set(re.findall(r"rayproject/ray:([\d.]+)-py(\d+)", texts)) == {(RAY, "311")}
    assert loaded("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == RAY
    assert f"ray.__version__ == '{RAY}'" in texts


def test_no_dashboard_listens_beyond_loopback() -> None:
    hosts = {file.name: re.findall(r"dashboard-host=?\s*\"?([\w.]+)", file.read_text()) for file in CLUSTER.iterdir()}
    assert {name for name, found in hosts.items() if found} >= {"laptop.sh", "ray-cluster.yaml"}
    assert {host for found in hosts.values() for host in found} == {"127.0.0.1"}


def copies(dockerfile: str) -> list[str]:
    """What an image takes from the checkout."""
    return [word for line in re.findall(r"^COPY \S+ (.*) \S+$", dockerfile, re.MULTILINE) for word in line.split()]


def tool(name: str) -> str:
    """Beside this Python, where pip puts it."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found, f"{name} comes with the dev extra"
    return found


def loaded(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return data


def strangers(spec: Mapping[str, Any]) -> Iterator[str]:
    """The fields of a RayJob's spec that nobody knows."""
    cluster = spec["rayClusterSpec"]
    groups = [(cluster["headGroupSpec"], HEAD), *((group, WORKERS) for group in cluster["workerGroupSpecs"])]
    for section, known in [(spec, JOB), (cluster, CLUSTER_SPEC), *groups]:
        yield from (f"spec.{name}" for name in section.keys() - known)
    for group, _ in groups:
        yield from unknown(group["template"], "V1PodTemplateSpec", "template")


def unknown(value: Any, kind: str, where: str) -> Iterator[str]:
    """The fields of a Kubernetes object that its type does not have; `kind` as the client's models name types."""
    if kind.startswith("list["):
        for item in value:
            yield from unknown(item, kind[5:-1], where)
    elif hasattr(client, kind):
        model = getattr(client, kind)
        fields = {name: model.openapi_types[own] for own, name in model.attribute_map.items()}
        for name, inner in value.items():
            if name in fields:
                yield from unknown(inner, fields[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}"
