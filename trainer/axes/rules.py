"""Where an operation of a model leaves the batch: on which axis of its outputs, whole and in order.

All is proved from the static shapes and the constants of a traced graph. An operation that is in
none of the tables below, or whose axes are known only when it runs, is refused.
"""

from collections.abc import Callable
from dataclasses import replace

import tensorflow as tf

from trainer.axes.place import (
    BatchError,
    MovedError,
    Place,
    Places,
    axes_input,
    everywhere,
    only,
    rank_of,
    same,
    size_of,
)
from trainer.axes.reshaping import (
    batch_to_space,
    expand_dims,
    pack,
    reshape,
    space_to_batch,
    squeeze,
    tensor_list,
    transpose,
    unpack,
)
from trainer.axes.slicing import gather, strided_slice

Rule = Callable[[tf.Operation, Places], Places]

# Each index of the output is made of the same index of the inputs, broadcast or not.
ELEMENTWISE = frozenset(
    "Abs Acos Acosh Add AddN AddV2 Asin Asinh Atan Atan2 Atanh BitwiseAnd BitwiseOr BitwiseXor "
    "Cast Ceil CheckNumerics ClipByValue Cos Cosh Div DivNoNan EnsureShape Elu Equal Erf Erfc Exp "
    "Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Identity Inv Invert IsFinite IsInf IsNan "
    "LeakyRelu LeftShift Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr Maximum Minimum "
    "Mod Mul MulNoNan Neg NextAfter NotEqual Pow PreventGradient RealDiv Reciprocal Relu Relu6 "
    "RightShift Rint Round Rsqrt SelectV2 Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt "
    "Square SquaredDifference StopGradient Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlog1py "
    "Xlogy".split()
)
# They work on the images of axis 0, each by itself: the position of the images among the inputs.
IMAGEWISE = dict.fromkeys(
    "AdjustContrastv2 AdjustHue AdjustSaturation AvgPool AvgPool3D DepthToSpace "
    "ExtractImagePatches FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 HSVToRGB "
    "ImageProjectiveTransformV2 ImageProjectiveTransformV3 LRN MaxPool MaxPool3D RGBToHSV "
    "ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate "
    "SpaceToDepth".split(),
    0,
)
# The same. They, the products and CUDNN are layers where another input is a weight.
CONVOLUTIONS = {
    "Conv": 0,
    "Conv2D": 0,
    "Conv2DBackpropInput": 2,
    "Conv3D": 0,
    "Conv3DBackpropInputV2": 2,
    "DepthwiseConv2dNative": 0,
    "DepthwiseConv2dNativeBackpropInput": 2,
}
PRODUCTS = frozenset("BatchMatMul BatchMatMulV2 BatchMatMulV3 Einsum MatMul".split())
CUDNN = frozenset(["CudnnRNNV3"])  # LSTM and GRU on GPUs
LAYERS = PRODUCTS | CUDNN | CONVOLUTIONS.keys()
REDUCTIONS = frozenset("All Any ArgMax ArgMin EuclideanNorm Max Mean Min Prod Sum".split())
# What comes out is the batch's size, or has its size alone.
SIZES = frozenset("OnesLike Rank Shape ShapeN Size ZerosLike".split())
# They work along axes that an input names: its position, that of the tensor (None: all others), and
# what they would do to a batch on that axis.
ALONG = {
    "ConcatV2": (-1, None, "joins it with something"),
    "Cumprod": (1, 0, "mixes its images"),
    "Cumsum": (1, 0, "mixes its images"),
    "ReverseV2": (1, 0, "reverses it"),
    "Roll": (2, 0, "rolls it"),
    "Split": (0, 1, "splits it"),
    "SplitV": (2, 0, "splits it"),
}
# They keep every axis, and the batch if they keep its size, which is compared for all.
SAME_AXES = frozenset("BiasAdd MirrorPad Pad PadV2 Slice Tile".split())
# What may read an image in rows: a dense layer, or a convolution with holes.
FOR_ROWS = {
    False: ELEMENTWISE | REDUCTIONS | {"BiasAdd", "MatMul", "Reshape"},
    True: ELEMENTWISE | CONVOLUTIONS.keys() | {"BatchToSpaceND", "ExpandDims", "Squeeze"},
}
LAST_AXIS = frozenset("LogSoftmax Softmax TopKV2".split())


def follow(operation: tf.Operation, places: Places) -> Places:
    """Where the batch is in the inputs -> where it is in the outputs; nowhere, after a statistic.

    Raises BatchError.
    """
    kind = operation.type
    if kind in SIZES:
        return {}
    if any(place.rows > 1 and kind not in FOR_ROWS[place.strided] for place in places.values()):
        raise MovedError
    images = IMAGEWISE | CONVOLUTIONS
    if kind in ELEMENTWISE:
        found = {0: _aligned(operation, places)}
    elif kind in images:
        if only(places, images[kind]).axis:
            raise MovedError
        found = {0: only(places, images[kind])}
    elif kind in SAME_AXES:
        found = {0: only(places, 0)}
    elif kind in _RULES:
        found = _RULES[kind](operation, places)
    else:
        raise BatchError("cannot be shown to leave it alone")
    _check_size(operation, places, found)
    return found


def check_layer(operation: tf.Operation, places: Places) -> None:
    """Raises MovedError for a layer that reads the batch on another axis than its first."""
    if operation.type not in CUDNN and any(place.axis for place in places.values()):
        raise MovedError


def _check_size(operation: tf.Operation, places: Places, found: Places) -> None:
    """The batch has the same size everywhere; a list of tensors has no shape, and is left out."""
    inputs = [(operation.inputs[i], place) for i, place in places.items()]
    outputs = [(operation.outputs[i], place) for i, place in found.items()]
    sizes = {
        size_of(tensor, place.axis) // place.rows
        for tensor, place in inputs + outputs
        if tensor.dtype != tf.variant
    }
    if len(sizes) > 1:
        raise BatchError(f"changes its size ({', '.join(map(str, sorted(sizes)))})")


def _aligned(operation: tf.Operation, places: Places) -> Place:
    """Broadcasting aligns shapes at their ends."""
    rank = rank_of(operation.outputs[0])
    return same(
        replace(place, axis=place.axis + rank - rank_of(operation.inputs[i]))
        for i, place in places.items()
    )


def _along(operation: tf.Operation, places: Places) -> Places:
    position, value, words = ALONG[operation.type]
    axes_position = position % len(operation.inputs)
    if axes_position in places:
        raise BatchError("takes it for something else than images")
    place = same(places.values()) if value is None else only(places, value)
    tensor = operation.inputs[next(iter(places))]
    if place.axis in axes_input(operation, position, tensor):
        raise BatchError(words)
    return everywhere(operation, place)


def _last_axis(operation: tf.Operation, places: Places) -> Places:
    place = only(places, 0)
    if place.axis == rank_of(operation.inputs[0]) - 1:
        raise BatchError("mixes its images")
    return everywhere(operation, place)


def _reduction(operation: tf.Operation, places: Places) -> Places:
    """A statistic of the batch, as BatchNorm takes, is no batch."""
    place = only(places, 0)
    axes = axes_input(operation, 1, operation.inputs[0])
    if place.axis in axes:
        return {}
    if rank_of(operation.inputs[0]) == rank_of(operation.outputs[0]):  # keep_dims
        return {0: place}
    return {0: replace(place, axis=place.axis - sum(axis < place.axis for axis in axes))}


def _product(operation: tf.Operation, places: Places) -> Places:
    """The letter of the batch's axis in each operand must be a letter of the result."""
    if operation.type == "Einsum":
        operands, _, result = operation.get_attr("equation").decode().partition("->")
        letters = operands.split(",")
    else:
        first, second = ("adj_x", "adj_y") if "Batch" in operation.type else _TRANSPOSED
        letters = [
            "...kr" if operation.get_attr(first) else "...rk",
            "...ck" if operation.get_attr(second) else "...kc",
        ]
        result = "...rc"
    rank = rank_of(operation.outputs[0])
    found = []
    for i, place in places.items():
        letter = _letters(letters[i], rank_of(operation.inputs[i]))[place.axis]
        if letter not in _letters(result, rank):
            raise BatchError("sums over it")
        if place.rows > 1 and i != 0:
            raise MovedError
        found.append(Place(_letters(result, rank).index(letter), place.rows))
    return {0: same(found)}


_TRANSPOSED = ("transpose_a", "transpose_b")


def _cudnn(operation: tf.Operation, places: Places) -> Places:
    place = only(places, 0)
    if place.axis != int(operation.get_attr("time_major")):
        raise BatchError("takes it for time")
    return {0: place}


def _reverse_sequence(operation: tf.Operation, places: Places) -> Places:
    place = only(places, 0)
    if place.axis == operation.get_attr("seq_dim"):
        raise BatchError("reverses it")
    return {0: place}


def _letters(subscripts: str, rank: int) -> list[str]:
    """a...b of rank 4 -> a, -2, -1, b: what an ellipsis stands for is aligned at its end."""
    before, dots, after = subscripts.replace(" ", "").partition("...")
    if not dots:
        return list(before)
    count = rank - len(before) - len(after)
    return [*before, *(str(i) for i in range(-count, 0)), *after]


_RULES: dict[str, Rule] = {
    **dict.fromkeys(ALONG, _along),
    **dict.fromkeys(CUDNN, _cudnn),
    **dict.fromkeys(LAST_AXIS, _last_axis),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(REDUCTIONS, _reduction),
    "BatchToSpaceND": batch_to_space,
    "BroadcastTo": lambda operation, places: {0: _aligned(operation, places)},
    "ExpandDims": expand_dims,
    "GatherV2": gather,
    "Pack": pack,
    "Reshape": reshape,
    "ReverseSequence": _reverse_sequence,
    "SpaceToBatchND": space_to_batch,
    "Squeeze": squeeze,
    "StridedSlice": strided_slice,
    "TensorListFromTensor": tensor_list,
    "TensorListGetItem": tensor_list,
    "TensorListSetItem": tensor_list,
    "TensorListStack": tensor_list,
    "Transpose": transpose,
    "Unpack": unpack,
}
