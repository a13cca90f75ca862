"""The chain: what is added follows from what is there; what was changed or moved is named."""

import json
from dataclasses import replace

import pytest

from input.foundation import durable
from trainer import receipt
from trainer.receipt import KINDS, Hashes, Receipt

RUN = "f" * 64  # whose it is


def hashes(step: int) -> Hashes:
    return Hashes(step, *(f"{kind} of {step}" for kind in KINDS))


def write(folder, steps, before: str = RUN) -> list[receipt.Line]:
    lines = []
    for step in steps:
        lines.append(receipt.chained(lines[-1].chain if lines else before, hashes(step)))
        receipt.append(folder, lines[-1])
    return lines


@pytest.fixture
def lines(tmp_path) -> list[receipt.Line]:
    """Of the steps 5, 10, .. 25."""
    return write(tmp_path, range(5, 30, 5))


def edit(folder, change) -> None:
    path = folder / receipt.RECEIPT_FILE
    path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def test_what_was_written_is_read(tmp_path, lines):
    assert receipt.load(tmp_path, RUN) == Receipt(tuple(lines))
    assert receipt.load(tmp_path / "nothing", RUN) == Receipt(())


def test_a_chain_of_another_run_is_none(tmp_path, lines):
    found = receipt.load(tmp_path, "e" * 64)
    assert found == Receipt(
        (), "line 1, of step 5, does not follow from the run that config.json describes"
    )


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("name", ["step", *KINDS, "chain"])
def test_a_changed_value_is_named_by_its_line(tmp_path, lines, place, name):
    def change(texts):
        content = json.loads(texts[place])
        content[name] = content[name] + 1 if name == "step" else "0" + content[name][1:]
        return [*texts[:place], json.dumps(content), *texts[place + 1 :]]

    edit(tmp_path, change)
    found = receipt.load(tmp_path, RUN)
    assert found.lines == tuple(lines[:place])
    assert found.fault.startswith(f"line {place + 1}, of step ")


def test_a_line_that_is_gone_or_moved_breaks_the_chain(tmp_path, lines):
    edit(tmp_path, lambda texts: [texts[0], *texts[2:]])
    found = receipt.load(tmp_path, RUN)
    assert found.lines == (lines[0],)
    assert found.fault == "line 2, of step 15, does not follow from the line before it"
    edit(tmp_path, lambda texts: texts[::-1])
    assert receipt.load(tmp_path, RUN).lines == ()


def test_a_line_that_is_none_is_named(tmp_path, lines):
    edit(tmp_path, lambda texts: [*texts[:3], "{}", *texts[3:]])
    found = receipt.load(tmp_path, RUN)
    assert (found.lines, found.fault) == (tuple(lines[:3]), "line 4 is none of a receipt")


@pytest.mark.parametrize("step", [0, 4, 5, 14, 15, 25, 99])
@pytest.mark.parametrize("torn", ["", '{"step": 30, "rec'])
def test_a_resume_drops_the_steps_that_are_done_again(tmp_path, lines, step, torn):
    """And a line that a kill has cut short; the chain goes on as if nothing had been."""
    path = tmp_path / receipt.RECEIPT_FILE
    with path.open("a") as file:
        file.write(torn)
    kept = [line for line in lines if line.step <= step]
    assert receipt.rewind(tmp_path, step) == (kept[-1].chain if kept else "")
    assert receipt.load(tmp_path, RUN) == Receipt(tuple(kept))
    again = write(tmp_path, range(5 * len(kept) + 5, 30, 5), kept[-1].chain if kept else RUN)
    assert receipt.load(tmp_path, RUN) == Receipt((*kept, *again)) == Receipt(tuple(lines))


def test_a_rewind_keeps_what_is_none_of_its_lines(tmp_path, lines):
    edit(tmp_path, lambda texts: ["by hand", *texts])
    assert receipt.rewind(tmp_path, 10) == lines[1].chain
    assert (tmp_path / receipt.RECEIPT_FILE).read_text().startswith("by hand\n")


def test_a_rewind_writes_nothing_where_nothing_is_to_be_dropped(tmp_path, lines, monkeypatch):
    monkeypatch.setattr(durable, "write", None)
    assert receipt.rewind(tmp_path, 25) == lines[-1].chain
    assert receipt.rewind(tmp_path / "nothing", 0) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_what_differs_is_named_in_the_order_of_a_step(kind):
    assert hashes(5).differing(hashes(5)) == ()
    assert hashes(5).differing(replace(hashes(5), **{kind: "other"})) == (kind,)
    assert hashes(5).differing(hashes(6)) == KINDS


def test_kinds_are_listed_in_words():
    assert receipt.listed(KINDS) == "records, pixels, gradients and weights"
    assert receipt.listed(["weights"]) == "weights"
