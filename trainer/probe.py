"""The largest micro-batch that this machine's devices can train, found by trying. No TensorFlow."""

from collections.abc import Callable

from input.order import divisors
from trainer.errors import TrainerError

SMALL = 16  # images: a BatchNorm over fewer is noisy (Wu and He 2018, arXiv:1803.08494, fig. 1)


def largest(
    images_per_step: int, replicas: int, why_not: Callable[[int], str], say: Callable[[str], None]
) -> int:
    """Tries what one replica has of a step, then the next divisor of at most half of it, and so on.

    why_not: a micro-batch -> why it does not fit, or "". Raises TrainerError where none does, or
    the step does not divide.
    """
    if images_per_step % replicas:
        raise TrainerError(
            f"{images_per_step} images a step do not split evenly over {replicas} replicas. Set "
            f"--global_batch_size to a multiple of {replicas}."
        )
    share = images_per_step // replicas
    size = share
    while reason := why_not(size):
        say(f"micro-batches of {size} do not fit: {reason}")
        smaller = [each for each in divisors(share) if each <= size // 2]
        if not smaller:
            raise TrainerError(
                "--micro_batch_size=auto: not even one image fits. Choose a smaller --model or "
                "--image_size."
            )
        size = smaller[-1]
    note = ""
    if size < SMALL:
        note = f"; a BatchNorm over fewer than {SMALL} images is noisy: choose a model without one"
    say(
        f"micro-batches of {size} fit: the largest of {share}, {share // 2 or 1}, .. that do. "
        f"--micro_batch_size={size} is the same run anywhere{note}"
    )
    return size
