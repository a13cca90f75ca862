"""What ends a run, and the exit code that says so."""

from input.foundation.errors import UserError

# A worker that made no step for too long ends itself with this code: EX_SOFTWARE of sysexits.h.
STALLED = 70
INTERRUPTED = 130  # 128 + SIGINT, as shells count


class TrainerError(UserError):
    """A setting, file, device or checkpoint is wrong; the message is one line with the way out."""


class ClusterError(TrainerError):
    """The cluster is at fault and no setting: a worker is gone, or a port taken."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


class PreemptedError(TrainerError):
    """The run was asked to stop, has saved, and goes on when it is started again."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h
