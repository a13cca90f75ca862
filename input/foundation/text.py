"""Text from files and their names, made fit to be shown."""


def one_line(text: str) -> str:
    """The text with everything escaped that is no printable character.

    A class or a file may be called anything: escape sequences drive a terminal, line ends forge
    lines, marks of direction reorder what is read (CVE-2021-42574), lone surrogates have no bytes.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """0:09:59"""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
