"""Imports go one way, --help loads no TensorFlow, and a module fits on a few pages."""

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("input", "models", "trainer", "scripts")
FOUNDATION = "input.foundation"
# Modules of trainer that join input, models and the rest of trainer; every other one is a leaf.
JOINS = {
    f"trainer.{name}"
    for name in (
        *(
            "assembly",
            "tracing",
            "incidents",
            "probe",
            "preflight",
            "data",
            "loop",
            "transfer",
            "evaluate",
            "predict",
            "export",
            "doctor",
            "forecast",
            "cards",
            "notebook",
            "recording",
            "replay",
            "verify",
            *(f"checks.{name}" for name in ("early", "reading", "feeding")),
            "board.show",
            "chief",
            "report.page",
        ),
    )
}
# What a leaf may import of ours besides the foundation and trainer.errors. A folder's row, which
# ends in a dot, is for all of its modules.
LEAF_IMPORTS = {
    "trainer.audit": {"trainer.axes.", "trainer.internals"},
    "trainer.axes.": {"trainer.axes."},
    "trainer.findings": {"trainer.run_dir", "trainer.state"},
    "trainer.checks.": {
        *("trainer.checks.", "trainer.run_dir"),
        *("trainer.workers.discovery", "trainer.workers.nvidia"),
    },
    "trainer.config": {"input.config", "models.config", "models.names", "trainer.recipe"},
    "trainer.internals": {"input.internals"},
    "trainer.run_dir": {"trainer.config"},
    "trainer.provenance": {"models.names", "models.source", "trainer.config"},
    "trainer.losses": {"trainer.internals"},
    "trainer.optimizers": {"trainer.lars", "trainer.recipe"},
    "trainer.hooks": {"trainer.workers.discovery"},
    "trainer.launches": {"trainer.run_dir"},
    "trainer.metrics": {"trainer.run_dir"},
    "trainer.totals": {"trainer.launches", "trainer.ledger", "trainer.metrics"},
    "trainer.rows": {"trainer.step"},
    "trainer.waits": {"trainer.internals", "trainer.iterators"},
    "trainer.iterators": {"trainer.internals"},
    "trainer.command": {"trainer.config"},
    "trainer.monitor": {
        *("trainer.board.", "trainer.hooks", "trainer.ledger", "trainer.metrics"),
        *("trainer.run_dir", "trainer.state"),
    },
    "trainer.board.": {"input.records", "trainer.board.", "trainer.internals", "trainer.step"},
    "trainer.checkpoint": {
        *("trainer.averages", "trainer.findings", "trainer.fingerprint", "trainer.internals"),
        "trainer.loss_scale",
        *("trainer.run_dir", "trainer.state"),
    },
    "trainer.comparison": {
        *("trainer.config", "trainer.metrics", "trainer.receipt", "trainer.run_dir"),
    },
    "trainer.fingerprint": {"trainer.internals"},
    "trainer.step": {
        *("trainer.audit", "trainer.averages", "trainer.fixed_point", "trainer.internals"),
        *("trainer.losses", "trainer.micro_batch", "trainer.sums"),
    },
    "trainer.micro_batch": {
        *("trainer.audit", "trainer.internals", "trainer.loss_scale", "trainer.losses"),
        "trainer.sums",
    },
    "trainer.crosscheck": {"trainer.micro_batch"},
    "trainer.skips": {"trainer.fixed_point", "trainer.step"},
    "trainer.sums": {"trainer.digest", "trainer.fixed_point"},
    "trainer.pictures.": {"trainer.findings", "trainer.pictures."},
    "trainer.placement": {
        *("trainer.axes.", "trainer.internals", "trainer.micro_batch", "trainer.step"),
    },
    "trainer.gpus": {"trainer.workers.nvidia"},
    "trainer.links": {"trainer.sums", "trainer.workers.watchdog"},
    "trainer.workers.": {"trainer.internals", "trainer.workers."},
    "trainer.launch.": {"trainer.workers.discovery", "trainer.workers.progress", "trainer.launch."},
}
MAX_LINES = 300


def module_name(path: Path) -> str:
    """input/views/crop.py -> input.views.crop; input/views/__init__.py -> input.views."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(tree: ast.AST) -> set[str]:
    """Modules that a tree's code imports, at any depth; names of ours in full."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def inside(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def matches(name: str, entry: str) -> bool:
    """Whether an entry of LEAF_IMPORTS, a module or a folder, is for a module."""
    return name.startswith(entry) if entry.endswith(".") else name == entry


def allowed_for_a_leaf(name: str, target: str) -> bool:
    entries = [entry for row in LEAF_IMPORTS if matches(name, row) for entry in LEAF_IMPORTS[row]]
    return any(matches(target, entry) for entry in ["trainer.errors", *entries])


def allowed(name: str, target: str) -> bool:
    """Whether one module of ours may import another."""
    if inside(name, FOUNDATION):
        return inside(target, FOUNDATION)
    if inside(target, FOUNDATION):
        return True
    if inside(name, "input"):
        from_prepare = inside(name, "input.prepare")
        return inside(target, "input") and (from_prepare or not inside(target, "input.prepare"))
    if inside(name, "models"):
        return inside(target, "models")
    if inside(name, "scripts"):
        return True
    if name in JOINS:
        return not inside(target, "scripts")
    return allowed_for_a_leaf(name, target)


def imports_of_ours(name: str) -> set[str]:
    targets = imports(ast.parse(MODULES[name].read_text()))
    return {target for target in targets if target.split(".")[0] in PACKAGES}


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    wrong = sorted(target for target in imports_of_ours(name) if not allowed(name, target))
    assert not wrong, f"{name} must not import {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("name", "target", "may"),
    [
        ("input.foundation.settings", "input.foundation.errors", True),
        ("input.foundation.settings", "input.errors", False),
        ("input.order", "input.foundation.settings", True),
        ("input.order", "input.views.crop", True),
        ("input.order", "input.prepare.config", False),
        ("input.views.crop", "input.prepare", False),
        ("input.prepare.show", "input.views.crop", True),
        ("input.order", "models.config", False),
        ("models.build", "input.foundation.errors", True),
        ("models.build", "input.config", False),
        ("models.build", "trainer.errors", False),
        ("trainer.loop", "input.pipeline", True),
        ("trainer.loop", "scripts", False),
        ("trainer.cards", "scripts.flags", False),
        ("trainer.config", "input.config", True),
        ("trainer.config", "input.order", False),
        ("trainer.audit", "trainer.axes.rules", True),
        ("trainer.audit", "trainer.config", False),
        ("trainer.workers.strategy", "trainer.internals", True),
        ("trainer.workers.strategy", "trainer.config", False),
        ("trainer.launch.local", "trainer.workers.discovery", True),
        ("trainer.launch.local", "trainer.workers.strategy", False),
        ("scripts.benchmarks.step", "models.layers", True),
    ],
)
def test_the_rules_say(name, target, may):
    assert allowed(name, target) == may


@pytest.mark.parametrize("row", LEAF_IMPORTS)
def test_what_a_leaf_may_import_it_does(row):
    names = [name for name in MODULES if matches(name, row)]
    targets = set().union(*(imports_of_ours(name) for name in names))
    unneeded = {e for e in LEAF_IMPORTS[row] if not any(matches(t, e) for t in targets)}
    assert not unneeded, f"{row} imports no {', '.join(sorted(unneeded))}"


@pytest.mark.parametrize("name", sorted(JOINS))
def test_what_may_join_joins(name):
    beyond = {target for target in imports_of_ours(name) if not inside(target, FOUNDATION)}
    assert not all(allowed_for_a_leaf(name, target) for target in beyond), f"{name} is a leaf"


def imports_when_loaded(path: Path) -> set[str]:
    """Modules that are imported when a file is, and not in a call of its functions."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return imports(tree)


ENTRIES = [name for name in MODULES if Path(*name.split(".")).parent == Path("scripts")]


@pytest.mark.parametrize("entry", ENTRIES)
def test_what_help_loads_imports_no_tensorflow(entry):
    """Help takes 0.2 s; TensorFlow alone 3 s."""
    waiting, chains = [entry], {entry: [entry]}
    for name in waiting:  # which grows
        for target in sorted(imports_when_loaded(MODULES[name])):
            chain = [*chains[name], target]
            assert target.split(".")[0] not in ("tensorflow", "keras"), " -> ".join(chain)
            if target in MODULES and target not in chains:
                chains[target] = chain
                waiting.append(target)


@pytest.mark.parametrize("name", ["global_batch_size", "micro_batch_size"])
def test_only_input_computes_with_the_batch(name):
    """Elsewhere the name is a text, or an attribute that is handed on to a text or to input."""
    for module, path in MODULES.items():
        if inside(module, "input"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp | ast.Compare | ast.UnaryOp | ast.AugAssign):
                names = [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)]
                names += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
                assert name not in names, f"{path}:{node.lineno} computes with {name}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_at_most_300_lines(name):
    lines = len(MODULES[name].read_text().splitlines())
    assert lines <= MAX_LINES, f"{name} has {lines} lines: it is two modules"
