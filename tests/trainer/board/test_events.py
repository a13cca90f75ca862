"""Event files: rewound to any step, sound whatever happened to them, read by TensorBoard."""

import random
import resource
from contextlib import closing

import pytest
from tensorboard.compat.proto.event_pb2 import Event

from tests.trainer.board.conftest import accumulated, events, steps
from trainer.board import summaries
from trainer.board.events import EventFiles


def point(step: int) -> Event:
    return Event(step=step, summary=summaries.scalar("loss", float(step)))


def written(folder, *launches: list[int]) -> None:
    """Event files of some launches, each from the step before its first one."""
    for launch in launches:
        with closing(EventFiles(folder)) as files:
            files.rewind(launch[0] - 1)
            for step in launch:
                files.write([point(step)])


def rewound(folder, last_step: int) -> None:
    with closing(EventFiles(folder)) as files:
        files.rewind(last_step)


@pytest.mark.parametrize(
    ("last_step", "kept"),
    [(-1, []), (0, []), (1, [1]), (2, [1, 2]), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4, 5, 6])],
)
def test_what_is_later_than_a_step_goes(tmp_path, last_step, kept):
    written(tmp_path, [1, 2, 3], [4], [5, 6])
    rewound(tmp_path, last_step)
    assert steps(tmp_path) == kept
    assert [each.step for each in accumulated(tmp_path).Tensors("loss")] == kept if kept else True


def test_a_folder_that_is_not_there_is_made_by_the_first_event(tmp_path):
    with closing(EventFiles(tmp_path / "a" / "b")) as files:
        files.rewind(3)
        assert not (tmp_path / "a").exists()
        files.write([point(4)])
    assert steps(tmp_path / "a" / "b") == [4]


def test_who_has_read_it_already_drops_it_too(tmp_path):
    """No step twice, and none that was undone, in a TensorBoard that was running all the time."""
    written(tmp_path, [1, 2, 3, 4])
    reader = accumulated(tmp_path)
    assert [each.step for each in reader.Tensors("loss")] == [1, 2, 3, 4]
    written(tmp_path, [3])
    assert [each.step for each in reader.Reload().Tensors("loss")] == [1, 2, 3]
    assert [each.step for each in accumulated(tmp_path).Tensors("loss")] == [1, 2, 3]


def test_launches_that_write_nothing_leave_one_file(tmp_path):
    written(tmp_path, [1])
    for _ in range(5):
        rewound(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 2
    assert steps(tmp_path) == [1]


def test_files_are_in_order_whatever_the_clock_says(tmp_path, monkeypatch):
    for seconds in (2e9, 1e9, 3e9):
        monkeypatch.setattr("time.time", lambda now=seconds: now)
        with closing(EventFiles(tmp_path)) as files:
            files.write([point(int(seconds / 1e9))])
    assert steps(tmp_path) == [2, 1, 3]


def test_what_others_have_written_stays(tmp_path):
    other = tmp_path / "events.out.tfevents.1796003035.host.1.v2"
    other.write_bytes(b"anything")
    written(tmp_path, [1, 2])
    rewound(tmp_path, -1)
    assert other.read_bytes() == b"anything"
    assert steps(tmp_path) == []


@pytest.mark.parametrize("seed", range(40))
def test_after_any_damage_what_is_before_it_is_kept(tmp_path, seed):
    written(tmp_path, [1, 2, 3])
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    choose = random.Random(seed)
    place = choose.randrange(len(content))
    content[place] ^= 1 << choose.randrange(8)
    path.write_bytes(content[: choose.choice([len(content), place + 1, place])])
    rewound(tmp_path, 3)
    kept = steps(tmp_path)  # every record that is left is sound
    assert kept == [1, 2, 3][: len(kept)]
    written(tmp_path, [4])
    assert [each.step for each in accumulated(tmp_path).Tensors("loss")] == [*kept, 4]


def test_what_a_full_disk_refuses_leaves_no_half_event(tmp_path):
    """A file may not grow beyond 700 bytes: as on a full disk a part of an event is written."""
    refused = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(EventFiles(tmp_path)) as files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, before[1]))
        try:
            for step in range(1, 21):
                try:
                    files.write([point(step)])
                except OSError:
                    refused.append(step)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        (path,) = tmp_path.iterdir()
        assert path.stat().st_size == 700
        assert len(refused) > 3
        files.write([point(21)])
    assert steps(tmp_path) == [step for step in range(1, 22) if step not in refused]


def test_nothing_is_written_where_nothing_could_be_begun(tmp_path):
    (tmp_path / "train").write_text("no folder")
    with closing(EventFiles(tmp_path / "train")) as files:
        for _ in range(2):
            with pytest.raises(FileExistsError):
                files.write([point(1)])
        (tmp_path / "train").unlink()
        files.write([point(2)])
    assert [event.file_version for event in events(tmp_path / "train")] == ["brain.Event:2", "", ""]
