"""Marque names the car in a photo. This package is everything that looks at one."""

from space.answers import (
    MakeScore,
    ModelScore,
    Plausible,
    Prediction,
    Recognition,
    YearScore,
)
from space.errors import CheckpointError, MarqueError, PhotoError
from space.labels import Car, parse_label
from space.photos import load_photo
from space.recognizer import CarRecognizer

__all__ = [
    "Car",
    "CarRecognizer",
    "CheckpointError",
    "MakeScore",
    "MarqueError",
    "ModelScore",
    "PhotoError",
    "Plausible",
    "Prediction",
    "Recognition",
    "YearScore",
    "load_photo",
    "parse_label",
]
