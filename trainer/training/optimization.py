"""Which layers learn in which epoch, how fast, and how the rate goes."""

import math
from typing import Any

import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from torch.nn.modules.batchnorm import _BatchNorm

from space.errors import MarqueError
from trainer.training.config import TrainConfig


def build_optimizer(config: TrainConfig, model: Any) -> torch.optim.Optimizer:
    """timm's optimizer of that name over all layers, each with its own peak rate (`peak_lr`).

    Raises:
        MarqueError: timm has no such optimizer.
    """
    if config.layer_decay < 1:
        groups = param_groups_layer_decay(
            model, config.weight_decay, layer_decay=config.layer_decay
        )
    else:
        groups = param_groups_weight_decay(model, config.weight_decay)
    head = {id(parameter) for parameter in model.get_classifier().parameters()}
    split = []
    for group in groups:
        for in_head in (False, True):
            parameters = [p for p in group["params"] if (id(p) in head) == in_head]
            if parameters:
                factor = config.head_lr_factor if in_head else group.get("lr_scale", 1)
                peak = config.lr * factor
                decay = group["weight_decay"]
                split.append(
                    {"params": parameters, "weight_decay": decay, "lr": peak, "peak_lr": peak}
                )
    try:
        return create_optimizer_v2(split, opt=config.optimizer, lr=config.lr, weight_decay=0)
    except (ValueError, AssertionError, KeyError) as error:
        raise MarqueError(
            f"--optimizer is {config.optimizer}; timm has none such: {error}"
        ) from None


class Schedule:
    """Sets the learning rate of every group before each step.

    All but plateau follow from the number of the step alone, so that a resumed run needs no state;
    plateau is told the validation losses of the finished epochs again.
    """

    def __init__(self, config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int):
        """Prepares the schedule.

        Args:
            optimizer: whose groups have a `peak_lr`, as `build_optimizer` makes them.
        """
        self._config = config
        self._optimizer = optimizer
        self._steps = steps_per_epoch * config.epochs
        self._warmup = round(config.warmup * self._steps)
        # The library's schedulers turn the rate of this one, from 1; every group follows it.
        self._factor = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self._timm: Any = None
        self._plateau: Any = None
        if config.schedule == "plateau":
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self._factor, factor=0.3, patience=config.plateau_patience
            )
        elif config.schedule not in ("onecycle", "constant"):
            self._timm, _ = create_scheduler_v2(
                self._factor,
                sched=config.schedule,
                num_epochs=config.epochs,
                decay_epochs=config.decay_epochs,
                decay_rate=1.0 if config.schedule == "poly" else 0.1,  # of poly it is the power
                step_on_epochs=False,
                updates_per_epoch=steps_per_epoch,
            )

    def before_step(self, step: int) -> None:
        """Sets the rates of the step with this number, counted from 0 over the whole run."""
        if self._config.schedule == "onecycle":
            factor = one_cycle(step / self._steps, self._config.warmup)
        else:
            if self._timm:
                self._timm.step_update(step)
            factor = self._factor.param_groups[0]["lr"]
            if step < self._warmup:
                factor *= 1 / 25 + (1 - 1 / 25) * step / self._warmup
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor

    def after_epoch(self, validation_loss: float) -> None:
        """Tells how the epoch went."""
        if self._plateau:
            self._plateau.step(validation_loss)


def one_cycle(done: float, warmup: float) -> float:
    """The share of the peak learning rate after a share `done` of all steps, both 0 to 1.

    One cycle of two cosines (Smith and Topin 2017, arXiv:1708.07120): from 1/25 up to 1 over the
    warm-up, then down to nearly nothing.
    """
    if done < warmup:
        return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / warmup)) / 2
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


class UnfreezeSchedule:
    """First the head, then the top layers, then all: what of the network learns in which epoch."""

    def __init__(self, config: TrainConfig, model: Any):
        self._config = config
        self._model = model
        self._learns = {name for name, p in model.named_parameters() if p.requires_grad}
        head = {id(parameter) for parameter in model.get_classifier().parameters()}
        self._head = {name for name, p in model.named_parameters() if id(p) in head}
        self._top: set[str] = set()
        if config.top_epochs:
            layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
            lowest = (1 - config.top_share) * (max(layers.values()) + 1)
            self._top = {name for name, layer in layers.items() if layer >= lowest}

    def begin(self, epoch: int) -> None:
        """Puts the network into training mode for an epoch counted from 0.

        What does not learn gets no gradients, which saves their time, and its batch norms keep
        their statistics.
        """
        learning = self._learning(epoch)
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name in learning)
        self._model.train()
        for name, module in self._model.named_modules():
            if isinstance(module, _BatchNorm):
                own = {f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)}
                if own and not own & learning:
                    module.eval()

    def _learning(self, epoch: int) -> set[str]:
        config = self._config
        if epoch < config.head_epochs:
            learning = self._head
        elif epoch < config.head_epochs + config.top_epochs:
            learning = self._head | self._top
        else:
            learning = self._learns
        if not config.freeze_norm:
            return learning
        return learning - {
            f"{name}.{key}"
            for name, module in self._model.named_modules()
            if isinstance(module, _BatchNorm)
            for key, _ in module.named_parameters(recurse=False)
            if f"{name}.{key}" not in self._head
        }
