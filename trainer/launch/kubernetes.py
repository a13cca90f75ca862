"""Workers as the pods of a JobSet (jobset.sigs.k8s.io), printed for kubectl apply -f."""

from collections.abc import Sequence
from typing import Any

import yaml

from trainer.errors import TrainerError
from trainer.launch.config import LaunchConfig
from trainer.workers.discovery import ADDRESS_VARIABLE, WORKERS_VARIABLE

PORT = 2222
GROUP = "worker"  # the JobSet's only kind of job
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"


def launch(command: Sequence[str], config: LaunchConfig) -> int:
    """Prints the manifests."""
    print(yaml.safe_dump_all(manifests(command, config), sort_keys=False), end="")
    return 0


def manifests(command: Sequence[str], config: LaunchConfig) -> list[dict[str, Any]]:
    """A JobSet, and a NetworkPolicy: TensorFlow's ports ask for no password.

    The JobSet's controller makes the headless service of its name, by which the workers find each
    other. A worker that fails ends its job, and all are started again, from the last checkpoint.
    """
    name = config.name
    pods = {"matchLabels": {JOBSET_LABEL: name}}
    job = {
        "parallelism": config.workers,
        "completions": config.workers,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        # A wrong setting stays wrong: no restart.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": GROUP,
                        "operator": "In",
                        "values": [TrainerError.exit_code],
                    },
                }
            ]
        },
        "template": {"spec": _pod(command, config)},
    }
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {
            "network": {"enableDNSHostnames": True, "subdomain": name},
            "failurePolicy": {
                "maxRestarts": config.max_restarts,
                "rules": [
                    {
                        "name": "wrongsetting",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [{"name": GROUP, "replicas": 1, "template": {"spec": job}}],
        },
    }
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": pods}]}],
        },
    }
    return [policy, jobset]


def _pod(command: Sequence[str], config: LaunchConfig) -> dict[str, Any]:
    resources: dict[str, int | str] = {}
    if config.gpus_per_worker:
        resources["nvidia.com/gpu"] = config.gpus_per_worker
    if config.cpus_per_worker:
        resources["cpu"] = config.cpus_per_worker
    if config.memory:
        resources["memory"] = config.memory
    address = f"{config.name}-{GROUP}-0-{{}}.{config.name}:{PORT}"
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": config.grace_seconds,
        "containers": [
            {
                "name": GROUP,
                "image": config.image,
                "command": list(command),
                "env": [
                    {"name": WORKERS_VARIABLE, "value": str(config.workers)},
                    {"name": ADDRESS_VARIABLE, "value": address},
                    {"name": "PYTHONUNBUFFERED", "value": "1"},
                ],
                "ports": [{"containerPort": PORT, "protocol": "TCP"}],
                "resources": {"limits": resources},
                "volumeMounts": [
                    {"name": "data", "mountPath": config.mount},
                    {"name": "memory", "mountPath": "/dev/shm"},
                ],
            }
        ],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": config.claim}},
            # NCCL's shared memory; a container's own 64 MB are too small for 8 GPUs.
            {"name": "memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
