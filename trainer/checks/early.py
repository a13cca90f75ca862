"""What samestep-doctor looks at first, in seconds. No TensorFlow: it may be what is wrong."""

from collections.abc import Iterator, Mapping

from input.errors import InputError
from input.native import library
from trainer.checks import cluster, machine, reading, space, versions
from trainer.checks.finding import Finding, wrong
from trainer.config import Config


class Early:
    """The checks, and what is known when all are made."""

    def __init__(self, config: Config, environ: Mapping[str, str]):
        self.sound = True  # nothing is wrong
        self.read_per_second: float | None = None  # records; None: not measured
        self._config = config
        self._environ = environ

    def examine(self) -> Iterator[Finding]:
        """Every check, whatever the ones before it say.

        Of what is not given, --data_dir or --run_dir, nothing is said.
        """
        for finding in self._examine():
            self.sound &= finding.verdict != "wrong"
            yield finding

    def _examine(self) -> Iterator[Finding]:
        yield from versions.examine()
        found, workers = cluster.examine(self._environ)
        yield found
        yield machine.clock(cluster.machines(workers))
        yield machine.shared_memory(len(workers.addresses))
        yield _decoder(self._config.input.decoder)
        if self._config.run.run_dir:
            yield from space.examine(self._config.run.run_dir)
        if self._config.input.data_dir:
            self.read_per_second = yield from reading.examine(self._config)


def _decoder(asked: str) -> Finding:
    try:
        return Finding("decoder", "ok", library.version(library.resolve(asked)))
    except InputError as error:
        return wrong("decoder", error)
