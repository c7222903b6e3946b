"""Every setting of a training run, in groups; each field is an option of the command line.

A field's help says what it does and why one would want it. `trainer.training.config` makes one
object and one command line of all groups.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.weights import AUTO, RANDOM

HEADS = ("linear", "mlp", "joint", "arcface", "cosface")
MARGIN_HEADS = ("arcface", "cosface")
POLICIES = ("none", "randaugment", "trivialaugment", "augmix")
SCHEDULES = ("onecycle", "cosine", "step", "poly", "tanh", "constant", "plateau")
PRECISIONS = ("fp32", "bf16", "fp16")
TRACKERS = ("none", "tensorboard", "trackio")


def option(help: str, default: Any, choices: tuple[str, ...] = ()) -> Any:
    """A field with its help, and the values that it may have if they can be listed."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The run."""

    out: Path = option("the run's folder; its checkpoint/ is what gets published", Path())
    recipe: str = option(
        "start from the settings of a recipe: one of trainer/recipes by name, or a .toml file; "
        "what stands on the command line goes before it",
        "",
    )
    resume: bool = option("go on with the run in --out where it stopped", False)
    seed: int = option("for the split, the order of photos and the augmentation", 0)
    cache: Path = option("where decoded photos are kept", Path(".cache/photos"))
    graph: bool = option(
        "end with the checkpoint's graph, by which it is answered without PyTorch", True
    )
    tracker: str = option(
        "also show the curves in TensorBoard or trackio, which are installed on their own; "
        "log.csv and curves.png are written always",
        "none",
        TRACKERS,
    )


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Photos."""

    data: tuple[str, ...] = option(
        "a dataset, NAME=LOCATION, or NAME alone for the folder of that name in MARQUE_DATA; a "
        "folder, zip, CSV of addresses, Hub id or kaggle:OWNER/DATASET; may be given several times",
        (),
    )
    image_column: str = option("the column of pictures in a Hub dataset", "image")
    label_column: str = option("the column of classes in a Hub dataset", "label")
    split_file: Path | None = option(
        "use this split instead of splitting a new one (CSV source,path,label,split,group)", None
    )
    split: str = option(
        "how photos are split without --split-file: training/validation/test in percent "
        "(70/15/15), training/test (90/10), official, or a fold (fold:2/5)",
        "80/10/10",
    )
    keep_non_exteriors: bool = option(
        "train on photos that show no car from outside too, as for a gate that knows them", False
    )
    cache_size: int = option(
        "side of the cached photos that training crops from; above --train-size, so that crops "
        "keep their detail",
        256,
    )
    car_crop: bool = option(
        "cut the car out of each photo with the detector, and train on that", False
    )
    stream: bool = option(
        "read a Hub dataset as it trains, without keeping it on disk, when it is larger than that",
        False,
    )
    stream_photos: int = option(
        "photos an epoch with --stream; 0 for as many as the dataset says that it has", 0
    )
    stream_buffer: int = option(
        "undecoded photos that each process of a --stream draws from; more of them mix better and "
        "take more memory",
        1000,
    )
    stream_validation: int = option(
        "photos of a --stream that are kept in --cache to judge the epochs", 2000
    )


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Network."""

    model: str = option(
        "any timm network, or marque_cnn, a plain network to train from noise as a baseline",
        "tf_efficientnet_lite0",
    )
    weights: str = option(
        f"starting weights: {AUTO} (ImageNet, from the Hub or an installed package), a "
        f".safetensors or .pth file, a checkpoint folder to go on from, or {RANDOM} to train from "
        "noise",
        AUTO,
    )
    license: str = option(
        "license of the trained weights, as the Hub calls it "
        "(https://huggingface.co/docs/hub/repositories-licenses); default: that of the starting "
        "weights, or mit where they name none",
        "",
    )
    head: str = option(
        "linear; mlp (--hidden layers, for frozen features; its checkpoints open in Marque alone); "
        "joint (classes share what is common to their make and model); arcface or cosface "
        "(a --margin between look-alikes). All but mlp are kept as a plain linear head",
        "linear",
        HEADS,
    )
    hidden: str = option("widths of the hidden layers of --head mlp", "2048-1024")
    margin: float = option("of arcface (radians) or cosface (cosine)", 0.3)
    margin_scale: float = option("what arcface and cosface multiply the cosines by", 24.0)
    dropout: float = option("before the head; more for small datasets", 0.2)
    drop_path: float = option(
        "share of residual branches left out at random in the last block, fewer in those before "
        "(stochastic depth), for long runs of deep networks",
        0.0,
    )

    @property
    def hidden_widths(self) -> tuple[int, ...]:
        """`hidden` as numbers."""
        return tuple(int(width) for width in self.hidden.split("-"))


@dataclass(frozen=True, kw_only=True)
class ScheduleSettings:
    """Stages, optimizer and schedule."""

    epochs: int = option("times through the training photos", 16)
    batch_size: int = option("photos a step, over all processes", 64)
    accumulate: int = option(
        "batches whose gradients are summed before a step, for large batches in little memory", 1
    )
    head_epochs: int = option(
        "first epochs that train the head alone, so that its noise does not spoil the features", 0
    )
    top_epochs: int = option("epochs after these that train --top-share of the layers", 0)
    top_share: float = option("the last layers, as a share of all, of --top-epochs", 0.3)
    freeze_norm: bool = option(
        "keep the batch norms as the starting weights have them, for small batches", False
    )
    optimizer: str = option("any of timm's, such as adamw, sgd, lamb, lion, adan", "adamw")
    lr: float = option("peak learning rate of the pretrained layers", 8e-4)
    head_lr_factor: float = option("the new head learns this many times faster", 4.0)
    layer_decay: float = option(
        "the rate of each layer as a share of the layer above it, for transformers (0.75); 1 for "
        "the same rate everywhere",
        1.0,
    )
    weight_decay: float = option("of matrices and kernels, not of biases and norms", 0.05)
    schedule: str = option(
        "how the rate goes: onecycle (up and down once), timm's cosine, step, poly, tanh and "
        "plateau (down when the validation loss no longer falls), or constant",
        "onecycle",
        SCHEDULES,
    )
    warmup: float = option("share of all steps over which the rate rises", 0.15)
    decay_epochs: int = option("epochs between the falls of --schedule step", 4)
    plateau_patience: int = option("epochs without progress before --schedule plateau falls", 2)
    patience: int = option(
        "stop when so many epochs in turn brought no better validation loss and no more photos "
        "right; 0 never stops early",
        0,
    )
    ema: float = option("decay of the averaged weights that are kept; 0 keeps the raw ones", 0.998)
    clip: float = option("largest gradient norm; 0 for no limit", 5.0)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Loss."""

    label_smoothing: float = option("0 trains on hard labels", 0.1)
    focal: float = option(
        "gamma of the focal loss, which cares less for photos that are right already; 0 for "
        "plain cross-entropy",
        0.0,
    )
    level_loss: float = option(
        "weight of the loss of make and model, summed over their classes, so that mistakes "
        "stay in the family",
        0.0,
    )
    class_weights: bool = option(
        "rare classes count more in the loss, for datasets of uneven classes", False
    )
    balanced: bool = option(
        "draw photos so that all classes are as frequent; not together with --class-weights", False
    )
    teacher: str = option(
        "distil from this checkpoint, a larger one of the same classes: a folder or org/name", ""
    )
    teacher_share: float = option("share of the loss that compares with the teacher", 0.5)
    teacher_temperature: float = option(
        "by which the logits of both are divided first; above 1 shows what else was likely", 2.0
    )


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """Sizes and augmentation."""

    train_size: int = option("side of the square in training, in pixels", 160)
    start_size: int = option(
        "side in the first epoch, growing to --train-size over the first half of the "
        "run (progressive resizing); 0 for --train-size throughout",
        0,
    )
    test_size: int = option("side of the square in use and validation, in pixels", 224)
    crop_area: float = option("least share of the photo that a random crop keeps; 1 for none", 0.4)
    loose: float = option(
        "share of photos seen with all that stands around the car, with --car-crop", 0.12
    )
    aspect: float = option("stretched or squeezed by up to this share", 0.2)
    rotate: float = option("turned by up to so many degrees, as phones are held", 8.0)
    flip: float = option("share of photos mirrored; 0 where writing matters", 0.5)
    color: float = option("brightness, contrast and saturation by up to this share", 0.35)
    grey: float = option("share of photos without colors, so that paint tells less", 0.05)
    blur: float = option("share of photos blurred, for cars out of focus", 0.0)
    jpeg: float = option("share of photos compressed hard as JPEG, as messengers do", 0.0)
    downscale: float = option("share of photos scaled down and up again, as thumbnails are", 0.0)
    erase: float = option("share of photos with a patch erased, for hidden parts", 0.3)
    shrink: float = option(
        "share of photos that are put small into a larger frame, for cars that fill a part of "
        "the photo only",
        0.0,
    )
    backgrounds: float = option(
        "share of photos with a blacked-out background that get that of another photo, so that "
        "black itself tells nothing",
        0.0,
    )
    policy: str = option(
        "a published mix of operations on top: randaugment, trivialaugment (no strength to "
        "choose) or augmix",
        "none",
        POLICIES,
    )
    mixup: float = option(
        "alpha of mixup, which blends two photos and their labels (0.2 is usual); 0 for none", 0.0
    )
    cutmix: float = option(
        "alpha of CutMix, which pastes a part of one photo into another (1 is usual); 0 for none",
        0.0,
    )
    mix_share: float = option("share of batches that mixup or CutMix mixes", 0.5)


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Machine."""

    precision: str = option(
        "fp32, or bf16 or fp16 where the processor has them, which halves time and memory",
        "fp32",
        PRECISIONS,
    )
    compile: bool = option(
        "compile the network first: minutes at the start, faster steps on most GPUs", False
    )
