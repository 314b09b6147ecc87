"""Plain PyTorch, with automatic mixed precision in bfloat16."""

import torch
import torch.nn.functional as F
from digits import digits, small_cnn
from torch.utils.data import DataLoader

from mixup_transforms import RandomMixup, seeded_generator

torch.manual_seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
training, test = digits()
loader = DataLoader(training, batch_size=64, shuffle=True)
model = small_cnn().to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))

for _ in range(10):
    for images, labels in loader:
        images, labels = mix(images.to(device), labels.to(device))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
    images, labels = (part.to(device) for part in test.tensors)
    correct = model(images).argmax(1) == labels
print(f"test accuracy: {correct.float().mean():.1%}")
