"""What samestep-launch --where=kubernetes prints, against the schemas; offline."""

import copy
import subprocess
import sys
import warnings

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet as JobSet

from tests.conftest import ROOT
from trainer.workers.discovery import discover

VERSION = "1.32"


@pytest.fixture(scope="module")
def printed() -> list[dict]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.launch", "--where=kubernetes", "--workers=4"),
            *("--gpus_per_worker=8", "--name=digits", "--image=registry/me/samestep:1"),
            *("--claim=data", "--memory=64Gi", "--cpus_per_worker=16", "--", "samestep-train"),
            *("--data_dir=/data/records", "--run_dir=/data/run"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return list(yaml.safe_load_all(done.stdout))


def check(manifest: dict) -> None:
    """Raises where a manifest is not as the API wants it, or of a kind that is not known."""
    if manifest["kind"] == "JobSet":
        # from_dict leaves out what it does not know.
        assert JobSet.from_dict(manifest).to_dict() == manifest
        for job in manifest["spec"]["replicatedJobs"]:
            check({"apiVersion": "batch/v1", "kind": "Job", "metadata": {}, **job["template"]})
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unknown kind is only warned about
        kubernetes_validate.validate(manifest, VERSION, strict=True)


def test_the_manifests_are_valid(printed):
    assert [manifest["kind"] for manifest in printed] == ["NetworkPolicy", "JobSet"]
    for manifest in printed:
        check(manifest)


def job_of(manifests: list[dict]) -> dict:
    return manifests[1]["spec"]["replicatedJobs"][0]["template"]["spec"]


@pytest.mark.parametrize(
    "breakage",
    [
        lambda manifests: job_of(manifests).update(completions="four"),
        lambda manifests: job_of(manifests).update(completionsMode="Indexed"),
        lambda manifests: job_of(manifests)["template"]["spec"].pop("containers"),
        lambda manifests: manifests[1]["spec"]["failurePolicy"].update(maxRestarts="three"),
        lambda manifests: manifests[0]["spec"].pop("podSelector"),
        lambda manifests: manifests[0].update(kind="NetworkPolitics"),
    ],
)
def test_broken_manifests_are_refused(printed, breakage):
    broken = copy.deepcopy(printed)
    breakage(broken)
    with pytest.raises(Exception):  # noqa: B017 - each library has its own
        for manifest in broken:
            check(manifest)


def test_the_pods_find_each_other(printed):
    job = job_of(printed)
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    (pod,) = job["template"]["spec"]["containers"]
    variables = {each["name"]: each["value"] for each in pod["env"]}
    cluster = discover(variables | {"JOB_COMPLETION_INDEX": "3"})
    assert cluster.index == 3
    # JobSet's names: jobset-replicatedjob-jobindex-podindex.subdomain
    assert cluster.addresses[2] == "digits-worker-0-2.digits:2222"
    assert printed[1]["spec"]["network"] == {"enableDNSHostnames": True, "subdomain": "digits"}


def test_the_pods_have_what_they_need(printed):
    pod = job_of(printed)["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {
        "nvidia.com/gpu": 8,
        "cpu": 16,
        "memory": "64Gi",
    }
    assert container["command"][0] == "samestep-train"
    assert {each["mountPath"] for each in container["volumeMounts"]} == {"/data", "/dev/shm"}
    assert pod["restartPolicy"] == "Never"
    selected = printed[0]["spec"]["podSelector"]["matchLabels"]
    assert selected == {"jobset.sigs.k8s.io/jobset-name": printed[1]["metadata"]["name"]}


def test_what_is_missing_is_named():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.launch", "--where=kubernetes", "--", "true"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "--image=IMAGE" in done.stderr
