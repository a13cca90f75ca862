"""Layers that the models need and Keras lacks: pixels, BatchNorm as one op, parts of blocks."""

from typing import Any

import keras
import tensorflow as tf

# Mean and deviation of a channel in units of 0..255, channels in RGB order. "unit" maps to
# [-1, 1]; "imagenet" has torchvision's figures; "caffe" has those of the Caffe model zoo, here
# without its flip to BGR: weights start from scratch, so the order of the channels is free.
PIXEL_MODES: dict[str, tuple[float | tuple[float, ...], float | tuple[float, ...]]] = {
    "raw": (0.0, 1.0),
    "unit": (127.5, 127.5),
    "imagenet": (
        (0.485 * 255, 0.456 * 255, 0.406 * 255),
        (0.229 * 255, 0.224 * 255, 0.225 * 255),
    ),
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
}


@keras.saving.register_keras_serializable(package="samestep")
class Pixels(keras.layers.Layer):
    """uint8[M, S, S, C] in 0..255 -> (pixel - mean) / deviation of the mode, in the compute dtype.

    Elementwise from end to end, on the device: a 224-pixel image crosses the bus as 147 KiB
    instead of 588 KiB. A floating input counts as normalised already and is only cast. Raises
    ValueError for other dtypes, and for C other than 3 where the mode has a figure per channel.
    """

    def __init__(self, mode: str = "unit", **kwargs):
        super().__init__(**kwargs)
        if mode not in PIXEL_MODES:
            raise ValueError(f"mode must be one of {', '.join(PIXEL_MODES)}, not {mode!r}.")
        self.mode = mode

    def build(self, input_shape):
        mean, _ = PIXEL_MODES[self.mode]
        # One channel would broadcast silently to three.
        if isinstance(mean, tuple) and input_shape[-1] != len(mean):
            raise ValueError(
                f"mode {self.mode!r} is for images of {len(mean)} channels, not {input_shape[-1]}."
            )

    def call(self, image):
        dtype = tf.as_dtype(image.dtype)
        if dtype.is_floating:
            return tf.cast(image, self.compute_dtype)
        if dtype != tf.uint8:
            raise ValueError(f"pixels must be uint8 (0..255) or floating, not {dtype.name}.")
        mean, deviation = PIXEL_MODES[self.mode]
        # float32, rounded once at the end: bfloat16 would round the mean 123.675 to 123.5.
        normalised = (tf.cast(image, tf.float32) - mean) / deviation
        return tf.cast(normalised, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable(package="samestep")
class FusedBatchNorm(keras.layers.Layer):
    """BatchNorm over [M, H, W, C], channels last, as one FusedBatchNormV3 op (arXiv:1502.03167).

    Equal to keras.layers.BatchNormalization to rounding in output, gradients and moving
    statistics. Under mixed precision the activations keep their 16 bits; gamma, beta and the
    statistics are float32. In training it updates its own replica's moving statistics
    (aggregation "none", as Keras does); the step averages them over micro-batches.
    `trainable = False` means inference, as in Keras; in training it is then no fused op.

    momentum 0.9 and epsilon 1e-5 are the values of He et al. 2016 (arXiv:1512.03385) and Goyal
    et al. 2017 (arXiv:1706.02677); Keras' momentum of 0.99 would leave 37 % of the initial
    statistics in place after 100 steps, 0.9 leaves 0.003 %.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        gamma_initializer: str = "ones",
        center: bool = True,
        scale: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape):
        def weight(name, initializer, trainable):
            return self.add_weight(
                shape=(input_shape[-1],),
                name=name,
                initializer=initializer,
                trainable=trainable,
                dtype="float32",
                autocast=False,
            )

        if self.scale:
            self.gamma = weight("gamma", self.gamma_initializer, trainable=True)
        if self.center:
            self.beta = weight("beta", "zeros", trainable=True)
        self.moving_mean = weight("moving_mean", "zeros", trainable=False)
        self.moving_variance = weight("moving_variance", "ones", trainable=False)

    def call(self, x, training=None):
        if training and not self.trainable:
            return self._frozen(x)
        if not training:
            return self._fused(x, self.moving_mean, self.moving_variance)[0]
        y, mean, variance = self._fused(x)
        # The op divides the squares by n - 1 (Bessel), Keras and the paper's training pass by n.
        # For n = 1 that is 0 times whatever the device made of 0 / 0: 0 here, not NaN.
        n = tf.cast(tf.size(x, tf.int64) // x.shape[-1], tf.float32)
        variance = tf.math.multiply_no_nan(variance, (n - 1.0) / n)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return y

    def _frozen(self, x):
        """Inference inside a training step, in single ops.

        On GPUs the fused op has no deterministic gradient in inference mode, and op determinism
        refuses it. On every device, so that one formula gives the bits of all.
        """
        gamma, beta = self._affine()
        scale = gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
        y = (tf.cast(x, tf.float32) - self.moving_mean) * scale + beta
        return tf.cast(y, x.dtype)

    def _affine(self):
        """gamma and beta, or what stands for one that the layer does without."""
        gamma = self.gamma if self.scale else tf.ones_like(self.moving_mean)
        return gamma, self.beta if self.center else tf.zeros_like(self.moving_mean)

    def _fused(self, x, mean=None, variance=None):
        return tf.compat.v1.nn.fused_batch_norm(
            x,
            *self._affine(),
            mean,
            variance,
            epsilon=self.epsilon,
            is_training=mean is None,
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
            "center": self.center,
            "scale": self.scale,
        }


@keras.saving.register_keras_serializable(package="samestep")
class LayerScale(keras.layers.Layer):
    """[.., C] times a learned factor for each channel (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, start: float, **kwargs):
        super().__init__(**kwargs)
        self.start = start

    def build(self, input_shape):
        self.factor = self.add_weight(
            shape=(input_shape[-1],),
            name="factor",
            initializer=keras.initializers.Constant(self.start),
        )

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable(package="samestep")
class ClassToken(keras.layers.Layer):
    """[M, N, C] -> [M, 1 + N, C]: a learned token in front, and learned positions added to all."""

    def build(self, input_shape):
        _, length, width = input_shape
        small = keras.initializers.TruncatedNormal(stddev=0.02)
        self.token = self.add_weight(shape=(1, 1, width), name="token", initializer="zeros")
        self.positions = self.add_weight(
            shape=(1, 1 + length, width), name="positions", initializer=small
        )

    def call(self, x):
        token = tf.repeat(tf.convert_to_tensor(self.token), tf.shape(x)[0], axis=0)
        return tf.concat([token, x], axis=1) + self.positions

    def compute_output_shape(self, input_shape):
        images, length, width = input_shape
        return (images, 1 + length, width)


def drop_rates(highest: float, blocks: int) -> list[float]:
    """The rates of stochastic depth, which grow evenly from 0 (Huang et al. 2016, eq. 4)."""
    return [highest * number / max(1, blocks - 1) for number in range(blocks)]


def drop_path(x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): a whole image's change, or none."""
    shape = (None, *(1 for _ in x.shape[1:]))
    return keras.layers.Dropout(rate, noise_shape=shape, name=name)(x)


def with_fused_norms(model: keras.Model) -> keras.Model:
    """The model with FusedBatchNorm for each of Keras' BatchNorms over images, weights included.

    Keras' own emits no fused op, and keeps float32 activations under mixed precision. One that
    normalises over another axis, or whose weights have a regulariser or a constraint, stays. All
    other layers are the model's own.
    """
    kept = ("name", "dtype", "momentum", "epsilon", "gamma_initializer", "center", "scale")

    def fused(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not _has_fused_twin(layer):
            return layer
        settings = layer.get_config()
        twin = FusedBatchNorm(**{name: settings[name] for name in kept}, trainable=layer.trainable)
        twin.build(layer.input.shape)
        twin.set_weights(layer.get_weights())
        return twin

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        if isinstance(layer, FusedBatchNorm):
            kwargs.pop("mask", None)  # which Keras' own takes, and no image has
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, call_function=call, clone_function=fused)


def _has_fused_twin(layer: keras.layers.Layer) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or layer.synchronized:
        return False
    special = (layer.beta_initializer, layer.moving_mean_initializer)
    usual = all(isinstance(each, keras.initializers.Zeros) for each in special)
    plain = not any(
        (
            *(layer.beta_regularizer, layer.gamma_regularizer),
            *(layer.beta_constraint, layer.gamma_constraint),
        )
    )
    return usual and plain and len(layer.input.shape) == 4 and layer.axis in (-1, 3)
