"""What a terminal shows of a command at some moment, as a page for a browser."""

import os
import subprocess
import termios
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

import pyte
from pyte.screens import Char

BACKGROUND, FOREGROUND = "1d1f21", "d8dad7"
# As pyte names what is no number of a colour.
COLOURS = {
    "default": FOREGROUND,
    "black": "3a3d40",
    "red": "e06c75",
    "green": "98c379",
    "brown": "e5c07b",
    "blue": "61afef",
    "magenta": "d687c9",
    "cyan": "56b6c2",
    "white": "f0f0f0",
}


def page(command: Sequence[str], until: str, columns: int, lines: int) -> str:
    """Runs a command in a terminal until a line there begins so, and ends it -> HTML.

    Raises ValueError where the command ends before.
    """
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    ours, its = os.openpty()
    termios.tcsetwinsize(its, (lines, columns))
    environ = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environ, start_new_session=True
    ) as process:
        os.close(its)
        try:
            while not any(line.startswith(until) for line in screen.display):
                stream.feed(os.read(ours, 1 << 16))
        except OSError as error:  # nobody has the other side any more
            shown = "\n".join(screen.display)
            raise ValueError(f"{command} has ended without {until!r}:\n{shown}") from error
        finally:
            process.terminate()
            os.close(ours)
    rows = ([screen.buffer[row][column] for column in range(columns)] for row in range(lines))
    return (
        f'<body style="margin:0;background:#{BACKGROUND}"><pre style="margin:16px;'
        f'font:16px/1.25 DejaVu Sans Mono,monospace">{"".join(map(_line, rows))}</pre>'
    )


def _line(characters: Iterable[Char]) -> str:
    parts = []
    for (colour, bold), same in groupby(characters, key=lambda each: (each.fg, each.bold)):
        style = f"color:#{COLOURS.get(colour, colour)};font-weight:{'bold' if bold else 'normal'}"
        parts.append(f'<span style="{style}">{escape("".join(each.data for each in same))}</span>')
    return "".join(parts) + "\n"
