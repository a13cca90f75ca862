"""What TensorBoard's dashboards show, each as the message that its plugin reads."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

BUCKETS = 30  # of a histogram, as many as TensorBoard's own have


def scalar(tag: str, value: float) -> Summary:
    metadata = scalar_metadata.create_summary_metadata(None, None)
    return _summary(tag, metadata, np.float32(value))


def text(tag: str, markdown: str) -> Summary:
    return text_pb(tag, markdown)


def image(tag: str, png: bytes) -> Summary:
    width, height = (str(side).encode() for side in Image.open(io.BytesIO(png)).size)
    metadata = image_metadata.create_summary_metadata(None, None, converted_to_tensor=True)
    return _summary(tag, metadata, np.array([width, height, png], object))


def histogram(tag: str, values: np.ndarray) -> Summary:
    """Of all finite elements of an array of any shape.

    Not histogram_pb, which takes 30 bytes for each of them.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    counts, edges = np.histogram(finite, BUCKETS)
    metadata = histogram_metadata.create_summary_metadata(None, None)
    return _summary(tag, metadata, np.stack([edges[:-1], edges[1:], counts], axis=1))


def pr_curve(tag: str, positives: np.ndarray, negatives: np.ndarray) -> Summary:
    """A curve of precision and recall from exact counts.

    positives, negatives: int64[thresholds], images of the class and of the other one whose
    probability of the class is at least 0, 1 / (thresholds - 1), .., 1.
    """
    true, false = positives.astype(np.float64), negatives.astype(np.float64)
    taken, right = true + false, true[0]
    rows = [
        *(true, false, false[0] - false, right - true),
        np.divide(true, taken, out=np.ones_like(true), where=taken > 0),
        np.divide(true, right, out=np.zeros_like(true), where=right > 0),
    ]
    metadata = pr_curve_metadata.create_summary_metadata(tag, "", len(positives))
    return _summary(tag, metadata, np.stack(rows).astype(np.float32))


def hparams(settings: Mapping[str, bool | float | str]) -> Summary:
    """The settings of a run, which is a row of its own, also where another one has the same."""
    return hparams_pb(dict(settings), trial_id="")


def success() -> Summary:
    """The end of a run that was begun with `hparams`."""
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    metadata = hparams_metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=end)
    )
    return _summary(hparams_metadata.SESSION_END_INFO_TAG, metadata, np.float32(0))


def _summary(tag: str, metadata: SummaryMetadata, value: np.ndarray | np.floating) -> Summary:
    tensor = make_tensor_proto(value)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
