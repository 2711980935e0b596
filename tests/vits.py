"""Tiny vision transformers of every family, at random weights under which every layer matters.

Each comes with what a slow reference needs: full tokens, of which hidden ones are no keys of any
attention, and a head that sees the kept ones alone.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SIZE, PATCH, CLASSES = 24, 6, 5
SIDE = SIZE // PATCH
PATCHES = SIDE**2


@dataclass
class Family:
    """A model, its number of tokens before the patches, and its two halves.

    Args:
        features: images → all tokens [n,prefix+P,D].
        head: model, tokens → outputs [n,K].
    """

    make: Callable[[], nn.Module]
    prefix: int
    features: Callable[[Any, torch.Tensor], torch.Tensor]
    head: Callable[[Any, torch.Tensor], torch.Tensor]

    def model(self, dtype=torch.float64):
        torch.manual_seed(0)
        return randomised(self.make()).to(dtype).eval()

    def reference(self, model, image, kept):
        """Outputs [1,K] of an image [1,C,H,W] of which the patches ``kept`` are left."""
        visible = torch.zeros(self.prefix + PATCHES, dtype=torch.bool)
        visible[: self.prefix] = True
        visible[self.prefix + kept] = True
        with torch.enable_grad(), keys(visible):  # with gradients there is no fast path
            tokens = self.features(model, image)
        return self.head(model, tokens[:, visible]).detach()


@contextlib.contextmanager
def keys(visible):
    """Every attention over all tokens sees these keys alone."""
    true = F.scaled_dot_product_attention

    def masked(query, key, value, attn_mask=None, *args, **kwargs):
        assert attn_mask is None
        assert key.shape[-2] == len(visible)
        return true(query, key, value, visible[None, None, None], *args, **kwargs)

    F.scaled_dot_product_attention = masked
    try:
        yield
    finally:
        F.scaled_dot_product_attention = true


@torch.no_grad()
def randomised(model):
    """Weights that leave no branch near zero: fresh heads and layer scales are."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and "token" not in name and "pos" not in name:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
        elif "weight" in name or "gamma" in name or "lambda" in name:
            parameter.normal_(1.0, 0.2)
        else:
            parameter.normal_(std=0.5)
    return model


class Logits(nn.Module):
    """The pooled output of a network without a head."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images).pooler_output


def torchvision_vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(SIZE, PATCH, 2, 2, 16, 32, num_classes=CLASSES)


def of_torchvision():
    def features(model, images):
        tokens = model._process_input(images)
        return model.encoder(torch.cat([model.class_token.expand(len(images), -1, -1), tokens], 1))

    return Family(torchvision_vit, 1, features, lambda model, tokens: model.heads(tokens[:, 0]))


def timm_vit(**settings):
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return VisionTransformer(**(sizes | {"num_classes": CLASSES} | settings))


def eva(**settings):
    from timm.models.eva import Eva

    sizes = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return Eva(**(sizes | {"num_classes": CLASSES} | settings))


def distilled():
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=SIZE, patch_size=PATCH, embed_dim=16, depth=2, num_heads=2, num_classes=CLASSES
    )


def of_timm(make, prefix, **settings):
    return Family(
        lambda: make(**settings),
        prefix,
        lambda model, images: model.forward_features(images),
        lambda model, tokens: model.forward_head(tokens),
    )


CONFIG = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "image_size": SIZE, "patch_size": PATCH,
}  # fmt: skip


def classifier(name, config, **settings):
    def make():
        import transformers

        made = getattr(transformers, config)(**CONFIG, num_labels=CLASSES, **settings)
        return getattr(transformers, name)(made)

    return make


def dinov3():
    import transformers

    config = transformers.DINOv3ViTConfig(**CONFIG, num_register_tokens=4)
    return Logits(transformers.DINOv3ViTModel(config))


def of_two_towers(name):
    def make():
        import transformers

        whole = getattr(transformers, f"{name}Config")(
            vision_config={**CONFIG, "vision_use_head": False}, num_labels=CLASSES
        )
        return getattr(transformers, f"{name}ForImageClassification")(whole)

    return make


def clip():
    import transformers

    return Logits(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CONFIG)))


def siglip():
    import transformers

    return Logits(transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**CONFIG)))


def hidden_states(name):
    return lambda model, images: getattr(model, name)(images).last_hidden_state


def class_token(model, tokens):
    return model.classifier(tokens[:, 0])


def both(model, tokens):
    return model.classifier(torch.cat([tokens[:, 0], tokens[:, model_prefix(model) :].mean(1)], 1))


def model_prefix(model):
    return 1 + getattr(model.config, "num_register_tokens", 0)


def with_teacher(model, tokens):
    heads = model.cls_classifier(tokens[:, 0]), model.distillation_classifier(tokens[:, 1])
    return sum(heads) / 2


FAMILIES = {
    "torchvision": of_torchvision(),
    "timm, class token": of_timm(timm_vit, 1),
    "timm, average": of_timm(timm_vit, 1, global_pool="avg"),
    "timm, average, no class token": of_timm(timm_vit, 0, global_pool="avg", class_token=False),
    "timm, map (SigLIP)": of_timm(timm_vit, 0, global_pool="map", class_token=False),
    "timm, largest": of_timm(timm_vit, 1, global_pool="avgmax"),
    "timm, registers (DINOv2)": of_timm(timm_vit, 5, reg_tokens=4, init_values=1e-5),
    "timm, DeiT-3": of_timm(timm_vit, 1, no_embed_class=True, init_values=1e-6),
    "timm, CLIP": of_timm(timm_vit, 1, pre_norm=True),
    "timm, other sizes": of_timm(timm_vit, 1, dynamic_img_size=True),
    "timm, distilled": of_timm(distilled, 2),
    "timm, EVA-02": of_timm(eva, 1, use_rot_pos_emb=True, swiglu_mlp=True, scale_mlp=True),
    "timm, EVA": of_timm(eva, 1),
    "timm, rope mixed": of_timm(
        eva, 1, use_rot_pos_emb=True, rope_type="mixed", attn_type="rope", global_pool="token"
    ),
    "timm, DINOv3": of_timm(
        eva, 5, use_rot_pos_emb=True, rope_type="dinov3", num_reg_tokens=4, use_abs_pos_emb=False,
        rope_rotate_half=True,
    ),
    "ViT": Family(
        classifier("ViTForImageClassification", "ViTConfig"), 1, hidden_states("vit"), class_token
    ),
    "DeiT": Family(
        classifier("DeiTForImageClassification", "DeiTConfig"), 2, hidden_states("deit"),
        class_token,
    ),
    "DeiT with teacher": Family(
        classifier("DeiTForImageClassificationWithTeacher", "DeiTConfig"), 2,
        hidden_states("deit"), with_teacher,
    ),
    "DINOv2": Family(
        classifier("Dinov2ForImageClassification", "Dinov2Config"), 1, hidden_states("dinov2"), both
    ),
    "DINOv2 with registers": Family(
        classifier(
            "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig",
            num_register_tokens=4,
        ),
        5, hidden_states("dinov2_with_registers"), both,
    ),
    "DINOv3": Family(dinov3, 5, hidden_states("network"), lambda _, tokens: tokens[:, 0]),
    "CLIP": Family(
        clip, 1, hidden_states("network"),
        lambda model, tokens: model.network.post_layernorm(tokens[:, 0]),
    ),
    "CLIP, average": Family(
        of_two_towers("CLIP"), 1, hidden_states("vision_model"),
        lambda model, tokens: model.classifier(tokens[:, 1:].mean(1)),
    ),
    "SigLIP": Family(
        siglip, 0, hidden_states("network"), lambda model, tokens: model.network.head(tokens)
    ),
    "SigLIP, average": Family(
        of_two_towers("Siglip"), 0, hidden_states("vision_model"),
        lambda model, tokens: model.classifier(tokens.mean(1)),
    ),
}  # fmt: skip
