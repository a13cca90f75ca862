"""What can be refused before TensorFlow is loaded: settings, records, what a run's folder holds.

Loading it takes 3 to 20 s. Commands ask here first; what they start then asks the same functions
for what they find, so that each rule stands here alone.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from input import mistaken, order
from input.arrays import ArrayReader
from input.config import ResolvedInput
from input.errors import InputError
from input.native import library
from input.splits import TRAIN, VALIDATION
from models import names
from trainer import data, provenance, recipe, run_dir
from trainer.choice import Weights
from trainer.config import Config, Hardware, ResolvedConfig, RunConfig, RunDefinition
from trainer.data import Split
from trainer.errors import TrainerError
from trainer.recipe import ResolvedOptimizer
from trainer.workers import discovery
from trainer.workers.discovery import Cluster


@dataclass(frozen=True)
class Prepared:
    """What the settings of a run come to, whatever devices it gets."""

    config: Config  # as the run was begun, where it was
    inputs: ResolvedInput
    optimizer: ResolvedOptimizer
    manifests: Mapping[str, Split]
    class_weights: tuple[float, ...]
    cluster: Cluster


def prepare(
    config: Config,
    first: RunDefinition | None,
    arrays: Mapping[str, ArrayReader] | None = None,
) -> Prepared:
    """A new run, or, with the definition of its first launch, one to resume.

    arrays: train and validation, in place of the records of --data_dir. Raises InputError,
    ModelError or TrainerError.
    """
    names.check(config.model.model)
    if arrays:
        config = _for_arrays(config)
    manifests: Mapping[str, Split] = arrays or data.manifests(config, (TRAIN, VALIDATION))
    trained, validated = (manifests[split].classes for split in (TRAIN, VALIDATION))
    if trained != validated:
        raise InputError(
            f"{config.input.data_dir}: train and validation differ in their classes: "
            f"{_difference(TRAIN, trained, VALIDATION, validated)}. Write both with one "
            "samestep-records write."
        )
    if len({data.image_dtype(manifest) for manifest in manifests.values()}) > 1:
        raise InputError(
            f"{config.input.data_dir}: train has {data.image_dtype(manifests[TRAIN])} pixels and "
            f"validation {data.image_dtype(manifests[VALIDATION])}. Write both in the same way."
        )
    if first is not None:
        config = run_dir.fill_in(config, first.config)
        run_dir.check_same(first, config, data.fingerprints(manifests))
        _check_decoder(first)
    inputs = order.resolve(config.input, manifests[TRAIN].image_size)
    weights = data.class_weights(config.optimizer.class_weights, manifests[TRAIN])
    if first is not None and first.class_weights != weights:
        raise TrainerError(
            f"--class_weights={config.optimizer.class_weights} holds other weights than when the "
            "run began. Put them back, or start in another --run_dir."
        )
    return Prepared(
        config=config,
        inputs=inputs,
        optimizer=recipe.resolve(config.optimizer, inputs.global_batch_size, config.run.epochs),
        manifests=manifests,
        class_weights=weights,
        cluster=discovery.discover(os.environ),
    )


def check(config: Config, hardware: Hardware) -> Cluster:
    """Raises what a run of these settings would. Returns its workers.

    The number of GPUs shows only later, and what --micro_batch_size=auto comes to.
    """
    folder = config.run.run_dir
    first = run_dir.find(folder) if folder else None
    replicas = hardware.virtual_cpus or 1
    if config.input.tries_sizes and first is None:
        config = dataclasses.replace(
            config, input=dataclasses.replace(config.input, micro_batch_size=None)
        )
        replicas = 1
    prepared = prepare(config, first)
    workers = len(prepared.cluster.addresses)
    records = data.reader(config, TRAIN, prepared.manifests[TRAIN]).records
    order.plan(prepared.inputs, records, replicas * workers)
    if first is None and config.run.init_weights:
        check_initial_weights(config.run, config.model.model)
    return prepared.cluster


def check_training(config: Config, hardware: Hardware) -> Cluster:
    """As check, for a run that is to be trained: its folder can be trained in."""
    folder = run_dir.named(config.run)
    cluster = check(config, hardware)
    first = run_dir.find(folder)
    if cluster.index == 0:
        run_dir.check_free(folder)
        run_dir.check_complete(folder, first)
    if first is None:
        _check_own_folder(folder, Path(config.input.data_dir))
    return cluster


def _check_own_folder(folder: Path, data_dir: Path) -> None:
    """Raises TrainerError where a new run would write between records or images."""
    among = folder.resolve().is_relative_to(data_dir.resolve())
    if among or (folder.is_dir() and mistaken.holds_images(folder)):
        what = f"is in --data_dir={data_dir}" if among else "holds images"
        raise TrainerError(
            f"--run_dir={folder} {what}, and a run would write between what is there. Give a "
            "folder of its own, as in --run_dir=runs/first."
        )


def check_initial_weights(run: RunConfig, model: str) -> RunDefinition | None:
    """The run that --init_weights names; None where it names none. ModelError, TrainerError."""
    asked = run.init_weights
    if asked == names.IMAGENET or asked.endswith(names.FILES):
        names.check_weights(asked, model)
        return None
    folder = Path(asked)
    if run.run_dir and folder.resolve() == Path(run.run_dir).resolve():
        raise TrainerError(
            f"--init_weights={folder} is the --run_dir itself. Give the folder of another run, or "
            "leave --init_weights out."
        )
    source = run_dir.load(folder, "--init_weights")
    if source.config.model.model != model:
        provenance.check_named(folder, source, run.init_model, "--init_model")
    return source


def trained(folder: Path, model: str, weights: Weights) -> RunDefinition:
    """The run in a folder, to be evaluated or exported. Raises TrainerError.

    model: the run's, which must be given where it is code of the user's. weights: of --weights.
    """
    first = run_dir.load(folder)
    provenance.check_named(folder, first, model)
    if not run_dir.checkpoints(folder):
        raise TrainerError(
            f"{folder / run_dir.CHECKPOINTS} holds no checkpoint yet: the run has saved none."
        )
    if weights == "averaged" and not first.config.optimizer.ema_decay:
        raise TrainerError(
            f"{folder} has no averages of its weights: --ema_decay was 0. Leave --weights out."
        )
    return first


def evaluated(
    first: RunDefinition, data_dir: str, split: str, arrays: ArrayReader | None = None
) -> tuple[ResolvedConfig, Mapping[str, Split]]:
    """A run's settings for the evaluation of a split, and its records. Raises InputError.

    data_dir: empty: where it was trained from. arrays: in place of the records.
    """
    inputs = decoded_here(first.config.input)
    inputs = dataclasses.replace(inputs, data_dir=data_dir or inputs.data_dir)
    config = dataclasses.replace(first.config, input=inputs)
    manifests: Mapping[str, Split]
    manifests = data.manifests(config, (split,)) if arrays is None else {split: arrays}
    _check_records(first, manifests, inputs.data_dir)
    return config, manifests


def replayed(first: RunDefinition, data_dir: str) -> tuple[ResolvedConfig, Mapping[str, Split]]:
    """A run's settings to compute its steps again, each of them hashed, and its records.

    Raises InputError.
    """
    inputs = dataclasses.replace(
        first.config.input, data_dir=data_dir or first.config.input.data_dir
    )
    run = dataclasses.replace(first.config.run, hash_every=1)
    config = dataclasses.replace(first.config, input=inputs, run=run)
    manifests = data.manifests(config, (TRAIN,))
    _check_records(first, manifests, inputs.data_dir)
    _check_decoder(first)
    return config, manifests


def decoded_here(inputs: ResolvedInput) -> ResolvedInput:
    """TensorFlow's decoder in place of one that was not built here."""
    decoder = inputs.decoder if library.available() else "tensorflow"
    return dataclasses.replace(inputs, decoder=decoder)


def predicted(folder: Path, model: str, weights: Weights, image_dtype: str) -> RunDefinition:
    """The run in a folder, to be given images with pixels of a dtype. Raises TrainerError."""
    first = run_dir.load(folder)
    if first.image_dtype != image_dtype:
        raise TrainerError(
            f"The run in {folder} was trained on {first.image_dtype} pixels, and these are "
            f"{image_dtype}. Image files have uint8 ones; samestep-evaluate reads records of any."
        )
    return trained(folder, model, weights)


def exported(folder: Path, out: Path, model: str, weights: Weights) -> RunDefinition:
    """The run in a folder, to be exported to another that is not there yet. TrainerError."""
    first = trained(folder, model, weights)
    if out.exists():
        raise TrainerError(f"--out={out} exists already. Remove it, or choose another folder.")
    return first


def _for_arrays(config: Config) -> Config:
    """Nothing is decoded, and no other decoder will be met. Raises InputError."""
    if config.input.validation_share:
        raise InputError(
            "--validation_share holds back records in files. Divide the arrays and give both parts."
        )
    return dataclasses.replace(
        config, input=dataclasses.replace(config.input, decoder="tensorflow")
    )


def _check_records(first: RunDefinition, manifests: Mapping[str, Split], data_dir: str) -> None:
    """Raises InputError for records that a run's model cannot be given."""
    for split, manifest in manifests.items():
        if manifest.classes != first.classes:
            raise InputError(
                f"{data_dir}/{split} has other classes than the run was trained on: "
                f"{_difference('the run', first.classes, split, manifest.classes)}."
            )
        if data.image_dtype(manifest) != first.image_dtype:
            raise InputError(
                f"{data_dir}/{split} has {data.image_dtype(manifest)} pixels; the run was trained "
                f"on {first.image_dtype}."
            )


def _check_decoder(first: RunDefinition) -> None:
    """Raises InputError where a run would go on with pixels that another decoder has made."""
    before, decoder = first.environment["decoder"], first.config.input.decoder
    if (now := library.version(decoder)) != before:
        raise InputError(
            f"The run's images were decoded by {before}, and here is {now}: some pixels would "
            "differ. Go on where that is, or begin another run; --decoder=tensorflow depends on "
            "TensorFlow's version alone."
        )


def _difference(one: str, ours: tuple[str, ...], other: str, theirs: tuple[str, ...]) -> str:
    """only train has dog; only validation has cat. Or that the same classes have another order."""
    only = {one: sorted(set(ours) - set(theirs)), other: sorted(set(theirs) - set(ours))}
    found = [f"only {whose} has {', '.join(classes)}" for whose, classes in only.items() if classes]
    return "; ".join(found) or "the same ones in another order"
