"""The errors a user can meet. Each message is one line and names the cure."""


class HandPerceptionError(Exception):
    """Base of every error this package raises on bad input, files or set-up."""


class ImageError(HandPerceptionError):
    """An image that cannot be read: truncated, wrong encoding, wrong step, too small."""


class CameraError(HandPerceptionError):
    """Intrinsics or distortion that cannot be used: zero, NaN, unknown model."""


class ModelError(HandPerceptionError):
    """Weights or engines that are missing, corrupt or of another version."""


class TrainingError(HandPerceptionError):
    """A training run that cannot go on."""


class DataError(HandPerceptionError):
    """A data set, template or label file that is missing or does not fit its layout."""
