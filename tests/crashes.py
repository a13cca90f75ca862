"""What a crash can leave: a program's system calls, recorded by strace and replayed.

A file's content is on the disk when the file was synced, its name when its folder was. Between two
calls a process may be killed (everything it did is there), or the power may go (of what was not
synced, the contents, or the names too, are lost).
"""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = (
    "open,openat,creat,write,pwrite64,writev,lseek,ftruncate,truncate,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,fsync,fdatasync,close,dup,"
    "dup2,dup3,copy_file_range,sendfile,fallocate,mmap"
)
# "a" or <path> with every byte in hexadecimal, as strace -xx writes them.
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PATH = re.compile(r"(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2}|[^>])*)>")
KILLED, CONTENTS_LOST, NAMES_LOST = "killed", "power cut, contents", "power cut, names"


@dataclass
class File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Folder:
    entries: dict[str, Any] = field(default_factory=dict)
    synced: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    name: str
    arguments: str
    result: int

    @property
    def texts(self) -> list[bytes]:
        return [_unhex(text) for text in _TEXT.findall(self.arguments)]

    def path(self, place: int = 0) -> str:
        """The place-th path that the call names: joined with its folder where it is relative."""
        bases = [_unhex(base).decode() for _, base in _PATH.findall(self.arguments)]
        base = bases[place] if place < len(bases) else "/"
        return str(Path(base, self.texts[place].decode()))

    @property
    def descriptor_path(self) -> str:
        """The path of the descriptor that is the first argument."""
        return _unhex(_PATH.findall(self.arguments)[0][1]).decode()

    @property
    def descriptor(self) -> int:
        return int(self.arguments.partition("<")[0])


def record(argv: Sequence[str], root: Path, trace: Path, cwd: Path) -> list[Call]:
    """Runs a program to its end; the calls of it that concern files below `root`, in order."""
    strace = [
        "strace",
        "--seccomp-bpf",
        "-f",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "-e",
        f"trace={CALLS}",
    ]
    subprocess.run([*strace, "-o", str(trace), *argv], check=True, cwd=cwd)
    marked = root.as_posix().encode().hex()
    hexed = "".join(f"\\x{marked[i : i + 2]}" for i in range(0, len(marked), 2))
    return [call for call in _parse(trace) if hexed in call.arguments]


def _parse(trace: Path) -> Iterator[Call]:
    unfinished: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        process, _, text = line.partition(" ")
        text = text.lstrip()
        if text.endswith("<unfinished ...>"):
            unfinished[process] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            text = unfinished.pop(process) + text[resumed.end() :]
        if parsed := re.fullmatch(r"(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+)(.*)", text):
            name, arguments, result, rest = parsed.groups()
            if not result.startswith("-"):
                yield Call(name, f"{arguments} -> {rest}", int(result, 0))


def _unhex(text: str) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode())


class Disk:
    """The folders below `root`, as the calls leave them."""

    def __init__(self, root: Path):
        self._root = root
        self._top = Folder()
        self._open: dict[int, tuple[File | Folder, int]] = {}  # descriptor -> what, offset

    def apply(self, call: Call) -> None:
        name = call.name
        if name in ("open", "openat", "creat"):
            self._opened(call)
        elif name in ("write", "pwrite64", "writev"):
            self._written(call)
        elif name in ("fsync", "fdatasync"):
            found = self._open[call.descriptor][0]
            found.synced = bytes(found.content) if isinstance(found, File) else dict(found.entries)
        elif name == "close":
            self._open.pop(call.descriptor, None)
        elif name.startswith("rename"):
            old, new = call.path(0), call.path(1)
            parent, last = self._parent(old)
            moved = parent.entries.pop(last)
            parent, last = self._parent(new)
            parent.entries[last] = moved
        elif name.startswith("mkdir"):
            parent, last = self._parent(call.path())
            parent.entries[last] = Folder()
        elif name.startswith(("unlink", "rmdir")):
            parent, last = self._parent(call.path())
            del parent.entries[last]
        elif name == "ftruncate":
            found, _ = self._open[call.descriptor]
            size = int(call.arguments.partition(", ")[2].split(" ")[0])
            found.content[:] = found.content[:size].ljust(size, b"\0")
        elif name == "lseek":
            if call.descriptor in self._open:  # else a copy of a folder's, to list it
                self._open[call.descriptor] = self._open[call.descriptor][0], call.result
        elif name != "mmap" or ("PROT_WRITE" in call.arguments and "MAP_SHARED" in call.arguments):
            raise NotImplementedError(f"{name}({call.arguments[:200]})")

    def lay(self, folder: Path, view: str) -> None:
        """Makes `folder` what the disk would hold after a crash now."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._lay(self._top, folder, view)

    def _lay(self, found: Folder, folder: Path, view: str) -> None:
        entries = found.synced if view == NAMES_LOST else found.entries
        for name, each in entries.items():
            if isinstance(each, Folder):
                (folder / name).mkdir()
                self._lay(each, folder / name, view)
            else:
                content = each.content if view == KILLED else each.synced
                (folder / name).write_bytes(content)

    def _opened(self, call: Call) -> None:
        path, flags = call.path(), call.arguments
        if path == str(self._root):
            self._open[call.result] = self._top, 0
            return
        parent, name = self._parent(path)
        if "O_CREAT" in flags or call.name == "creat":
            parent.entries.setdefault(name, File())
        found = parent.entries.get(name)
        if found is None:
            raise FileNotFoundError(path)
        if isinstance(found, File) and ("O_TRUNC" in flags or call.name == "creat"):
            found.content.clear()
        at_end = isinstance(found, File) and "O_APPEND" in flags
        self._open[call.result] = found, len(found.content) if at_end else 0

    def _written(self, call: Call) -> None:
        found, offset = self._open[call.descriptor]
        data = b"".join(call.texts)[: call.result]
        if call.name == "pwrite64":
            at = int(re.search(r", (\d+) ->", call.arguments)[1])
        else:
            at = offset
            self._open[call.descriptor] = found, offset + len(data)
        found.content[at : at + len(data)] = data

    def _parent(self, path: str) -> tuple[Folder, str]:
        *above, name = Path(path).relative_to(self._root).parts
        folder = self._top
        for each in above:
            folder = folder.entries[each]
        return folder, name
