"""Hugging Face ``Trainer``: mix in the data collator of the training batches."""

from tempfile import TemporaryDirectory

import torch.nn.functional as F
from digits import digits
from transformers import (
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    default_data_collator,
    set_seed,
)

from mixup_transforms import RandomMixup, seeded_generator

mix = RandomMixup(alpha=0.4, num_classes=10, generator=seeded_generator(0))


def mixing_collator(samples):
    return mix(default_data_collator(samples))  # finds pixel_values and labels


class MixingTrainer(Trainer):
    def get_train_dataloader(self):
        plain, self.data_collator = self.data_collator, mixing_collator
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain


def soft_cross_entropy(outputs, labels, num_items_in_batch=None):
    loss = F.cross_entropy(outputs["logits"], labels, reduction="sum")
    if num_items_in_batch is None:
        return loss / len(labels)
    columns = labels.numel() // len(labels)  # the trainer counts every one of them as an item
    return loss * columns / num_items_in_batch


def accuracy(prediction):
    return {"accuracy": (prediction.predictions.argmax(1) == prediction.label_ids).mean()}


def main():
    set_seed(0)
    training, test = (
        [{"pixel_values": image, "labels": label} for image, label in part] for part in digits()
    )
    config = ViTConfig(
        image_size=8,
        patch_size=4,
        num_channels=1,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=10,
    )
    with TemporaryDirectory() as folder:
        trainer = MixingTrainer(
            ViTForImageClassification(config),
            TrainingArguments(
                folder,
                num_train_epochs=20,
                per_device_train_batch_size=64,
                per_device_eval_batch_size=256,
                learning_rate=3e-3,
                remove_unused_columns=False,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            ),
            train_dataset=training,
            eval_dataset=test,
            data_collator=default_data_collator,
            compute_loss_func=soft_cross_entropy,
            compute_metrics=accuracy,
        )
        trainer.train()
        print(f"test accuracy: {trainer.evaluate()['eval_accuracy']:.1%}")


if __name__ == "__main__":
    main()
