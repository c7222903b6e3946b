"""Are the heat maps faithful, and by which method: `python -m benchmarks.faithfulness --data …`.

Two measures, on the maps that the page draws and on those of other methods, each beside a random
map that looks as smooth and knows nothing:

- `road`: what is hot matters and what is cold does not. Pixels are taken out of the photo, the
  hottest first or the coldest first, and the probability of the class is watched (ROAD, Rong et
  al. 2022, arXiv:2202.00449).
- `heat_on_cars`: the heat lies on the car, where a second photo with the background painted black
  tells which pixels are the car's.

On test photos; the result is written to benchmarks/faithfulness.json. A photo takes 20 seconds.
"""

import argparse
import copy
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.metrics.road import ROADLeastRelevantFirstAverage as ColdestRemoved
from pytorch_grad_cam.metrics.road import ROADMostRelevantFirstAverage as HottestRemoved
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
)
from scipy import ndimage
from timm.layers import SelectAdaptivePool2d
from tqdm import tqdm

from space.checkpoints import BUNDLED, file_hash, write_json
from space.photos import load_photo
from space.pytorch import normalize
from space.recognizer import CarRecognizer
from space.walk import user_path
from trainer.data.copies import BLACK
from trainer.data.options import add_data_options, columns_of
from trainer.data.splits import TEST
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.predictions import find_photos, predict_photos, siblings_of
from trainer.provenance import command_line, git_revision

PATH = Path(__file__).with_suffix(".json")

# From a network and its layers to what makes heat maps of them, as the classes of
# pytorch_grad_cam do.
Method = Callable[[Any, list[torch.nn.Module]], BaseCAM]


def last_stage(model: Any) -> torch.nn.Module:
    """The last of a timm network's stages."""
    return model.get_submodule(model.feature_info[-1]["module"])


def pooled_layer(model: Any) -> torch.nn.Module:
    """The part of a timm network whose output is averaged for the classifier.

    In EfficientNets there is one more layer between it and the last stage, in others none.
    """
    before = last_stage(model)
    for part in model.children():
        if any(isinstance(module, SelectAdaptivePool2d) for module in part.modules()):
            return before
        before = part
    return last_stage(model)


def _of_the_last_stage(model, layers) -> BaseCAM:
    """Grad-CAM as it is often drawn, on the last stage, which in EfficientNets is a bottleneck."""
    return GradCAM(model, [last_stage(model)])


METHODS: dict[str, Method] = {
    "Grad-CAM": GradCAM,  # Selvaraju et al. 2017, arXiv:1610.02391; what the page shows
    "Grad-CAM++": GradCAMPlusPlus,  # Chattopadhay et al. 2018, arXiv:1710.11063
    "LayerCAM": LayerCAM,  # Jiang et al. 2021, doi:10.1109/TIP.2021.3089943
    "Eigen-CAM": EigenCAM,  # Muhammad and Yeasin 2020, arXiv:2008.00299; knows of no class
    "Grad-CAM, last stage": _of_the_last_stage,
}
RANDOM = "random"  # the control

# How many percent of the pixels stay. Of fewer than half little of a photo is left, and filling in
# what is gone takes longest.
KEPT = (50, 70, 90)

_SPECK = 0.1  # of the largest part of a car; parts that are smaller are specks of the compression

Reader = Callable[[], bytes]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_data_options(parser)
    parser.add_argument("--split-file", type=user_path, metavar="FILE")
    parser.add_argument("--model", type=user_path, default=BUNDLED, metavar="FOLDER")
    parser.add_argument("--photos", type=int, default=12, help="default: %(default)s")
    options = parser.parse_args(arguments)
    recognizer = CarRecognizer.from_pretrained(options.model)
    photos = find_photos(recognizer, options.data, options.split_file, columns_of(options))
    tested = [photo for photo in photos if photo.split == TEST]
    predictions = predict_photos(recognizer, [photo.read for photo in tested], TEST)
    pairs = siblings_of(tested, predictions.backgroundless)
    result = {
        "command": command_line("python -m benchmarks.faithfulness", arguments),
        "checkpoint": recognizer.revision,
        "split_sha256": file_hash(options.split_file) if options.split_file else None,
        "road": road(
            recognizer,
            [photo.read for photo in tested],
            [photo.group for photo in tested],
            count=options.photos,
        ),
        "heat_on_cars": heat_on_cars(
            recognizer,
            [photo.read for photo, _ in pairs],
            [sibling.read for _, sibling in pairs],
            [photo.group for photo, _ in pairs],
            count=options.photos,
        ),
        "git_revision": git_revision(),
    }
    write_json(PATH, result)


class Explainer:
    """Makes Grad-CAM heat maps (Selvaraju et al. 2017, arXiv:1610.02391).

    Its hooks would make a network unsafe to share between threads, so it works on a copy of its
    own, made at the first use, one photo at a time.
    """

    def __init__(self, model: Any, data_config: Mapping[str, Any]):
        self._source = model
        self._copy: Any = None
        self._data_config = data_config
        self._lock = threading.Lock()

    def heat(self, pixels: torch.Tensor, target: int, method: Method = GradCAM) -> np.ndarray:
        """Heat 0..1 of shape (height, width) for the class `target` of one photo's pixels.

        The heat is that of the layer which the classifier averages: there Grad-CAM is the class's
        score itself, taken apart by place (CAM, Zhou et al. 2016, arXiv:1512.04150). Other methods
        are there to be measured beside it.
        """
        with self._lock:
            if self._copy is None:
                self._copy = copy.deepcopy(self._source).requires_grad_(True)
            model = self._copy
            device = next(model.parameters()).device
            with torch.enable_grad(), method(model, [pooled_layer(model)]) as cam:
                inputs = normalize(pixels.to(device), self._data_config)
                return cam(input_tensor=inputs, targets=[ClassifierOutputTarget(target)])[0]


def road(
    recognizer: CarRecognizer,
    readers: Sequence[Reader],
    groups: Sequence[str],
    *,
    count: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """How the probability of the most likely class changes as pixels are taken out of photos.

    The pixels that are taken out are filled in from those around them, so that the hole itself
    shows as little as can be. All methods, and the control, lose the same number of pixels: where
    a map says nothing about an order, as where it is zero, the control's order stands in.

    Args:
        readers: for each photo a function that returns its file's bytes.
        groups: photos with the same group are the same photo.
        count: how many photos to draw at most; each takes several seconds on a CPU.
        seed: of the draw, of the control and of the noise that ROAD adds to what it fills in.

    Returns:
        `photos`, their number, and under `methods` for each of `METHODS` and the control

        - `hottest_removed`: the change of the probability, -1 to 1, averaged over `KEPT`, as the
          hottest pixels go. The lower, the better.
        - `coldest_removed`: the same as the coldest go. The higher, the better.
        - `road`: half of the second less the first; 0 when the map's order means nothing.
        - `beyond_random`: `road` less that of the control on the same photo.

        each a mean with its 95% interval, over whole groups.

    Raises:
        PhotoError: a photo cannot be read.
        ValueError: there are none.
    """
    chosen = _draw(len(readers), count, seed)
    explainer = Explainer(recognizer.checkpoint.model, recognizer.data_config)
    found: dict[str, list[np.ndarray]] = {}
    for index in tqdm(chosen, desc="ROAD", unit="photo"):
        prepared = recognizer.prepare(readers[index]())
        pixels = torch.from_numpy(prepared.pixels)
        target = int(recognizer.infer([prepared]).logits.argmax())
        heats = _heats(explainer, recognizer, pixels, target, (seed, index))
        hottest, coldest = _removed(recognizer, pixels, target, heats, seed)
        scores = (coldest - hottest) / 2
        beyond = scores - scores[list(heats).index(RANDOM)]
        for method, *row in zip(heats, hottest, coldest, scores, beyond, strict=True):
            found.setdefault(method, []).append(np.array(row))
    names = ("hottest_removed", "coldest_removed", "road", "beyond_random")
    return _summary(found, names, [groups[index] for index in chosen])


def heat_on_cars(
    recognizer: CarRecognizer,
    readers: Sequence[Reader],
    siblings: Sequence[Reader],
    groups: Sequence[str],
    *,
    count: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """How much of the heat for the most likely class lies on the car.

    Args:
        readers: for each photo a function that returns its file's bytes.
        siblings: for each photo the one with all but the car painted black.
        groups, count, seed: as for `road`.

    Returns:
        `photos`, their number; `car`, the share of the photo that the car takes, which is what
        heat without a place would get; and under `methods` for each of `METHODS` and the control

        - `share`: of the heat that lies on the car, 0 to 1. A map without heat counts as even.
        - `pointing`: how often the hottest point is on the car (the pointing game, Zhang et al.
          2016, arXiv:1608.00507).
        - `beyond_random`: `share` less that of the control on the same photo.

        each a mean with its 95% interval, over whole groups.

    Raises:
        PhotoError: a photo cannot be read.
        ValueError: there are none.
    """
    chosen = _draw(len(readers), count, seed)
    explainer = Explainer(recognizer.checkpoint.model, recognizer.data_config)
    found: dict[str, list[np.ndarray]] = {}
    areas = []
    for index in tqdm(chosen, desc="heat on cars", unit="photo"):
        prepared = recognizer.prepare(readers[index]())
        pixels = torch.from_numpy(prepared.pixels)
        target = int(recognizer.infer([prepared]).logits.argmax())
        # Framed as the photo was, whatever the detector would find in the sibling.
        car = car_mask(recognizer.preprocess.cut(load_photo(siblings[index]()), prepared.box))
        heats = _heats(explainer, recognizer, pixels, target, (seed, index))
        shares = {method: _on(car, heat) for method, heat in heats.items()}
        for method, (share, pointing) in shares.items():
            row = np.array([share, pointing, share - shares[RANDOM][0]])
            found.setdefault(method, []).append(row)
        areas.append(car.mean())
    drawn = [groups[index] for index in chosen]
    summary = _summary(found, ("share", "pointing", "beyond_random"), drawn)
    return {"car": Estimate.of_values(areas, drawn), **summary}


def car_mask(sibling: np.ndarray) -> np.ndarray:
    """Where the car is in what the network sees of a photo, bool, shape (height, width).

    Args:
        sibling: the same part of the photo with everything but the car painted black, uint8, shape
            (3, height, width).

    Specks that compression leaves in the black are taken out, and dark spots inside the car, as
    windows and tires, filled in.
    """
    seen = sibling.max(axis=0) > BLACK
    parts, number = ndimage.label(seen)
    if not number:
        return seen
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes((sizes >= _SPECK * sizes.max())[parts] & seen)


def _draw(available: int, count: int, seed: int) -> list[int]:
    if not available:
        raise ValueError("there is no photo to measure heat maps on")
    return sorted(np.random.default_rng(seed).permutation(available)[:count].tolist())


def _heats(
    explainer: Explainer,
    recognizer: CarRecognizer,
    pixels: torch.Tensor,
    target: int,
    seed: tuple[int, int],
) -> dict[str, np.ndarray]:
    """The maps of all methods for one photo, and the control: noise on the network's own grid.

    Stretched as theirs are, it takes out patches of the same size; single pixels would be filled
    in so well that nothing could be compared with it.
    """
    heats = {name: explainer.heat(pixels[None], target, cam) for name, cam in METHODS.items()}
    height, width = pixels.shape[1:]
    stride = recognizer.checkpoint.model.feature_info[-1]["reduction"]
    noise = np.random.default_rng(seed).random((1, -(-height // stride), -(-width // stride)))
    heats[RANDOM] = scale_cam_image(noise, (width, height))[0]
    return heats


def _removed(
    recognizer: CarRecognizer,
    pixels: torch.Tensor,
    target: int,
    heats: Mapping[str, np.ndarray],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean change of probability as the hottest, as the coldest pixels go; shapes (methods,)."""
    # The library takes out all pixels that are as hot as the last one wanted: of a map that is
    # zero over half of the photo that may be the whole photo. Ranks have no ties.
    ranks = np.stack([_ranks(heat, heats[RANDOM]) for heat in heats.values()])
    device = next(recognizer.checkpoint.model.parameters()).device
    inputs = normalize(pixels[None].to(device), recognizer.data_config)
    inputs = inputs.expand(len(ranks), -1, -1, -1)
    targets = [ClassifierOutputSoftmaxTarget(target)] * len(ranks)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # grad-cam 1.5.7 hands tensors to numpy in a way that numpy 2 warns of.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.manual_seed(seed)
        hottest = HottestRemoved(KEPT)(inputs, ranks, targets, recognizer.checkpoint.model)
        return hottest, ColdestRemoved(KEPT)(inputs, ranks, targets, recognizer.checkpoint.model)


def _ranks(heat: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The place of each pixel in the order of heat, 0 to 1; `ties` decides between equals."""
    order = np.lexsort((ties.ravel(), heat.ravel()))
    ranks = np.empty(heat.size, np.float32)
    ranks[order] = np.linspace(0, 1, heat.size)
    return ranks.reshape(heat.shape)


def _on(car: np.ndarray, heat: np.ndarray) -> tuple[float, float]:
    """The share of the heat that lies on the car, and of the hottest points."""
    total = heat.sum()
    share = heat[car].sum() / total if total else car.mean()
    return float(share), float(car[heat == heat.max()].mean())


def _summary(
    found: Mapping[str, list[np.ndarray]], names: Sequence[str], groups: Sequence[str]
) -> dict[str, Any]:
    return {
        "photos": len(groups),
        "methods": {
            method: {
                name: Estimate.of_values(column, groups)
                for name, column in zip(names, np.stack(rows).T, strict=True)
            }
            for method, rows in found.items()
        },
    }


if __name__ == "__main__":
    main()
