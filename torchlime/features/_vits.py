"""The vision transformers that are understood, and which of them a model holds."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from torch import nn

from torchlime._checks import check_count
from torchlime._networks import networks_of
from torchlime.features._vit import Vit


class Place(NamedTuple):
    """Where the embedded tokens of a class of networks are, as paths from the network.

    Args:
        tokens: the module whose output is the tokens [n,prefix+P,D], their positions added.
        stem: the convolution that makes the patches.
        prefix: network → how many tokens, such as the class token, come before the patches.
        rotary: a module whose output are angles [P,d] of the patches, or their list of blocks,
            which are given such angles as ``rope``.
    """

    tokens: str
    stem: str
    prefix: Callable[[Any], int]
    rotary: str | None = None


def _hugging_face(stem: str, prefix: int, rotary: str | None = None) -> Place:
    def tokens_before(network: Any) -> int:
        registers = getattr(network.embeddings, "register_tokens", None)
        return prefix + (0 if registers is None else registers.shape[1])

    return Place("embeddings", f"embeddings.{stem}", tokens_before, rotary)


def _of_timm(network: Any) -> int:
    return int(network.num_prefix_tokens)


# By root package and class, so that nothing is imported.
PLACES = {
    ("torchvision", "VisionTransformer"): Place("encoder.dropout", "conv_proj", lambda _: 1),
    ("timm", "VisionTransformer"): Place("patch_drop", "patch_embed.proj", _of_timm),
    ("timm", "Eva"): Place("pos_drop", "patch_embed.proj", _of_timm, "blocks"),
    ("transformers", "ViTModel"): _hugging_face("patch_embeddings.projection", 1),
    ("transformers", "DeiTModel"): _hugging_face("patch_embeddings.projection", 2),
    ("transformers", "Dinov2Model"): _hugging_face("patch_embeddings.projection", 1),
    ("transformers", "Dinov2WithRegistersModel"): _hugging_face("patch_embeddings.projection", 1),
    ("transformers", "DINOv3ViTModel"): _hugging_face("patch_embeddings", 1, "rope_embeddings"),
    ("transformers", "CLIPVisionModel"): _hugging_face("patch_embedding", 1),
    ("transformers", "CLIPVisionTransformer"): _hugging_face("patch_embedding", 1),  # before 5.0
    ("transformers", "SiglipVisionModel"): _hugging_face("patch_embedding", 0),
    ("transformers", "SiglipVisionTransformer"): _hugging_face("patch_embedding", 0),  # before 5.0
}
UNDERSTOOD = (
    "torchvision's and timm's VisionTransformer, timm's Eva, and transformers' ViT, DeiT, DINOv2, "
    "DINOv3, CLIP and SigLIP are"
)


def vit_of(model: Any, at: str | None = None, prefix: int | None = None) -> Vit:
    """The vision transformer behind a callable.

    Args:
        model: any callable; :func:`torchlime._networks.networks_of` finds its networks.
        at: the name of the first module that gets the tokens [n,prefix+P,D], positions added, such
            as "blocks.0"; None = as the class of a known network says.
        prefix: with ``at``, how many tokens come before the patches.

    Raises:
        TypeError, ValueError: there is no vision transformer that is understood, or several.
    """
    networks = networks_of(model)
    if (at is None) != (prefix is None):
        raise ValueError("at= and prefix= go together: where the tokens are, and how many precede")
    _refuse_compiled(networks)
    if at is not None:
        check_count(prefix, "prefix", 0)
        return Vit(_named(networks, at), int(prefix), before=True)  # type: ignore[arg-type]
    found = {
        id(module): (module, place)
        for network in networks
        for module in network.modules()
        for place in _places(module)
    }
    if not found:
        raise ValueError(_not_understood(networks))
    if len(found) > 1:
        names = ", ".join(type(module).__name__ for module, _ in found.values())
        raise ValueError(
            f"the model holds several vision transformers ({names}); name the first block of the "
            "one whose patches are meant: at='0.blocks.0', prefix=1"
        )
    ((network, place),) = found.values()
    return _vit(network, place)


def _places(module: nn.Module) -> Iterator[Place]:
    """Where the tokens of a network are, if its class is known and it has such modules."""
    for kind in type(module).__mro__:
        place = PLACES.get((kind.__module__.partition(".")[0], kind.__name__))
        if place is not None and _within(module, place.tokens) is not None:
            yield place
            return


def _within(network: nn.Module, path: str) -> Any:
    for name in path.split("."):
        network = getattr(network, name, None)  # type: ignore[assignment]
    return network


def _vit(network: nn.Module, place: Place) -> Vit:
    stem = _within(network, place.stem)
    if not _cuts_patches(stem) or hasattr(
        _within(network, place.stem.rpartition(".")[0]), "backbone"
    ):
        raise ValueError(
            f"the patches of this {type(network).__name__} come from several layers "
            f"({type(stem).__name__}), so that a token has seen its neighbours; leaving it out "
            "would hide only a part: paint instead, by explain(model, images)"
        )
    rotary = _within(network, place.rotary) if place.rotary else None
    blocks = tuple(rotary) if isinstance(rotary, nn.ModuleList) else ()
    angles = None if blocks else rotary
    tokens = _within(network, place.tokens)
    return Vit(tokens, place.prefix(network), stem=stem, angles=angles, blocks=blocks)


def _cuts_patches(stem: Any) -> bool:
    """Whether a layer gives each token the pixels of its own patch alone."""
    return (
        isinstance(stem, nn.Conv2d)
        and stem.kernel_size == stem.stride
        and stem.dilation == (1, 1)
        and stem.padding in ("valid", (0, 0))
    )


def _named(networks: list[nn.Module], name: str) -> nn.Module:
    named = [dict(network.named_modules()) for network in networks]
    found = {id(modules[name]): modules[name] for modules in named if name in modules}
    if len(found) != 1:
        names = [child for modules in named for child in modules if child.endswith(".0")]
        raise ValueError(
            f"at={name!r} must name one module of the model, but it names {len(found)}; some of "
            f"its modules are {', '.join(names[:8])}"
        )
    return next(iter(found.values()))


def _refuse_compiled(networks: list[nn.Module]) -> None:
    for module in (module for network in networks for module in network.modules()):
        in_place = getattr(module, "_compiled_call_impl", None) is not None
        if in_place or hasattr(module, "_orig_mod"):
            raise ValueError(
                "a part of the model is compiled, and compiled code does not see where patches "
                "are left out; pass the model before torch.compile"
            )


def _not_understood(networks: list[nn.Module]) -> str:
    names = ", ".join(type(network).__name__ for network in networks) or "no network was found"
    return (
        f"the model ({names}) holds no vision transformer whose patches can be left out; "
        f"{UNDERSTOOD} understood. Swin, ConvNeXt, pyramids and other networks mix patches or tie "
        "them to places: paint instead, by explain(model, images). For another plain transformer "
        "name its first block, and the number of tokens before the patches: "
        "at='blocks.0', prefix=1"
    )
