"""Of timm: what has attention, mixing or layers of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from .zoo import Applied, architecture, by_affine, by_clamp


def from_timm(model: str, **options: Any) -> nn.Module:
    import timm

    return timm.create_model(model, pretrained=False, num_classes=10, **options)


def timm_class(module: str, name: str) -> Any:
    return getattr(__import__(f"timm.models.{module}", fromlist=[name]), name)


small = {"img_size": 32, "embed_dim": 16, "depth": 2, "num_heads": 2}
pyramid = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}


@architecture("timm", 3, 32, 32)
def timm_vit() -> nn.Module:
    return from_timm("vit_tiny_patch16_224", patch_size=8, **small)


@architecture("timm", 3, 32, 32)
def timm_deit_distilled() -> nn.Module:
    return from_timm("deit_tiny_distilled_patch16_224", patch_size=8, **small)


@architecture("timm", 3, 32, 32)
def timm_beit() -> nn.Module:
    return from_timm("beit_base_patch16_224", patch_size=8, **small)


@architecture("timm", 3, 32, 32)
def timm_eva() -> nn.Module:
    return from_timm("eva02_tiny_patch14_224", patch_size=8, **small)


@architecture("timm", 3, 32, 32)
def timm_cait() -> nn.Module:
    return from_timm("cait_xxs24_224", patch_size=8, init_values=0.1, **small)


@architecture("timm", 3, 32, 32, equivalent=by_affine)
def timm_xcit() -> nn.Module:
    return from_timm("xcit_nano_12_p16_224", patch_size=8, eta=0.1, **small)


@architecture("timm", 3, 32, 32)
def timm_swin() -> nn.Module:
    options = {"patch_size": 2, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
    return from_timm("swin_tiny_patch4_window7_224", img_size=32, embed_dim=8, **options)


@architecture("timm", 3, 32, 32)
def timm_convnext() -> nn.Module:
    return from_timm("convnext_atto", ls_init_value=0.1, **pyramid)


@architecture("timm", 3, 32, 32)
def timm_mixer() -> nn.Module:
    return timm_class("mlp_mixer", "MlpMixer")(10, 32, patch_size=8, embed_dim=16, num_blocks=2)


@architecture("timm", 3, 32, 32)
def timm_resmlp() -> nn.Module:
    from timm.models.mlp_mixer import Affine, ResBlock

    options = {"block_layer": partial(ResBlock, init_values=0.1), "norm_layer": Affine, "mlp_ratio": 4}
    return timm_class("mlp_mixer", "MlpMixer")(10, 32, patch_size=8, embed_dim=16, num_blocks=2, **options)


def without_cached_biases(levit: nn.Module, x: Tensor) -> Tensor:
    """In eval mode it keeps the attention biases of the first evaluation, with their graph or without."""
    for module in levit.modules():
        if hasattr(module, "attention_bias_cache"):
            module.attention_bias_cache = {}
    return levit(x)


@architecture("timm", 3, 64, 64, equivalent=by_affine)
def timm_levit() -> nn.Module:
    options = {"embed_dim": (16, 24, 32), "key_dim": 8, "depth": (1, 1, 1), "num_heads": (2, 2, 2)}
    return Applied(from_timm("levit_128s", img_size=64, **options), without_cached_biases)


@architecture("timm", 3, 32, 32)
def timm_repvgg() -> nn.Module:
    block, setting = timm_class("byobnet", "ByoBlockCfg"), timm_class("byobnet", "ByoModelCfg")
    blocks = tuple(block(type="rep", d=1, c=width, s=2, gs=0) for width in (8, 16, 24))
    return timm_class("byobnet", "ByobNet")(setting(blocks=blocks, stem_type="rep", stem_chs=8), num_classes=10)


@architecture("timm", 3, 32, 32, equivalent=by_clamp)
def timm_ghostnet() -> nn.Module:
    return timm_class("ghostnet", "GhostNet")(from_timm("ghostnet_050").cfgs, num_classes=10, width=0.1)


@architecture("timm", 3, 32, 32)
def timm_poolformer() -> nn.Module:
    return timm_class("metaformer", "MetaFormer")(num_classes=10, **pyramid)


@architecture("timm", 3, 64, 64)
def timm_edgenext() -> nn.Module:
    return from_timm("edgenext_xx_small", heads=(2, 2, 2, 2), ls_init_value=0.1, **pyramid)


@architecture("timm", 3, 64, 64)
def timm_mobilevit() -> nn.Module:
    return from_timm("mobilevit_xxs")


@architecture("timm", 3, 32, 32)
def timm_res2net() -> nn.Module:
    return from_timm("res2net50_26w_4s", layers=(1, 1, 1, 1), base_width=4)


@architecture("timm", 3, 32, 32)
def timm_resnest() -> nn.Module:
    return from_timm("resnest14d", base_width=8)


@architecture("timm", 3, 32, 32)
def timm_nfnet() -> nn.Module:
    setting = timm_class("nfnet", "NfCfg")((1, 1, 1, 1), (16, 16, 32, 32), stem_type="3x3", stem_chs=8, group_size=8)
    return timm_class("nfnet", "NormFreeNet")(setting, num_classes=10)


@architecture("timm", 3, 32, 32, equivalent=by_clamp)
def timm_hardcorenas() -> nn.Module:
    return from_timm("hardcorenas_a")


@architecture("timm", 3, 32, 32)
def timm_focalnet() -> nn.Module:
    options = {"depths": (1, 1), "embed_dim": 8, "focal_levels": (2, 2), "focal_windows": (3, 3)}
    return timm_class("focalnet", "FocalNet")(num_classes=10, **options)
