"""The training loop that most people write first, which `benchmarks.training` compares with.

    python -m benchmarks.usual FOLDER tf_efficientnet_lite0 160 --classes 196 --batch-size 64

FOLDER has a folder for each class. Prints how many photos a second one epoch trained on.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from space.walk import user_path

WORKERS = 2


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=user_path)
    parser.add_argument("network")
    parser.add_argument("size", type=int)
    parser.add_argument("--classes", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    print(train_usually(**vars(parser.parse_args())))


def train_usually(folder: Path, network: str, size: int, classes: int, batch_size: int) -> float:
    """Photos a second of an epoch over a folder that has a folder for each class.

    Photos are decoded and changed one by one in two workers; the network is in fp32 with contiguous
    tensors, its optimizer AdamW.

    Args:
        network: timm's name.
        size: side of the square that it is trained at, in pixels.
        classes: outputs of the network.
    """
    model: Any = timm.create_model(network, num_classes=classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    transform = transforms.Compose([
        transforms.RandomResizedCrop(size),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.35, 0.35, 0.35),
        transforms.ToTensor(),
        transforms.Normalize(model.pretrained_cfg["mean"], model.pretrained_cfg["std"]),
    ])  # fmt: skip
    loader = DataLoader(
        ImageFolder(str(folder), transform),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
    )

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    # Warms up, so that the epoch does not pay for what happens once a run.
    step(torch.rand(batch_size, 3, size, size), torch.zeros(batch_size, dtype=torch.long))
    started = time.perf_counter()
    for inputs, targets in loader:
        step(inputs, targets)
    return len(loader) * batch_size / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
