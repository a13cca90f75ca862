"""The native decoder under AddressSanitizer and UndefinedBehaviorSanitizer, on mutated records.

make test-native: a million of them. In make test a few, so that this keeps working.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from input.native import library
from tests.conftest import ROOT, encoded, picture, write_row
from tests.input.prepare.odd_images import ODD

PROCESSES = 2
FLAGS = ("-g", "-O1", "-std=gnu11", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra")

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not library.available(),
    reason="a C compiler, or the headers of libjpeg-turbo and libpng, are missing",
)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sanitized") / "decode.so"
    sources = [ROOT / "input" / "native" / name for name in ("records.c", "views.c")]
    subprocess.run(
        [
            *("cc", *FLAGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
            *(*sources, "-o", path, "-ljpeg", "-lpng", "-lpthread"),
        ],
        check=True,
    )
    return path


def seeds() -> list[bytes]:
    """Usual and odd images, none above 4 KB."""
    found = [content for content in ODD.values() if len(content) < 4096]
    for kind, mode, options in (
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"subsampling": 0, "restart_marker_blocks": 1}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
    ):
        for height, width in ((1, 1), (9, 30), (33, 17)):
            file = io.BytesIO()
            picture(1, height, width).convert(mode).save(file, kind, **options)
            found += [file.getvalue()] * 5
    return [*found, encoded(picture(2, 40, 40), "PNG")]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number, content in enumerate(seeds()):
        (folder / f"{number:04d}").write_bytes(content)
    return folder


def fuzz(path: Path, images: Path, count: int, seed: int) -> subprocess.CompletedProcess:
    runtime = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    # Python leaks at its end by design.
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    argv = [sys.executable, "-m", "tests.input.native.fuzz"]
    argv += [str(path), str(images), str(count), str(seed)]
    return subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "count", [10_000, pytest.param(1_000_000, marks=pytest.mark.native)], ids=["few", "many"]
)
def test_mutated_records_are_decoded_or_refused_and_nothing_else(sanitized, images, count, request):
    with ThreadPoolExecutor(PROCESSES) as pool:
        share = -(-count // PROCESSES)
        done = list(pool.map(lambda seed: fuzz(sanitized, images, share, seed), range(PROCESSES)))
    outcomes = []
    for process in done:
        assert process.returncode == 0, process.stderr[-5000:]
        outcomes.append(json.loads(process.stdout.splitlines()[-1]))
    decoded, refused = (sum(each[kind] for each in outcomes) for kind in ("decoded", "refused"))
    assert decoded + refused >= count
    assert min(decoded, refused) > count / 10
    if page := request.config.getoption("--attack-table"):
        row = [f"{count:,}", f"{decoded:,}", f"{refused:,}", "0"]
        columns = ["mutated records", "decoded", "refused by name", "findings"]
        write_row(Path(page), "Native decoder", columns, row, keys=1)


def test_what_reads_too_far_would_be_found(tmp_path):
    """The sanitizers are at work: a program that reads a byte too many ends with their message."""
    source = tmp_path / "x.c"
    source.write_text("char f(char *p, int i) { return p[i]; }\n")
    library_ = tmp_path / "x.so"
    subprocess.run(["cc", *FLAGS, "-fsanitize=address", source, "-o", library_], check=True)
    runtime = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    program = f"import ctypes; f = ctypes.CDLL('{library_}').f; m = ctypes.CDLL(None).malloc; "
    program += "m.restype = ctypes.c_void_p; f(ctypes.c_void_p(m(8)), 8)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
    )
    assert "heap-buffer-overflow" in done.stderr
