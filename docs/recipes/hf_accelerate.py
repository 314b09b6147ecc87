"""Hugging Face Accelerate: mix after the prepared loader, on its device."""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from digits import digits, small_cnn
from torch.utils.data import DataLoader

from mixup_transforms import RandomMixup, seeded_generator

accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
training, test = digits()
model = small_cnn()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
model, optimizer, loader, test_loader = accelerator.prepare(
    model,
    optimizer,
    DataLoader(training, batch_size=64, shuffle=True),
    DataLoader(test, batch_size=256),
)

mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))
accelerator.register_for_checkpointing(mix)

for _ in range(10):
    model.train()
    for images, labels in loader:
        images, labels = mix(images, labels)
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()

model.eval()
hits = []
with torch.no_grad():
    for images, labels in test_loader:
        predicted = model(images).argmax(1)
        hits.append(accelerator.gather_for_metrics(predicted == labels))
accelerator.print(f"test accuracy: {torch.cat(hits).float().mean():.1%}")
