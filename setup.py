"""Builds the native decoder where a C compiler, libjpeg-turbo and libpng are; else does without."""

import shutil
import subprocess

from setuptools import Extension, setup

LIBRARIES = ("libjpeg", "libpng")


def flags(option: str) -> list[str]:
    """What pkg-config says of the libraries; nothing where it is missing: the usual places."""
    if shutil.which("pkg-config") is None:
        return []
    asked = subprocess.run(
        ["pkg-config", option, *LIBRARIES], capture_output=True, text=True, check=False
    )
    return asked.stdout.split()


setup(
    ext_modules=[
        Extension(
            "input.native._decode",
            ["input/native/records.c", "input/native/views.c"],
            # Integers only; should a floating number come in, it is rounded after each operation.
            extra_compile_args=["-std=gnu11", "-O3", "-ffp-contract=off", *flags("--cflags")],
            extra_link_args=flags("--libs") or ["-ljpeg", "-lpng"],
            optional=True,
        )
    ]
)
