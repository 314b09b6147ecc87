"""A user's program, which `mypy --strict` and pyright accept; pytest imports it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from mixup_transforms import (
    LabelMixture,
    MatchedPairing,
    MixCollate,
    MixedDataset,
    MixedStream,
    MixScheduler,
    MixtureLoss,
    NearPairing,
    OneHot,
    PresentLabels,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    functional,
    mixed_accuracy,
    seeded_generator,
)

generator: torch.Generator = seeded_generator(0, rank=1)
mix = RandomMixup(alpha=0.4, num_classes=10, generator=generator)
choice = RandomChoice([mix, RandomCutMix(num_classes=10)], weights=[1, 2], per_sample=True)
pipeline = nn.Sequential(OneHot(10, label_smoothing=0.1), RandomMixup(inplace=True))
across = RandomMixup(pairing=MatchedPairing(same="labels", other=lambda batch: batch["site"]))
near = RandomMixup(pairing=NearPairing(0.5, of=1))
tagging = nn.Sequential(RandomMixup(), PresentLabels(threshold=0.1))

data = TensorDataset(torch.rand(8, 3, 8, 8), torch.arange(8))
loader: DataLoader[Any] = DataLoader(data, 4, collate_fn=MixCollate(choice, default_collate))
dataset = MixedDataset(data, RandomMixup(num_classes=10), seed=0, partner_weights=[1.0] * 8)
dataset.set_epoch(1)
dataset.partner_weights = torch.ones(8)
stream = MixedStream(iter(data), RandomMixup(num_classes=10), seed=0, buffer=32, rank=1)
stream.set_epoch(1)
stream_state: dict[str, Any] = stream.state_dict()
stream.load_state_dict(stream_state)

params: dict[str, Tensor] = mix.make_params([torch.rand(4, 3, 8, 8)])
mix.p = 0.0
scheduler = MixScheduler(mix, p=lambda epoch: 1 / (1 + epoch), alpha=lambda epoch: 0.4)
scheduler.step()
state: dict[str, int] = scheduler.state_dict()
scheduler.load_state_dict(state)
span = RandomCutMix(dims=1, num_classes=10)
lengths: int = span.dims
share: Tensor = functional.box_share(torch.zeros(4, 4, dtype=torch.int64), 8, 8)
pixels: Tensor = functional.mixup(torch.rand(4, 3), params["partner"], params["lam"], inplace=True)
mixture = LabelMixture(torch.zeros(4, 2, dtype=torch.int64), torch.full((4, 2), 0.5))
dense: Tensor = mixture.dense(10, label_smoothing=0.1)
loss: Tensor = MixtureLoss(nn.CrossEntropyLoss())(torch.rand(4, 10), mixture)
accuracy: Tensor = mixed_accuracy(torch.rand(4, 10), dense)
