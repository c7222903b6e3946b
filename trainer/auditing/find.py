"""Finds what is wrong with the photos of datasets."""

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from tqdm import tqdm

from trainer.auditing.findings import Audit, Case, Finding, PhotoFacts, flagged, summarize
from trainer.auditing.mislabels import suspect_labels
from trainer.data import copies, exteriors
from trainer.data.dataset import DataSet
from trainer.data.exteriors import ExteriorScores
from trainer.provenance import PACKAGES, package_versions


def audit_photos(
    data: DataSet,
    scores: ExteriorScores | None,
    *,
    locations: Mapping[str, str],
    settings: Mapping[str, Any],
    seed: int = 0,
) -> Audit:
    """All that is to be said about photos.

    Args:
        scores: what an ImageNet network saw in them; without, wrong labels and photos that show
            no car from outside are not looked for.
        locations: where each dataset comes from, by its name.
        settings: what to tell beside the settings of this module: how it was called.
        seed: of the folds that judge labels.
    """
    facts = _facts(data, scores)
    findings = find(data, scores, seed)
    told = {
        **settings,
        "fingerprint": data.fingerprint,
        "seed": seed,
        "near_copies": {"bits": copies.MAX_DISTANCE, "correlation": copies.MIN_CORRELATION},
        "blacked_out": {"grey_levels": copies.MAX_DIFFERENCE},
        "packages": package_versions(PACKAGES),
    }
    if scores is not None:
        told["no_exterior"] = {
            "network": exteriors.NETWORK,
            "min_car": exteriors.MIN_CAR,
            "max_car": exteriors.MAX_CAR,
            "min_company": exteriors.MIN_SIMILARITY,
        }
    return Audit(summarize(facts, locations), flagged(facts, findings), findings, told)


def find(data: DataSet, scores: ExteriorScores | None, seed: int) -> tuple[Finding, ...]:
    """All kinds of findings, the most serious kind first; photos are numbered as in `_facts`."""
    contradictions = _contradictions(data)
    findings = [
        contradictions,
        _blacked_out(data),
        _exact_copies(data),
        _near_copies(data),
    ]
    if scores is not None:
        findings += [_no_exterior(scores), _wrong_labels(data, scores, contradictions, seed)]
    findings.append(_unusable(data))
    return tuple(findings)


def _contradictions(data: DataSet) -> Finding:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(data.photos):
        groups[photo.group].append(index)
    cases = []
    for members in groups.values():
        labels = sorted({data.classes.labels[data.photos[index].target] for index in members})
        if len(labels) > 1:
            cases.append(Case(tuple(members), " / ".join(labels)))
    return Finding(
        "conflicting_labels",
        "The same photo under different labels",
        "At least one of the labels is wrong and nobody can say which. Training and test leave all "
        "photos of the group out.",
        tuple(cases),
    )


def _blacked_out(data: DataSet) -> Finding:
    cases = [
        Case((original, photo), f"differ by {difference:.0f} of 255 grey levels")
        for photo, original, difference in data.copies.siblings
    ]
    return Finding(
        "blacked_out",
        "The same photo with its background painted black",
        "Where the painted photo is not black, it is the other one. Parted by a random split, the "
        "test photo has been trained on. Marque keeps both in one part.",
        tuple(cases),
    )


def _exact_copies(data: DataSet) -> Finding:
    files: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(data.photos):
        files[photo.key].append(index)
    cases = sorted(
        (Case(tuple(members)) for members in files.values() if len(members) > 1),
        key=lambda case: -len(case.photos),
    )
    return Finding(
        "exact_copies",
        "The same file more than once",
        "Byte for byte the same. Copies weigh a photo twice in training, and leak it into the test "
        "of a random split. Marque keeps them in one part.",
        tuple(cases),
    )


def _near_copies(data: DataSet) -> Finding:
    seen = set()
    cases = []
    for first, second, correlation in sorted(data.copies.near, key=lambda pair: -pair[2]):
        pair = (min(first, second), max(first, second))
        if pair not in seen:
            seen.add(pair)
            cases.append(Case(pair, f"correlation {correlation:.3f}"))
    return Finding(
        "near_copies",
        "The same photo in another file",
        "Resized, recompressed, brightened or slightly cropped. They leak like exact copies do. "
        "Marque keeps them in one part.",
        tuple(cases),
    )


def _no_exterior(scores: ExteriorScores) -> Finding:
    chosen = [int(index) for index in scores.no_exterior.nonzero()[0]]
    chosen.sort(key=lambda index: float(scores.car[index] + scores.neighbor_similarity[index]))
    return Finding(
        "no_exterior",
        "Photos that show no car from outside",
        "Seats, dashboards, keys, tires, placeholders: under the label of a model they teach "
        "nothing. Marque leaves them out of training and test.",
        tuple(
            Case(
                (index,),
                f"seen: {scores.seen[index]} (car {scores.car[index]:.2f}, "
                f"similarity {scores.neighbor_similarity[index]:.2f})",
            )
            for index in chosen
        ),
    )


def _wrong_labels(
    data: DataSet, scores: ExteriorScores, contradictions: Finding, seed: int
) -> Finding:
    contradicting = {index for case in contradictions.cases for index in case.photos}
    outside = scores.no_exterior
    judged = [
        index
        for index in range(len(data.photos))
        if index not in contradicting and not outside[index]
    ]
    suspects = suspect_labels(
        scores.features[judged],
        [data.photos[index].target for index in judged],
        [data.photos[index].group for index in judged],
        seed,
    )
    labels = data.classes.labels
    # Copies share their judgement, so they are one case.
    cases: dict[str, tuple[list[int], str]] = {}
    for suspect in suspects:
        index = judged[suspect.photo]
        photo = data.photos[index]
        note = (
            f"looks like {labels[suspect.likely]} ({suspect.confidence:.2f}) rather than "
            f"{labels[photo.target]} ({suspect.given:.2f})"
        )
        cases.setdefault(photo.group, ([], note))[0].append(index)
    return Finding(
        "wrong_labels",
        "Labels that are likely wrong",
        "A classifier trained on the other photos clearly contradicts the label (confident "
        "learning, on folds that keep copies together). It is a coarse one: look before you change "
        "anything. Marque trains on these photos as they are labeled.",
        tuple(Case(tuple(members), note) for members, note in cases.values()),
    )


def _unusable(data: DataSet) -> Finding:
    first = len(data.photos)
    return Finding(
        "unreadable",
        "Photos that cannot be used",
        "Missing, damaged, or under a name that no class has. They cost nothing but themselves.",
        tuple(Case((first + n,), problem.reason) for n, problem in enumerate(data.problems)),
    )


def _facts(data: DataSet, scores: ExteriorScores | None) -> tuple[PhotoFacts, ...]:
    """A row a photo: first those of `data.photos`, then those of `data.problems`, in order."""
    headers = _headers(data.readers, len(data.photos))
    facts = []
    for index, (photo, header) in enumerate(zip(data.photos, headers, strict=True)):
        facts.append(
            PhotoFacts(
                photo.source,
                photo.path,
                photo.label,
                photo.group,
                *header,
                sha256=photo.key,
                dhash=data.copies.hashes[index],
                car=math.nan if scores is None else round(float(scores.car[index]), 4),
                seen="" if scores is None else scores.seen[index],
            )
        )
    facts += [PhotoFacts(item.source, item.path, "", note=item.reason) for item in data.problems]
    return tuple(facts)


def _headers(
    readers: Iterable[Callable[[], bytes]], count: int
) -> Iterable[tuple[int, int, str, str, int]]:
    with ThreadPoolExecutor() as pool:
        yield from tqdm(
            pool.map(_header, readers), desc="headers", total=count, unit="photo", delay=1
        )


def _header(read: Callable[[], bytes]) -> tuple[int, int, str, str, int]:
    """Width, height, mode, format and bytes of a photo, as its file's header says."""
    try:
        content = read()
        with Image.open(io.BytesIO(content)) as picture:
            return *picture.size, picture.mode, picture.format or "", len(content)
    except OSError:  # it was readable a moment ago
        return 0, 0, "", "", 0
