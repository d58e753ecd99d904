"""One of each of torchvision's families of classifiers."""

from __future__ import annotations

from typing import Any

from torch import nn

from .zoo import architecture, by_clamp


def vision(name: str) -> Any:
    return getattr(__import__("torchvision.models", fromlist=[name]), name)


@architecture("torchvision", 3, 64, 64)
def alexnet() -> nn.Module:
    network = vision("AlexNet")(10)
    network.classifier[1], network.classifier[4] = nn.Linear(9216, 32), nn.Linear(32, 32)
    network.classifier[6] = nn.Linear(32, 10)
    return network


@architecture("torchvision", 3, 32, 32)
def vgg() -> nn.Module:
    network = vision("VGG")(vision("vgg").make_layers([8, "M", 16, "M", 16, 16, "M"], batch_norm=True), 10)
    network.classifier[0], network.classifier[3] = nn.Linear(16 * 49, 32), nn.Linear(32, 32)
    network.classifier[6] = nn.Linear(32, 10)
    return network


@architecture("torchvision", 3, 32, 32)
def resnet() -> nn.Module:
    return vision("ResNet")(vision("resnet").BasicBlock, [1, 1, 1, 1], 10)


@architecture("torchvision", 3, 32, 32)
def resnext() -> nn.Module:
    return vision("ResNet")(vision("resnet").Bottleneck, [1, 1, 1, 1], 10, groups=4, width_per_group=4)


@architecture("torchvision", 3, 64, 64)
def squeezenet() -> nn.Module:
    return vision("SqueezeNet")("1_1", 10)


@architecture("torchvision", 3, 32, 32)
def densenet() -> nn.Module:
    return vision("DenseNet")(8, (2, 2, 2), 16, num_classes=10)


@architecture("torchvision", 3, 32, 32)
def googlenet() -> nn.Module:
    return vision("GoogLeNet")(10, aux_logits=False, init_weights=False)


@architecture("torchvision", 3, 75, 75)
def inception() -> nn.Module:
    return vision("Inception3")(10, aux_logits=False, init_weights=False)


@architecture("torchvision", 3, 32, 32)
def mobilenet_v2() -> nn.Module:
    return vision("MobileNetV2")(10, width_mult=0.1)


@architecture("torchvision", 3, 32, 32, equivalent=by_clamp)
def mobilenet_v3() -> nn.Module:
    return vision("MobileNetV3")(*vision("mobilenetv3")._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.1), 10)


@architecture("torchvision", 3, 32, 32)
def shufflenet() -> nn.Module:
    return vision("ShuffleNetV2")([1, 1, 1], [8, 16, 32, 64, 64], 10)


@architecture("torchvision", 3, 32, 32)
def mnasnet() -> nn.Module:
    return vision("MNASNet")(0.1, 10)


@architecture("torchvision", 3, 32, 32)
def efficientnet() -> nn.Module:
    settings = vision("efficientnet")._efficientnet_conf("efficientnet_b0", width_mult=0.1, depth_mult=0.3)
    return vision("EfficientNet")(settings[0], 0.2, num_classes=10, last_channel=64)


@architecture("torchvision", 3, 32, 32)
def regnet() -> nn.Module:
    block = vision("regnet").BlockParams.from_init_params(6, 8, 8.0, 2.0, 8, se_ratio=0.25)
    return vision("RegNet")(block, 10, stem_width=8)


@architecture("torchvision", 3, 32, 32)
def convnext() -> nn.Module:
    setting = vision("convnext").CNBlockConfig
    return vision("ConvNeXt")(
        [setting(8, 16, 1), setting(16, 24, 1), setting(24, None, 1)], layer_scale=0.1, num_classes=10
    )


@architecture("torchvision", 3, 32, 32, quick=True)
def vit() -> nn.Module:
    return vision("VisionTransformer")(32, 8, 2, 2, 16, 32, num_classes=10)


@architecture("torchvision", 3, 32, 32)
def swin() -> nn.Module:
    return vision("SwinTransformer")([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=10)


@architecture("torchvision", 3, 32, 32)
def swin_v2() -> nn.Module:
    parts = vision("swin_transformer")
    options = {"block": parts.SwinTransformerBlockV2, "downsample_layer": parts.PatchMergingV2}
    return vision("SwinTransformer")([4, 4], 8, [2, 2], [1, 2], [4, 4], num_classes=10, **options)


@architecture("torchvision", 3, 32, 32)
def maxvit() -> nn.Module:
    return vision("MaxVit")((32, 32), 8, 4, [8, 16], [1, 1], 4, 0.0, num_classes=10)
