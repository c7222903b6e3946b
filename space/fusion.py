"""Several photos of one car as one answer."""

import numpy as np

from space.calibration import Calibration, log_softmax


def fuse(logits: np.ndarray, areas: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    """The logits of one car from those of its photos.

    The mean of the log-probabilities (a product of experts, Hinton 2002), in which a photo counts
    by how sure it is and by how much of it the car takes. Photos of one car are not independent:
    the mean is sharpened by the number of photos to the power that fits held-out groups best,
    `calibration.fusion`, between 0 (no surer than one photo) and 1 (independent photos).

    Args:
        logits: shape (photos, classes).
        areas: the share of each photo that the car takes, above 0, shape (photos,).

    Returns:
        Shape (1, classes); a single photo's own logits come back.
    """
    temperature = calibration.temperature if calibration else 1.0
    power = calibration.fusion if calibration else 0.0
    logs = log_softmax(logits / temperature)
    weights = np.exp(logs.max(axis=1)) * np.sqrt(areas)
    shares = weights / weights.sum()
    # How large logits are says how familiar the car is; the probabilities do not.
    size = shares @ (logits / temperature - logs)[:, 0]
    return (temperature * (len(logits) ** power * (shares @ logs) + size))[None]
