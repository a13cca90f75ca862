"""Whether the environment describes workers that can reach each other. No TensorFlow."""

import errno
import ipaddress
import socket
from collections.abc import Mapping

from trainer.checks.finding import Finding, Verdict, wrong
from trainer.errors import TrainerError
from trainer.workers import discovery
from trainer.workers.discovery import Cluster

CHECK = "workers"
SLURM_TASKS, SLURM_STEP_TASKS = "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"
ALONE = Cluster(("",), 0)
# What the system says to the own address -> what that means.
_REFUSED: dict[int, tuple[Verdict, str]] = {
    errno.EADDRINUSE: (
        "wrong",
        ", a port that another process has. Give it another one, or end that process",
    ),
    errno.EACCES: (
        "wrong",
        ", a port that only root may open. Give it one above 1023",
    ),
    # TensorFlow listens at every address of the machine: with NAT the others may still reach it.
    errno.EADDRNOTAVAIL: (
        "warning",
        ", an address that this machine does not have. If the others do not connect, check the "
        "worker's number and address",
    ),
}


def examine(environ: Mapping[str, str]) -> tuple[Finding, Cluster]:
    """What is found, and the workers; one where they cannot be known.

    Opens the own port for a moment, which says whether it is free and of this machine; connects to
    nobody.
    """
    try:
        cluster = discovery.discover(environ)
    except TrainerError as error:
        return wrong(CHECK, error), ALONE
    count = len(cluster.addresses)
    if count == 1:
        return _alone(environ), cluster
    problem = _names(cluster) or _loopback(cluster)
    if problem:
        return Finding(CHECK, "wrong", problem), cluster
    own = f"worker {cluster.index} of {count}, at {cluster.addresses[cluster.index]}"
    verdict, said = _own_port(cluster)
    return Finding(CHECK, verdict, f"{own}{said}"), cluster


def machines(cluster: Cluster) -> int:
    """How many there are, by their names."""
    return len({address.rpartition(":")[0] for address in cluster.addresses})


def _alone(environ: Mapping[str, str]) -> Finding:
    tasks = environ.get(SLURM_TASKS, "1")
    if tasks != "1" and environ.get(SLURM_STEP_TASKS, "1") == "1":
        return Finding(
            CHECK,
            "warning",
            f"one, though {SLURM_TASKS}={tasks}: only tasks that srun starts know of each other. "
            "Start all with srun, or with samestep-launch --where=slurm",
        )
    return Finding(CHECK, "ok", "one: no TF_CONFIG, no task of srun, no indexed job")


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _names(cluster: Cluster) -> str:
    """The first worker whose name has no address."""
    for number, address in enumerate(cluster.addresses):
        host, port = _host_and_port(address)
        if not 0 < port < 2**16:
            return f"worker {number} is at {address}, and ports go from 1 to 65535. Correct it"
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return (
                f"worker {number} is at {address}, and no such address is known here: {reason}. "
                "Correct it, or give its IP address"
            )
    return ""


def _loopback(cluster: Cluster) -> str:
    """Workers that the others cannot reach, being at 127.0.0.1 while these are elsewhere."""
    local = [_is_loopback(_host_and_port(address)[0]) for address in cluster.addresses]
    if not any(local) or all(local):
        return ""
    number = local.index(True)
    return (
        f"worker {number} is at {cluster.addresses[number]}, where only its own machine reaches "
        f"it, and worker {local.index(False)} is on another. Give all by names that all know"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_port(cluster: Cluster) -> tuple[Verdict, str]:
    """A verdict on this worker's own address, and what follows it."""
    host, port = _host_and_port(cluster.addresses[cluster.index])
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as TensorFlow's server does
        try:
            own.bind(address)
            own.listen()
        except OSError as error:
            return _REFUSED.get(error.errno or 0, ("warning", f": {error.strerror}"))
    return "ok", ""
