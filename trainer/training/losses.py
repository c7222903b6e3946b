"""What training minimizes: cross-entropy and what the settings put around it."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from space.labels import Car
from space.levels import Levels
from trainer.training.config import TrainConfig
from trainer.training.settings import MARGIN_HEADS

MAKE_AND_MODEL = ("make", "model")


class Objective:
    """The loss of a batch, from logits and targets, hard or mixed."""

    def __init__(
        self,
        settings: TrainConfig,
        cars: Sequence[Car],
        class_counts: torch.Tensor,
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        """Prepares the loss.

        Args:
            settings: of the run.
            cars: what each class means.
            class_counts: training photos of each class, shape (classes,), on the training device.
            teacher: from normalized inputs (batch, 3, height, width) to logits (batch, classes).
        """
        self._settings = settings
        index = Levels(cars).index
        # One-hot: a product with it sums the shares of classes.
        self._members = {
            level: F.one_hot(torch.from_numpy(index[level])).float() for level in MAKE_AND_MODEL
        }
        self._teacher = teacher
        self._weights = inverse_frequency(class_counts) if settings.class_weights else None

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, inputs: torch.Tensor
    ) -> torch.Tensor:
        """The mean loss of a batch.

        Args:
            logits: shape (batch, classes).
            targets: class numbers, shape (batch,), or shares of classes, shape (batch, classes).
            inputs: what the network saw, for the teacher.
        """
        settings = self._settings
        logits = logits.float()
        if settings.head in MARGIN_HEADS:
            logits = with_margin(
                logits, targets, settings.head, settings.margin, settings.margin_scale
            )
        shares = shares_of(targets, logits.shape[1])
        if self._weights is not None:
            shares = shares * self._weights
        smooth = settings.label_smoothing
        loss = focal_cross_entropy(logits, smoothed(shares, smooth), settings.focal)
        if settings.level_loss:
            probabilities = logits.softmax(dim=1)
            for members in self._members.values():
                members = members.to(logits.device)
                log = (probabilities @ members).clamp_min(1e-12).log()
                wanted = smoothed(shares @ members, smooth)
                likelihood = -(wanted * log).sum(dim=1).mean()
                loss = loss + settings.level_loss * likelihood
        if self._teacher is None:
            return loss
        distance = distillation(logits, self._teacher(inputs), settings.teacher_temperature)
        return torch.lerp(loss, distance, settings.teacher_share)


def shares_of(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Class numbers as shares of classes; shares as they are. Shape (batch, classes)."""
    return targets if targets.ndim == 2 else F.one_hot(targets, classes).float()


def smoothed(shares: torch.Tensor, smoothing: float) -> torch.Tensor:
    """A part of each row's weight spread evenly (Szegedy et al. 2015, arXiv:1512.00567)."""
    total = shares.sum(dim=1, keepdim=True)
    return (1 - smoothing) * shares + smoothing * total / shares.shape[1]


def inverse_frequency(counts: torch.Tensor) -> torch.Tensor:
    """Weights that make all classes count alike, whose mean over the photos is 1."""
    weights = counts.sum() / counts.clamp_min(1).float()
    return weights * counts.sum() / (weights * counts).sum()


def focal_cross_entropy(logits: torch.Tensor, shares: torch.Tensor, gamma: float) -> torch.Tensor:
    """Cross-entropy times (1 - probability)^gamma (Lin et al. 2017, arXiv:1708.02002)."""
    log = logits.log_softmax(dim=1)
    losses = -shares * log
    if gamma:
        losses = losses * (1 - log.exp()).clamp_min(0).pow(gamma)
    return losses.sum(dim=1).mean()


def with_margin(
    logits: torch.Tensor, targets: torch.Tensor, kind: str, margin: float, scale: float
) -> torch.Tensor:
    """Cosines times `scale`, with the right class made harder by a margin.

    Args:
        targets: class numbers, shape (batch,).
        kind: `arcface` adds the margin to the angle, `cosface` takes it from the cosine.
    """
    right = targets[:, None]
    cosine = logits.gather(1, right) / scale
    if kind == "cosface":
        harder = cosine - margin
    else:
        angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        # Beyond pi the cosine would rise again, and reward the angle for growing.
        harder = (angle + margin).clamp_max(torch.pi).cos()
    return logits.scatter(1, right, harder * scale)


def distillation(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """How far the answers are from the teacher's (Hinton et al. 2015, arXiv:1503.02531)."""
    return temperature**2 * F.kl_div(
        (logits / temperature).log_softmax(dim=1),
        (teacher.float() / temperature).log_softmax(dim=1),
        log_target=True,
        reduction="batchmean",
    )
