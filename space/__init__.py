"""Marque names the car in a photo. This package is everything that looks at one."""

from space.answers import (
    MakeScore,
    ModelScore,
    Plausible,
    Prediction,
    Recognition,
    YearScore,
)
from space.checkpoints import CheckpointError
from space.labels import Car, parse_label
from space.photos import PhotoError, load_photo
from space.recognizer import CarRecognizer

__all__ = [
    "Car",
    "CarRecognizer",
    "CheckpointError",
    "MakeScore",
    "ModelScore",
    "PhotoError",
    "Plausible",
    "Prediction",
    "Recognition",
    "YearScore",
    "load_photo",
    "parse_label",
]
