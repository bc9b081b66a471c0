"""Training of a bundled model: one loop, AdamW under a one-cycle schedule, the same for every network.

Deterministic on one machine for one seed, thread count and PyTorch version.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How long and how fast to train: `batch` in images, `peak_rate` the greatest learning rate."""

    epochs: int
    batch: int
    peak_rate: float
    weight_decay: float
    seed: int


def start(seed: int) -> None:
    """Make what follows deterministic: initial weights by `seed`, two threads, deterministic kernels."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)


def unchanged(images: Tensor, random: torch.Generator) -> Tensor:
    """The augmentation that does nothing."""
    return images


def fit(
    network: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, augment: Augment = unchanged
) -> None:
    """Train `network` in place on images (n, C, H, W) float32 and labels (n,) int64."""
    random = torch.Generator().manual_seed(recipe.seed)
    optimiser = torch.optim.AdamW(network.parameters(), recipe.peak_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * (len(images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.peak_rate, total_steps=steps)
    network.train()
    for epoch in range(recipe.epochs):
        total = 0.0
        order = torch.randperm(len(images), generator=random)
        batches = order[: len(order) // recipe.batch * recipe.batch].view(-1, recipe.batch)
        for index in batches:
            loss = cross_entropy(network(augment(images[index], random)), labels[index])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{recipe.epochs}: mean loss {total / len(batches):.4f}", flush=True)
