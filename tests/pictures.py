import numpy as np
import torch
from PIL import Image


def read_png(path):
    """The picture [3,H,W] uint8 in a file, which must be an RGB one."""
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)
