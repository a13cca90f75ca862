import keras
from models import cnn, resnet


def build(config, *, input_shape, input_dtype="uint8", num_classes, precision="float32", seed=0):
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    if config.model == "cnn":
        return cnn.cnn(input_shape, num_classes, config.dropout)
    return getattr(resnet, config.model)(input_shape, num_classes)
