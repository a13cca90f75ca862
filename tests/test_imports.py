"""Imports go one way."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("input", "models", "trainer", "scripts")
# Modules of trainer that join input, models and the leaves; every other one is a leaf.
JOINS = {"assembly", "benchmark", "doctor", "evaluate", "export", "input_benchmark", "loop", "plan"}
# Besides trainer.errors, what a leaf may import of ours: settings for the definition of a run,
# the exact sum for the step.
LEAF_IMPORTS = {
    "cluster": {"trainer.workers.discovery", "trainer.errors"},
    "kubernetes": {"trainer.config", "trainer.workers.discovery", "trainer.errors"},
    "local": {
        "trainer.config",
        "trainer.workers.discovery",
        "trainer.errors",
        "trainer.launch.reaper",
    },
    "slurm": {"trainer.config", "trainer.errors"},
    "config": {"input.config", "models.config", "trainer.errors"},
    "step": {"trainer.fixed_point"},
}


def modules():
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = ROOT / Path(*node.module.split(".")) / f"{alias.name}.py"
                found.add(f"{node.module}.{alias.name}" if inner.is_file() else node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


def allowed(path: Path, name: str) -> bool:
    package, target = path.relative_to(ROOT).parts[0], name.split(".")[0]
    if package in ("input", "models"):
        return target == package
    if package == "scripts":
        return True
    if path.stem in JOINS:
        return target != "scripts"
    return name in LEAF_IMPORTS.get(path.stem, {"trainer.errors"})


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    wrong = {name for name in imports(path) if not allowed(path, name)}
    assert not wrong, f"{path} must not import {wrong}"


@pytest.mark.parametrize("name", ["global_batch_size", "micro_batch_size"])
def test_only_input_computes_with_the_batch(name):
    """Elsewhere the name is a text, or an attribute that is handed on to a text or to input."""
    for path in modules():
        if path.relative_to(ROOT).parts[0] == "input":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp | ast.Compare | ast.UnaryOp | ast.AugAssign):
                inside = [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)]
                inside += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
                assert name not in inside, f"{path}:{node.lineno} computes with {name}"
