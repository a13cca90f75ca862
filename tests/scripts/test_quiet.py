"""The known lines of TensorFlow are dropped; every other line, exit and signal passes."""

import tempfile

import pytest

from scripts import quiet
from tests.conftest import error
from tests.scripts.conftest import python

NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1.4  3 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be
I0000 00:00:1.4  3 port.cc:153] oneDNN custom operations are on. You may see slightly different
2025-10-23 23:20:13.7: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on. You may
E0000 00:00:1 cuda_dnn.cc:83] Unable to register cuDNN factory: Attempting to register factory for
I0000 00:00:1  3 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use available CPU
E0000 00:00:1.5  3 util.cc:131] oneDNN supports DT_UINT8 only on platforms with AVX-512. Falling
To enable the following instructions: AVX2, in others, rebuild TensorFlow with the appropriate
E0000 00:00:1.4  3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: UNKNOWN ERROR (303)
"""
SIGNAL = """\
E0000 00:00:1.4  3 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_NOT_PERMITTED (800)
W0000 00:00:1.4  3 gpu_device.cc:2342] Cannot dlopen some GPU libraries.
oneDNN, cuInit and cudart are words
"""


@pytest.mark.parametrize(
    ("end", "code", "tail"),
    [
        ("pass", 0, ""),
        ("os.write(2, b'half a line')", 0, "half a line"),
        ("os._exit(7)", 7, ""),
        ("os.abort()", -6, ""),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_the_filter_drops_the_known_lines_and_no_others(end, code, tail):
    ended = python(
        "-c",
        "import os\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        f"    os.write(2, {(NOISE + SIGNAL + NOISE).encode()!r})\n"
        f"    {end}",
    )
    assert ended.returncode == code
    assert ended.stderr == SIGNAL + tail


def test_a_failed_import_keeps_what_it_wrote_and_its_traceback():
    failed = python(
        "-c",
        "import os\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        "    os.write(2, b'libfoo is broken\\n')\n"
        "    import no_such_module",
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("libfoo is broken\nTraceback")
    assert failed.stderr.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_a_child_started_meanwhile_is_still_heard_and_not_waited_for():
    ended = python(
        "-c",
        "import subprocess, sys\nfrom scripts.quiet import filtered_stderr\n"
        "with filtered_stderr():\n"
        "    subprocess.Popen(['sh', '-c', 'sleep 1.5; echo late >&2'])\n"
        "print('on', file=sys.stderr)",
    )
    assert ended.stderr == "on\nlate\n"


def test_tensorflow_loads_without_its_noise_and_unconfigured():
    loaded = python(
        "-c",
        "from scripts.quiet import quiet_tensorflow\nquiet_tensorflow(say=False)\n"
        "import tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "four = [tf.config.LogicalDeviceConfiguration()] * 4\n"
        "tf.config.set_logical_device_configuration(cpu, four)\n"
        "print(len(tf.config.list_logical_devices('CPU')))",
    )
    assert loaded.stdout == "4\n"
    assert loaded.stderr == ""


def test_a_machine_without_room_for_temporary_files_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nowhere")])
    said = error(quiet.quiet_tensorflow)
    assert said.startswith("No usable temporary directory found in ")
    assert said.endswith(", and TensorFlow needs one. Make room there, or set TMPDIR.")
