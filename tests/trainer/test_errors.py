"""The exit codes that a launcher, Slurm and Kubernetes act on."""

import os

import pytest

from input.foundation.errors import UserError
from trainer.errors import STALLED, ClusterError, PreemptedError, TrainerError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (TrainerError.exit_code, 2),  # a wrong command line, as argparse and shells have it
        (ClusterError.exit_code, os.EX_UNAVAILABLE),
        (PreemptedError.exit_code, os.EX_TEMPFAIL),
        (STALLED, os.EX_SOFTWARE),
    ],
)
def test_exit_codes_are_those_of_sysexits(code, expected):
    assert code == expected


def test_no_two_ends_share_an_exit_code():
    by_itself = (0, 1, 130)  # success, a traceback, Ctrl-C
    ours = [kind.exit_code for kind in (TrainerError, ClusterError, PreemptedError)]
    assert len({*by_itself, *ours, STALLED}) == 7


@pytest.mark.parametrize("kind", [ClusterError, PreemptedError])
def test_every_end_is_a_user_error_of_the_trainer(kind):
    assert issubclass(kind, TrainerError)
    assert issubclass(TrainerError, UserError)
