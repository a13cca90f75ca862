"""What can be known about the GPUs of this machine before TensorFlow starts them."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from trainer.errors import TrainerError
from trainer.workers import nvidia

# The oldest driver for any CUDA of a major version: table 2 of NVIDIA's CUDA Compatibility guide.
OLDEST_DRIVERS = {"12": "525.60.13"}


def examine() -> Iterator[tuple[str, str]]:
    """Yields (check, what was found), nothing on a machine without NVIDIA's driver.

    Raises TrainerError where TensorFlow cannot use the GPUs that are there.
    """
    gpus, driver = tf.config.list_physical_devices("GPU"), nvidia.driver_version()
    build = tf.sysconfig.get_build_info()
    if not gpus:
        if driver is not None:
            yield "driver", f"{driver}, but TensorFlow sees no GPU: {NO_GPU}"
        return
    cuda = build.get("cuda_version", "unknown")
    check_driver(driver, cuda)
    yield (
        "driver",
        f"{driver or 'unknown'}; TensorFlow is built with CUDA {cuda} and cuDNN "
        f"{build.get('cudnn_version', 'unknown')}",
    )
    for number, gpu in enumerate(gpus):
        details = tf.config.experimental.get_device_details(gpu)
        name, capability = details.get("device_name", "GPU"), details.get("compute_capability")
        found = "compute capability unknown"
        if capability is not None:
            found = kernels(capability, build.get("cuda_compute_capabilities", ()))
        yield f"GPU:{number}", f"{name}, {found}"
    yield "memory", _memory()
    yield "peer access", _peer_access()


NO_GPU = (
    "its CUDA libraries are missing (pip install -e '.[gpu]'), or CUDA_VISIBLE_DEVICES hides all"
)


def check_driver(driver: str | None, cuda: str) -> None:
    """Raises TrainerError where the driver is too old for TensorFlow's CUDA: 12.5.1."""
    oldest = OLDEST_DRIVERS.get(cuda.split(".")[0])
    if driver is not None and oldest is not None and _numbers(driver) < _numbers(oldest):
        raise TrainerError(
            f"NVIDIA's driver is {driver}; CUDA {cuda}, which TensorFlow is built with, needs "
            f"{oldest} or newer. Update the driver."
        )


def kernels(capability: tuple[int, int], built: Sequence[str]) -> str:
    """Which kernels a GPU of a compute capability runs, in words. Raises TrainerError for none.

    built: sm_80 is machine code for 8.0 and what is newer of 8.x; compute_90 is PTX, which the
    driver can compile for anything newer, and for some kernels machine code for 9.0.
    """
    dotted = ".".join(map(str, capability))
    code = [name for name in built if _runs(_capability(name), capability)]
    if code:
        best = max(code, key=lambda name: (_capability(name), name.startswith("sm_")))
        if best.startswith("sm_"):
            return f"compute capability {dotted}: machine code of {best}"
        # 289 of the 1,438 modules of TensorFlow 2.21 have code for 9.0.
        return (
            f"compute capability {dotted}: {best}, for most kernels PTX, which the driver compiles "
            "when they are first used, and keeps"
        )
    ptx = [
        name for name in built if name.startswith("compute_") and _capability(name) <= capability
    ]
    if ptx:
        # What users report of Blackwell: tensorflow/tensorflow issues 111958 and 88122.
        return (
            f"compute capability {dotted}: NO machine code in this TensorFlow, only PTX of "
            f"{max(ptx, key=_capability)}. The first start compiles it for up to half an hour, or "
            "fails with CUDA_ERROR_INVALID_PTX; then use a TensorFlow that is built for "
            f"sm_{capability[0]}{capability[1]}, as in NVIDIA's container"
        )
    raise TrainerError(
        f"A GPU of compute capability {dotted} runs none of the kernels in this TensorFlow: "
        f"{', '.join(built) or 'it is built without CUDA'}. Hide it with CUDA_VISIBLE_DEVICES, or "
        "install a TensorFlow that is built for it."
    )


def _capability(name: str) -> tuple[int, int]:
    """sm_89, compute_90, sm_120 -> (8, 9), (9, 0), (12, 0)."""
    digits = name.partition("_")[2]
    return int(digits[:-1]), int(digits[-1])


def _runs(code: tuple[int, int], capability: tuple[int, int]) -> bool:
    return code[0] == capability[0] and code[1] <= capability[1]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _memory() -> str:
    try:
        cards = nvidia.cards()
    except TrainerError as error:
        return f"unknown. {error}"
    gibi = 1024
    return "nvidia-smi's card " + ", ".join(
        f"{card.number}: {card.free_mebibytes / gibi:.1f} of {card.total_mebibytes / gibi:.1f} GiB "
        "free"
        for card in cards
    )


def _peer_access() -> str:
    try:
        pairs = nvidia.peer_access()
    except TrainerError as error:
        return f"unknown. {error}"
    refused = [f"{a}-{b} {why}" for (a, b), why in pairs.items() if why != "OK"]
    if refused:
        return "through the host between nvidia-smi's cards " + ", ".join(refused)
    return f"direct between all {len(pairs)} pairs of cards" if pairs else "one card, no pair"
