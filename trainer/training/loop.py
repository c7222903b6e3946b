"""The training loop: epochs, averaged weights, validation, and a state to go on from."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.data import Mixup
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader
from tqdm import tqdm

from space.errors import MarqueError
from space.pytorch import normalize
from trainer.data.cache import CachedPhotos, collate
from trainer.data.classes import Classes
from trainer.training.augment import Augment
from trainer.training.config import TrainConfig
from trainer.training.losses import Objective
from trainer.training.optimization import Schedule, UnfreezeSchedule, build_optimizer


@dataclass(frozen=True)
class EpochResult:
    """One line of the run's log; shares are 0 to 1, the epoch counts from 1.

    `seconds` are of the whole epoch, `photos_per_second` of its training without the validation.
    """

    epoch: int
    train_size: int
    lr: float
    train_loss: float
    validation_loss: float
    validation_top1: float
    validation_top5: float
    seconds: float
    photos_per_second: float


class Trainer:
    """Trains one network with the accelerator it is given, on one process or several."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: Any,
        classes: Classes,
        data_config: dict[str, Any],
        train: Any,
        validation: CachedPhotos,
        class_counts: torch.Tensor,
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        """Prepares everything.

        Args:
            classes: what the network's outputs mean.
            data_config: the preprocessing of validation and use.
            train: the batches of an epoch, for this process alone, on its device: a prepared
                loader with `set_epoch`, such as `load_cached` or `load_streamed` make.
            class_counts: training photos of each class, shape (classes,); zeros if unknown.
            teacher: see `trainer.training.losses.Objective`.
        """
        if not len(train):
            raise MarqueError(
                f"the training photos are fewer than one batch of {config.batch_size}; "
                "lower --batch-size"
            )
        self._config = config
        self._accelerator = accelerator
        self._data_config = data_config
        self._device = accelerator.device
        self._memory_format = torch.channels_last  # the order that convolutions are fastest in
        self._augment = Augment(config)
        # Mixed targets are smoothed by the objective, like others.
        self._mix = (
            Mixup(
                config.mixup,
                config.cutmix,
                prob=config.mix_share,
                label_smoothing=0,
                num_classes=len(classes.labels),
            )
            if config.mixup or config.cutmix
            else None
        )
        self._objective = Objective(config, classes.cars, class_counts.to(self._device), teacher)
        model = model.to(self._device).to(memory_format=self._memory_format)
        self._raw_model = model
        # Copied before accelerate wraps the network's forward for mixed precision: a copy made
        # afterwards would still call the original. The decay itself warms up, or a short run
        # would average mostly its untrained start.
        self._ema = ModelEmaV3(model, decay=config.ema, use_warmup=True) if config.ema else None
        if config.compile:
            model.compile()
        self._train_loader = train
        validation_loader = DataLoader(validation, config.batch_size, collate_fn=collate)
        optimizer = build_optimizer(config, model)
        self._stages = UnfreezeSchedule(config, model)
        self._model, self._optimizer, self._validation_loader = accelerator.prepare(
            model, optimizer, validation_loader
        )
        self._steps_per_epoch = math.ceil(len(self._train_loader) / config.accumulate)
        self._schedule = Schedule(config, optimizer, self._steps_per_epoch)
        self.history: list[EpochResult] = []

    @property
    def best(self) -> EpochResult:
        """The epoch with the most validation photos right; of equals, the lowest loss."""
        return min(self.history, key=lambda row: (-row.validation_top1, row.validation_loss))

    @property
    def cost(self) -> dict[str, Any]:
        """What the finished epochs took, those before the run was resumed included.

        Reading the photos, and epochs that were broken off, are not counted.
        """
        return {
            "epochs": len(self.history),
            "seconds": sum(row.seconds for row in self.history),
        }

    @property
    def kept_model(self) -> torch.nn.Module:
        """The network that validation judges and the checkpoint keeps."""
        return self._ema.module if self._ema else self._raw_model

    def fit(self, after_epoch: Callable[[], None]) -> None:
        """Runs the remaining epochs, or fewer when patience runs out.

        Args:
            after_epoch: called on the main process when `history` has a new line.
        """
        while len(self.history) < self._config.epochs and not self.out_of_patience:
            result = self._epoch(len(self.history))
            self.history.append(result)
            self._schedule.after_epoch(result.validation_loss)
            if self._accelerator.is_main_process:
                after_epoch()
            self._accelerator.wait_for_everyone()

    @property
    def out_of_patience(self) -> bool:
        """Whether the last epochs brought neither a better loss nor more photos right."""
        patience = self._config.patience
        if not patience or not self.history:
            return False
        lowest = min(self.history, key=lambda row: row.validation_loss).epoch
        most = max(self.history, key=lambda row: row.validation_top1).epoch
        return len(self.history) - max(lowest, most) >= patience

    def _epoch(self, epoch: int) -> EpochResult:
        config, accelerator = self._config, self._accelerator
        started = time.monotonic()
        size = config.size_at(epoch)
        # Everything random in an epoch follows from seed, epoch and process alone, so a resumed
        # run draws what the uninterrupted one would have drawn.
        seed = config.seed * 1_000_003 + epoch * 1009 + accelerator.process_index
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # timm's Mixup draws from it
        self._train_loader.set_epoch(epoch)
        self._stages.begin(epoch)
        loss_sum = torch.zeros((), device=self._device)
        step = epoch * self._steps_per_epoch
        bar = tqdm(
            self._train_loader,
            desc=f"epoch {epoch + 1}/{config.epochs} at {size} px",
            unit="batch",
            disable=not accelerator.is_local_main_process,
        )
        for number, (pixels, boxes, targets) in enumerate(bar, start=1):
            with accelerator.accumulate(self._model):
                images = self._augment(pixels, boxes, size)
                if self._mix:
                    images, targets = self._mix(images, targets)
                inputs = self._inputs(images)
                with accelerator.autocast():
                    logits = self._model(inputs)
                loss = self._objective(logits, targets, inputs)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    if config.clip:
                        accelerator.clip_grad_norm_(self._model.parameters(), config.clip)
                    self._schedule.before_step(step)
                self._optimizer.step()
                self._optimizer.zero_grad()
                if accelerator.sync_gradients:
                    step += 1
                    if self._ema:
                        self._ema.update(self._raw_model, step)
            loss_sum += loss.detach()
            if number % 20 == 0:
                bar.set_postfix(loss=f"{loss_sum.item() / number:.3f}")
                self._check_loss(loss_sum, epoch)
        self._check_loss(loss_sum, epoch)
        train_loss = accelerator.reduce(loss_sum / len(self._train_loader), "mean").item()
        training_seconds = time.monotonic() - started
        validation_loss, top1, top5 = self._validate()
        return EpochResult(
            epoch=epoch + 1,
            train_size=size,
            lr=self._optimizer.param_groups[0]["lr"],
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_top1=top1,
            validation_top5=top5,
            seconds=time.monotonic() - started,
            photos_per_second=len(self._train_loader) * config.batch_size / training_seconds,
        )

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        inputs = normalize(images, self._data_config)
        return inputs.contiguous(memory_format=self._memory_format)

    @staticmethod
    def _check_loss(loss: torch.Tensor, epoch: int) -> None:
        if not loss.isfinite():
            raise MarqueError(
                f"the training loss is no longer a number in epoch {epoch + 1}: training "
                "diverged; lower --lr, or set --precision fp32 or a smaller --clip"
            )

    @torch.inference_mode()
    def _validate(self) -> tuple[float, float, float]:
        """Loss, top-1 and top-5 of the kept weights on the validation photos."""
        model = self.kept_model.eval()
        rows = []
        for pixels, _, targets in self._validation_loader:
            logits = model(self._inputs(pixels)).float()
            rank = (logits > logits.gather(1, targets[:, None])).sum(1)
            loss = F.cross_entropy(logits, targets, reduction="none")
            rows.append(
                self._accelerator.gather_for_metrics(
                    torch.stack([loss, (rank < 1).float(), (rank < 5).float()], dim=1)
                )
            )
        loss, top1, top5 = torch.cat(rows).mean(dim=0).tolist()
        return loss, top1, top5

    def save_state(self, path: Path) -> None:
        """Writes all that `load_state` needs into one file, whole or not at all."""
        tensors = {f"model.{name}": t for name, t in self._raw_model.state_dict().items()}
        if self._ema:
            tensors |= {f"ema.{name}": t for name, t in self._ema.module.state_dict().items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {
            "config": json.dumps(self._config.as_json()),
            "history": json.dumps([asdict(row) for row in self.history]),
        }
        unfinished = path.with_suffix(".unfinished")
        save_file(tensors, unfinished, metadata=metadata)
        unfinished.replace(path)

    def load_state(self, path: Path) -> None:
        """Goes on where the run that wrote this file was.

        Raises:
            MarqueError: the file is damaged, or that run had other settings.
        """
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                config = json.loads(file.metadata()["config"])
                history = [EpochResult(**row) for row in json.loads(file.metadata()["history"])]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise MarqueError(f"{path} is damaged and cannot be resumed from: {error}") from error
        mine = self._config.as_json()
        # A run that ran out of memory went on with smaller batches, and more of them a step.
        for settings in (mine, config):
            settings["batch_size"] = settings.get("batch_size", 0) * settings.pop("accumulate", 0)
        for name, value in mine.items():
            if config.get(name) != value:
                raise MarqueError(
                    f"--{name.replace('_', '-')} is {value}, but the run to resume has "
                    f"{config.get(name)}; give the same settings, or start again in another --out"
                )
        self._raw_model.load_state_dict(_below("model.", tensors))
        if self._ema:
            self._ema.module.load_state_dict(_below("ema.", tensors))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in _below("optimizer.", tensors).items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        self.history = history
        for row in self.history:
            self._schedule.after_epoch(row.validation_loss)


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
