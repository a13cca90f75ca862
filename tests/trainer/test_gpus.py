"""What a GPU, its driver and TensorFlow's wheel say together; each fault is named."""

import pytest
import tensorflow as tf

from tests.conftest import error
from trainer import gpus
from trainer.errors import TrainerError
from trainer.workers.nvidia import Card

WHEEL = ["sm_60", "sm_70", "sm_80", "sm_89", "compute_90"]


@pytest.mark.parametrize(
    ("capability", "code"),
    [
        ((6, 1), "sm_60"),
        ((7, 5), "sm_70"),
        ((8, 0), "sm_80"),
        ((8, 6), "sm_80"),
        ((8, 9), "sm_89"),
    ],
)
def test_machine_code(capability, code):
    dotted = ".".join(map(str, capability))
    assert gpus.kernels(capability, WHEEL) == f"compute capability {dotted}: machine code of {code}"


def test_hopper_has_machine_code_for_some_kernels_and_ptx_for_the_rest():
    found = gpus.kernels((9, 0), WHEEL)
    assert found.startswith("compute capability 9.0: compute_90, for most kernels PTX")
    assert gpus.kernels((9, 0), [*WHEEL, "sm_90"]).endswith("machine code of sm_90")


@pytest.mark.parametrize(("capability", "name"), [((10, 0), "sm_100"), ((12, 0), "sm_120")])
def test_what_is_newer_has_ptx_only(capability, name):
    found = gpus.kernels(capability, WHEEL)
    assert "NO machine code in this TensorFlow, only PTX of compute_90." in found
    assert f"built for {name}, as in NVIDIA's container" in found
    assert "machine code of sm_120" in gpus.kernels((12, 0), [*WHEEL, "sm_100", "sm_120"])


@pytest.mark.parametrize(
    ("capability", "built", "listed"),
    [((5, 2), WHEEL, ", ".join(WHEEL)), ((9, 0), ["sm_80"], "sm_80"), ((9, 0), [], "without CUDA")],
)
def test_no_kernels_are_an_error(capability, built, listed):
    said = error(gpus.kernels, capability, built)
    assert f"compute capability {capability[0]}.{capability[1]} runs none of the kernels" in said
    assert listed in said


@pytest.mark.parametrize("driver", ["525.60.13", "525.147.05", "580.95", None])
def test_a_driver_that_is_new_enough(driver):
    gpus.check_driver(driver, "12.5.1")


def test_a_driver_that_is_too_old():
    assert error(gpus.check_driver, "470.256.02", "12.5.1") == (
        "NVIDIA's driver is 470.256.02; CUDA 12.5.1, which TensorFlow is built with, needs "
        "525.60.13 or newer. Update the driver."
    )
    gpus.check_driver("470.256.02", "11.8")  # a CUDA that we know nothing about


def test_this_wheel_says_what_it_has():
    """Without these keys the doctor could not tell a GPU that will not work."""
    build = tf.sysconfig.get_build_info()
    if not build["is_cuda_build"]:
        pytest.skip("this TensorFlow is built without CUDA")
    assert build["cuda_compute_capabilities"] == WHEEL
    assert build["cuda_version"].split(".")[0] in gpus.OLDEST_DRIVERS
    assert build["cudnn_version"]


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many H100; the fixture's result sets what nvidia-smi says, or its failure."""

    def make(count: int, driver: str | None, cards, pairs) -> dict[str, str]:
        def answer(value):
            def call():
                if isinstance(value, Exception):
                    raise value
                return value

            return call

        details = {"device_name": "NVIDIA H100 80GB HBM3", "compute_capability": (9, 0)}
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["gpu"] * count)
        monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
        monkeypatch.setattr(gpus.nvidia, "driver_version", lambda: driver)
        monkeypatch.setattr(gpus.nvidia, "cards", answer(cards))
        monkeypatch.setattr(gpus.nvidia, "peer_access", answer(pairs))
        return dict(gpus.examine())

    return make


def test_a_machine_of_two_gpus(machine):
    cards = [Card(0, 80_896, 81_559), Card(1, 512, 81_559)]
    found = machine(2, "550.54.15", cards, {(0, 1): "OK"})
    hopper = gpus.kernels((9, 0), WHEEL)
    assert found == {
        "driver": "550.54.15; TensorFlow is built with CUDA 12.5.1 and cuDNN 9",
        "GPU:0": f"NVIDIA H100 80GB HBM3, {hopper}",
        "GPU:1": f"NVIDIA H100 80GB HBM3, {hopper}",
        "memory": "nvidia-smi's card 0: 79.0 of 79.6 GiB free, 1: 0.5 of 79.6 GiB free",
        "peer access": "direct between all 1 pairs of cards",
    }


def test_pairs_without_peer_access_are_named(machine):
    pairs = {(0, 1): "OK", (0, 2): "CNS (Chipset not supported)", (1, 2): "GNS (GPU not supported)"}
    assert machine(3, "550.54.15", [], pairs)["peer access"] == (
        "through the host between nvidia-smi's cards 0-2 CNS (Chipset not supported), "
        "1-2 GNS (GPU not supported)"
    )


def test_without_nvidia_smi_some_is_unknown(machine):
    fault = TrainerError("nvidia-smi fails.")
    found = machine(1, None, fault, fault)
    assert found["driver"].startswith("unknown; ")
    assert found["memory"] == found["peer access"] == "unknown. nvidia-smi fails."


def test_a_machine_without_a_driver_has_nothing_to_say(machine):
    assert machine(0, None, [], {}) == {}


def test_a_driver_without_gpus_is_worth_a_word(machine):
    said = machine(0, "550.54.15", [], {})
    assert list(said) == ["driver"]
    assert said["driver"].startswith("550.54.15, but TensorFlow sees no GPU: its CUDA libraries")
