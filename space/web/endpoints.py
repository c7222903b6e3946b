"""What programs may ask: the endpoints, as plain functions."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from space.answers import Recognition
from space.arguments import refusal
from space.errors import MarqueError, PhotoError
from space.photos import load_photo
from space.recognizer import CarRecognizer
from space.web import batch
from space.web.batch import TOP_K


class Endpoints:
    """Answers programs with one recognizer. Every refusal is a `gr.Error` of one sentence."""

    def __init__(self, recognizer: CarRecognizer):
        """Takes the recognizer."""
        self.recognizer = recognizer
        self._model = {"source": recognizer.source, "revision": recognizer.revision}

    def predict(
        self, image: str, top_k: int = TOP_K, catalogue: str | None = None
    ) -> dict[str, Any]:
        """Names the most prominent car in a photo. Returns JSON: `verdict` (auto-tag, review or
        rejected), `reason`, `level` (how much is sure: year, model, make or null), `predictions`
        (label, make, model, year, confidence, score; best first), `makes`, `models`, `years`,
        `plausible` (labels, coverage), `box` (the car: left, upper, right and lower as shares of
        width and height, or null), `cars_found`, `catalogue`, `model` (source, revision) and
        `elapsed_ms`. `catalogue` confines the answer to makes, models, years (2005-2012), markets
        or labels, separated by commas."""
        chosen = confined(self.recognizer, catalogue)
        return self._answered(image, top_k, lambda *asked: answer_of(chosen.predict(*asked)))

    def predict_all(self, image: str, top_k: int = TOP_K) -> dict[str, Any]:
        """Names every car in a photo. Returns JSON: `cars`, a list with what `/predict` says of
        each, the most prominent first, `model` and `elapsed_ms`."""
        return self._answered(
            image,
            top_k,
            lambda *asked: {
                "cars": [answer_of(car) for car in self.recognizer.predict_all(*asked)]
            },
        )

    def predict_batch(
        self, images: list[str], top_k: int = TOP_K, catalogue: str | None = None
    ) -> dict[str, Any]:
        """Names the car in each of many photos (files, or zips of them). Returns JSON: `answers`, a
        list with what `/predict` says of each, its `name`, and `error`, which says why a photo
        cannot be read and is null for the others; `model` and `elapsed_ms`."""
        started = time.perf_counter()
        chosen, count = confined(self.recognizer, catalogue), whole_number(top_k)
        try:
            photos = batch.collect(images or [])
        except MarqueError as error:
            raise refusal(str(error)) from None
        answers = [
            {"name": row.path.as_posix(), **row.recognition.as_json()}
            for row in batch.answers(chosen, photos, count)
        ]
        return {"answers": answers, **self._told(started)}

    def check(self, image: str, text: str = "") -> dict[str, Any]:
        """Whether a photo bears out what is said of the car, such as "Golf 2012". Returns JSON:
        `result` (agrees, contradicts or cannot tell), `reason`, `confidence` (that the photo shows
        what is said, or null), `recognition` (what `/predict` answers) and `model`."""
        picture = open_photo(image)
        try:
            found = self.recognizer.check(picture, text or "")
        except ValueError as error:
            raise refusal(str(error)) from None
        return {
            **found.as_json(),
            "recognition": answer_of(found.recognition),
            "model": self._model,
        }

    def explain(
        self, image: str, label: str | None = None, against: str | None = None
    ) -> Image.Image:
        """The photo with a heat map that explains a class: the class `label`, exactly as
        `/predict` writes it, or the most likely class when it is left out. With `against`, what
        speaks for the one class and not for the other."""
        try:
            return self.recognizer.explain(
                open_photo(image), label or None, against=against or None
            )
        except ValueError as error:
            raise refusal(str(error)) from None

    def _answered(
        self, image: str, top_k: int, ask: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        started = time.perf_counter()
        count = whole_number(top_k)
        return {**ask(open_photo(image), count), **self._told(started)}

    def _told(self, started: float) -> dict[str, Any]:
        """Who answered, and how long it took since `started`."""
        elapsed = round((time.perf_counter() - started) * 1000, 1)
        return {"model": self._model, "elapsed_ms": elapsed}


def answer_of(recognition: Recognition) -> dict[str, Any]:
    """An answer as JSON; a photo that cannot be read was refused before."""
    answer = recognition.as_json()
    del answer["error"]
    return answer


def confined(recognizer: CarRecognizer, catalogue: str | Sequence[str] | None) -> CarRecognizer:
    """The recognizer, answering within a catalogue where one is given."""
    if not catalogue:
        return recognizer
    items = catalogue.split(",") if isinstance(catalogue, str) else catalogue
    try:  # as a list: a visitor names no file of this machine
        return recognizer.within([item.strip() for item in items])
    except MarqueError as error:
        raise refusal(str(error)) from None


def open_photo(path: str | None) -> Image.Image:
    """An uploaded photo."""
    if not path:
        raise refusal("there is no photo; send one as `image`")
    try:
        return load_photo(path, name=Path(path).name)
    except PhotoError as error:
        raise refusal(str(error)) from None


def whole_number(top_k: object) -> int:
    """How many answers are asked for; without a number, as many as the page shows."""
    if top_k is None:
        return TOP_K
    whole = isinstance(top_k, int | float) and not isinstance(top_k, bool) and top_k % 1 == 0
    if not whole or top_k < 1:  # type: ignore[operator]
        told = repr(top_k) if len(repr(top_k)) <= 40 else f"{repr(top_k)[:40]}…"
        raise refusal(f"top_k is {told}; it must be a whole number of at least 1")
    return int(top_k)  # type: ignore[call-overload]
