"""Marque names the car in a photo. This package is everything that looks at one."""

from space.checkpoints import CheckpointError
from space.labels import Car, parse_label
from space.photos import PhotoError, load_photo
from space.recognizer import CarRecognizer, MakeScore, Prediction, Recognition

__all__ = [
    "Car",
    "CarRecognizer",
    "CheckpointError",
    "MakeScore",
    "PhotoError",
    "Prediction",
    "Recognition",
    "load_photo",
    "parse_label",
]
