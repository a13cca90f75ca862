"""Every module has its tests where one looks for them, and every test file says what it tests."""

import configparser

import pytest

from tests.conftest import ROOT

PACKAGES = ("input", "models", "trainer", "scripts")
COMMAND = "one call: scripts/test_commands.py runs it as a process"
ERRORS = "classes without code; scripts/test_doorway.py sees their exit codes"
# Module -> why it has no test file of its own.
WITHOUT_TESTS = {
    "input/foundation/errors.py": ERRORS,
    "models/errors.py": ERRORS,
    "scripts/train.py": COMMAND,
    "scripts/evaluate.py": COMMAND,
    "scripts/export.py": COMMAND,
    "scripts/doctor.py": COMMAND,
}
# Test file -> why it mirrors no module.
CROSS_CUTTING = {
    "test_gpus.py": "the commands on GPUs, as processes",
    "test_imports.py": "who may import whom, in all packages",
    "test_layout.py": "this file",
    "test_crashes.py": "every kind of save, of input and of trainer, interrupted at any call",
    "test_json_fuzz.py": "damage to any JSON file, of input and of trainer",
    "test_attack.py": "runs, data sets and commands under attack",
    "test_byte_fuzz.py": "changed bytes of any file that is read back",
    "test_full_disk.py": "no room at any system call of a save",
    "test_odd_files.py": "odd things in place of files, of input and of trainer",
    "input/native/test_sanitizers.py": "records.c and views.c on mutated records",
    "input/test_fuzz.py": "damage to any file of the records",
    "input/test_bad_records.py": "a bad record's way from reader to pipeline",
    "input/test_determinism.py": "pipeline and views in a process with op determinism",
    "scripts/test_commands.py": "the commands as processes, from settings to exit code",
    "scripts/test_presets.py": "the flagfiles, from parsing to two steps",
    "scripts/test_every_flag.py": "each setting of a run, and what it changes",
    "scripts/test_texts.py": "README, the map and docs",
    "scripts/test_troubleshooting.py": "messages, as a page of docs has them",
    "scripts/test_documents.py": "every block of README and docs, run",
    "trainer/test_replicas.py": "a step and its model on 1, 2 and 4 replicas: the same bits",
    "trainer/test_invariance.py": "the invariance matrix: any split over workers and devices",
    "models/test_applications.py": "keras.applications, on 1 and 2 replicas",
    "trainer/test_resume.py": "a run that was killed and is resumed, on other hardware",
    "trainer/launch/test_slurm_cluster.py": "a real Slurm, launcher and workers",
    "trainer/workers/test_kills.py": "workers and launcher, through any kill",
    "trainer/workers/test_workers.py": "several workers, from their environment to their weights",
}

# Those with something in them: most __init__.py are empty.
MODULES = sorted(
    str(path.relative_to(ROOT))
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path.stat().st_size
)
TESTS = sorted(
    str(path.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")
)


def mirrored(module: str) -> str:
    """input/views/crop.py -> input/views/test_crop.py."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}"


@pytest.mark.parametrize("module", [module for module in MODULES if module not in WITHOUT_TESTS])
def test_a_module_has_its_test_file(module):
    missing = mirrored(module) not in TESTS
    assert not missing, f"tests/{mirrored(module)} is missing"


@pytest.mark.parametrize("path", [path for path in TESTS if path not in CROSS_CUTTING])
def test_a_test_file_mirrors_a_module(path):
    alone = path not in map(mirrored, MODULES)
    assert not alone, f"tests/{path} is of no module: move it, or list it in CROSS_CUTTING"


def test_the_exceptions_are_exceptions():
    assert set(WITHOUT_TESTS) <= set(MODULES)
    assert not set(map(mirrored, WITHOUT_TESTS)) & set(TESTS)
    assert set(CROSS_CUTTING) <= set(TESTS)
    assert not set(map(mirrored, MODULES)) & set(CROSS_CUTTING)


def test_every_folder_is_a_package_that_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    folders = {module.rpartition("/")[0].replace("/", ".") for module in MODULES}
    assert set(setup["options"]["packages"].split()) == folders
    for folder in folders:
        assert (ROOT / folder.replace(".", "/") / "__init__.py").is_file()
