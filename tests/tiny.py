"""Small classifiers for the command line: ``--model tests.tiny:bright``."""

import os
import time

import torch
from torch import nn

from torchlime.models import Classifier, Geometry

SMALL = Geometry(resize=(20, 20), crop=(16, 16), mean=(0.0,) * 3, std=(1.0,) * 3)


class Bright(nn.Module):
    """Logits: how red, green and blue the upper left quarter is."""

    def forward(self, images):
        return 4 * images[:, :, :8, :8].mean(dim=(2, 3))


class Nan(nn.Module):
    """NaN for photos without any red, else fine."""

    def forward(self, images):
        red = images[:, 0].amax(dim=(1, 2)) > 0
        return torch.where(red[:, None], images.mean(dim=(2, 3)), torch.nan)


class Chatty(Bright):
    def forward(self, images):
        print("hello from a model")
        return super().forward(images)


class Broken(nn.Module):
    def forward(self, images):
        raise KeyError("head")


def bright():
    return Classifier(Bright(), SMALL, ["Red, crimson", "green", "navy blue, blue"])


class Even(nn.Module):
    """Takes every photo for everything alike."""

    def forward(self, images):
        return images.mean((1, 2, 3), keepdim=True).flatten(1).expand(-1, 3)


def twins():
    return Classifier(Even(), SMALL, ["crane", "crane", "tench"])


def uncropped():
    return Classifier(Bright(), Geometry(resize=None, crop=None), ["red", "green", "blue"])


def unnamed():
    return Classifier(Bright(), SMALL)


def nan():
    return Classifier(Nan(), SMALL, ["red", "green", "blue"])


def chatty():
    return Classifier(Chatty(), SMALL, ["red", "green", "blue"])


def broken():
    return Classifier(Broken(), SMALL, ["red", "green", "blue"])


class Picky(Bright):
    """Fails on photos without any red."""

    def forward(self, images):
        if (images[:, 0].amax(dim=(1, 2)) == 0).any():
            raise ValueError("no red")
        return super().forward(images)


class Slow(Bright):
    def forward(self, images):
        time.sleep(float(os.environ.get("TINY_SECONDS", "0.05")))
        return super().forward(images)


class Leaving(nn.Module):
    def forward(self, images):
        raise SystemExit(0)


def picky():
    return Classifier(Picky(), SMALL, ["red", "green", "blue"])


def slow():
    """Of photos that no pipe between processes holds many of."""
    return Classifier(Slow(), Geometry(resize=(128, 128), crop=None), ["red", "green", "blue"])


def leaving():
    return Classifier(Leaving(), SMALL, ["red", "green", "blue"])


def leaves():
    raise SystemExit(0)


def fails():
    raise KeyError("no such thing")


class Detecting(nn.Module):
    """Boxes on the left and right halves, labelled 1 and 2, as sure as the half is red."""

    def forward(self, images):
        half, (height, width) = images.shape[3] // 2, images.shape[2:]
        boxes = images.new_tensor([[0, 0, half, height], [half, 0, width, height]])
        sure = [images[..., :half], images[..., half:]]
        scores = torch.stack([side[:, 0].mean(dim=(1, 2)) for side in sure], 1)
        labels = torch.tensor([1, 2], device=images.device)
        return [{"boxes": boxes, "labels": labels, "scores": row} for row in scores]


class Painting(nn.Module):
    """Logits of every pixel: how red, green and blue it is."""

    def forward(self, images):
        return {"out": 4 * images, "aux": images}


def detecting():
    geometry = Geometry(resize=None, crop=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier(Detecting(), geometry, ["background", "cat", "dog"], output="none")


def painting():
    return Classifier(Painting(), SMALL, ["red", "green", "blue"])
