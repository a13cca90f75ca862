"""Whether the installed packages fit together. No TensorFlow: it may be what does not."""

import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from trainer.checks.finding import Finding

CHECK = "versions"
SHOWN = ("tensorflow", "keras", "numpy", "protobuf")
# The first distribution of a name on sys.path is what Python imports.
Installed = Mapping[str, metadata.Distribution]


def examine(root: str = "samestep") -> Iterator[Finding]:
    """Each requirement that is not met, of a distribution or of one that it needs; or the versions.

    pip refuses no pair of versions that it is told to install one after the other.
    """
    every = list(_named())
    installed: dict[str, metadata.Distribution] = {}
    for name, distribution in every:
        installed.setdefault(name, distribution)
    if root not in installed:
        yield Finding(
            CHECK,
            "warning",
            f"{root} is not installed here, so that nothing says which versions it needs. Install "
            "it: pip install -e .",
        )
        return
    python, problems = platform.python_version(), []
    supported = _line(installed[root], "Requires-Python")
    if supported is not None and not SpecifierSet(supported).contains(python):
        problems.append(f"Python is {python}, and {root} needs {supported}. Use another one.")
    needed: set[str] = set()
    problems += unmet(root, installed, needed)
    problems += shared(every, needed)
    for problem in problems:
        yield Finding(CHECK, "wrong", problem)
    if not problems:
        shown = [f"{name} {installed[name].version}" for name in SHOWN if name in installed]
        yield Finding(CHECK, "ok", ", ".join([*shown, f"Python {python}"]))


def unmet(root: str, installed: Installed, needed: set[str]) -> Iterator[str]:
    """Requirements of a distribution, and of all that it needs, that are not met, with the way out.

    needed: gets their names.
    """
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen = set(waiting)
    for name, extras in waiting:  # which grows
        needed.add(name)
        whole = installed[name]
        for text in whole.requires or ():
            requirement = Requirement(text)
            if not _applies(requirement, extras):
                continue
            other = canonicalize_name(requirement.name)
            wanted = f"{requirement.name}{requirement.specifier}"
            way_out = f"pip install '{wanted}'"
            if other not in installed:
                yield f"{name} {whole.version} needs {wanted}, which is not installed: {way_out}"
                continue
            version = installed[other].version
            if not requirement.specifier.contains(version, prereleases=True):
                yield f"{name} {whole.version} needs {wanted}, and {version} is there: {way_out}"
            item = (str(other), frozenset(requirement.extras))
            if item not in seen:
                seen.add(item)
                waiting.append(item)


def shared(
    distributions: Iterable[tuple[str, metadata.Distribution]], needed: set[str]
) -> Iterator[str]:
    """Folders of needed distributions that others write too: tensorflow and tf-nightly, say.

    The files of the two are mixed, and removing one breaks the other.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    for name, distribution in distributions:
        for folder in _packages(distribution):
            owners[folder].add(name)
    for folder, names in sorted(owners.items()):
        if len(names) > 1 and names & needed:
            keep = min(names & needed)
            yield (
                f"{' and '.join(sorted(names))} are both installed, and both write the folder "
                f"{folder}. Remove both and install one: pip uninstall {' '.join(sorted(names))}; "
                f"pip install {keep}"
            )


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or ("",))


def _named() -> Iterator[tuple[str, metadata.Distribution]]:
    """All that are installed, by name: each METADATA is read anew whenever it is asked."""
    for distribution in metadata.distributions():
        if (name := _line(distribution, "Name")) is not None:
            yield canonicalize_name(name), distribution


def _line(distribution: metadata.Distribution, name: str) -> str | None:
    """Of its METADATA; None where it has none, as what a removal leaves behind has none at all.

    importlib_metadata, once loaded, finds distributions for all who look: it raises for what is
    missing where Python says None.
    """
    try:
        lines = distribution.metadata
        return str(lines[name]) if name in lines else None
    except FileNotFoundError:
        return None


def _packages(distribution: metadata.Distribution) -> set[str]:
    """Top folders with an __init__.py: what no two distributions may have, unlike google/."""
    files = distribution.files or ()
    return {path.parts[0] for path in files if len(path.parts) == 2 and path.name == "__init__.py"}
