"""The paper's networks: encoders of Tables 2-4, refiner and discriminator (§4, Appendix B).

Images are floating point in [0, 1], shape ``(N, C, H, W)``, square (``H == W``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ..core import speed
from ..core.checks import Network
from ..core.layers import Arcsinh
from ..core.pullback import Chain, computes_as, register_pull_back, vjp
from ..core.speed.convolution import NarrowConv2d
from ..core.speed.fusion import composed

__all__ = ["ACTIVATIONS", "Decoder", "Discriminator", "Encoder", "Refiner", "check_width", "orthogonal_"]

#: Activations by name. Those whose derivative follows from their output run in place.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": partial(nn.LeakyReLU, inplace=True),
    "relu": partial(nn.ReLU, inplace=True),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "arcsinh": Arcsinh,
}


def _last_side(image_shape: Sequence[int], channels: Sequence[int], activation: str) -> int:
    """Return the side of the last feature maps; raise a ValueError that names an argument that does not fit."""
    _, height, side = image_shape
    halvings: int = 2 ** len(channels)
    if height != side or side % halvings:
        raise ValueError(
            f"image_shape: expected square images with a side divisible by {halvings} for {len(channels)} "
            f"entries of channels, got {height} x {side}"
        )
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return side // halvings


class Encoder(nn.Sequential):
    """Encoder of Tables 2, 3 and 4 without the last ``Linear(Z)``: from an image to a vector of ``width`` numbers.

    For every entry ``f`` of ``channels``: ``Conv2d(f, 3, 1, 1)`` and ``Conv2d(f, 3, 2, 1)``, each followed
    by the activation, so the image's side is halved once per entry; then flatten and ``Linear(width)``.

    =======  ============  =====================  =====
    Table    image         channels               width
    =======  ============  =====================  =====
    2        1 x 28 x 28   32, 64                 4096
    3        3 x 32 x 32   32, 64, 128            2048
    4        3 x 64 x 64   32, 64, 128, 256       4096
    =======  ============  =====================  =====

    (Table 4 prints a 3 x 32 x 32 input; with four halvings and §5.2's resizing it is 64.)

    Args:
        image_shape: ``(C, H, W)``.
        channels: number of filters, one entry per halving of the side.
        width: number of outputs.
        activation: a name in :data:`ACTIVATIONS`; the paper's is ``leaky_relu`` (slope 0.01).
        activate_width: apply the activation after ``Linear(width)`` too.

    Shape:
        ``(N, C, H, W)`` to ``(N, width)``.

    Raises:
        ValueError: the image is not square, its side not divisible by ``2 ** len(channels)``, or the
            activation unknown.
    """

    out_features: int

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        activate_width: bool = False,
    ) -> None:
        colours, last_side = image_shape[0], _last_side(image_shape, channels, activation)
        layers: list[nn.Module] = []
        for filters in channels:
            layers += [nn.Conv2d(colours, filters, 3, 1, 1), ACTIVATIONS[activation]()]
            layers += [nn.Conv2d(filters, filters, 3, 2, 1), ACTIVATIONS[activation]()]
            colours = filters
        layers += [nn.Flatten(), nn.Linear(colours * last_side**2, width)]
        super().__init__(*layers, *([ACTIVATIONS[activation]()] if activate_width else []))
        self.out_features = width

    @property
    def trunk(self) -> list[nn.Module]:
        """The layers before the last one."""
        return [*self][:-1]

    @property
    def last(self) -> nn.Module:
        """The last layer: in Tables 2 to 4 ``Linear(width)``, to which linear heads are applied directly."""
        return self[len(self) - 1]


class Decoder(nn.Sequential):
    """The encoder's mirror: the decoder of the autoencoders and of GON, and the generator of the GAN.

    ``Linear(width)``, ``Linear`` to the last feature maps, then for every entry ``f`` of ``channels``, last to
    first, a transposed ``Conv2d(f, 3, 2, 1)``, which doubles the side, and ``Conv2d(f', 3, 1, 1)`` to the
    filters ``f'`` of the entry before it; the last one has the image's channels and is followed by a sigmoid. Every
    other layer is followed by the activation.

    Args:
        image_shape, channels, width, activation: as for :class:`Encoder`.
        latent: size of the latent vector.
        normalize: apply batch normalisation before every activation, as in the paper's generators.

    Shape:
        ``(N, latent)`` to ``(N, C, H, W)`` in [0, 1].

    Raises:
        ValueError: as for :class:`Encoder`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        latent: int,
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        normalize: bool = False,
    ) -> None:
        colours, side = image_shape[0], _last_side(image_shape, channels, activation)

        def norm(kind: type[nn.Module], size: int) -> list[nn.Module]:
            return [*([kind(size)] if normalize else []), ACTIVATIONS[activation]()]

        layers: list[nn.Module] = [nn.Linear(latent, width), *norm(nn.BatchNorm1d, width)]
        layers += [nn.Linear(width, channels[-1] * side**2), *norm(nn.BatchNorm1d, channels[-1] * side**2)]
        layers += [nn.Unflatten(1, (channels[-1], side, side))]
        for filters, following in zip(reversed(channels), [*reversed(channels[:-1]), colours], strict=True):
            layers += [nn.ConvTranspose2d(filters, filters, 3, 2, 1, output_padding=1), *norm(nn.BatchNorm2d, filters)]
            layers += [NarrowConv2d(filters, following, 3, 1, 1), *norm(nn.BatchNorm2d, following)]
        super().__init__(*layers[: -2 if normalize else -1], nn.Sigmoid())


class Refiner(nn.Module):
    """The paper's generator G (§3.3): from an image to a sharper image.

    Three convolutions, the two hidden ones with ``filters`` filters, batch normalisation and LeakyReLU, the last one
    with a sigmoid. A label enters as an extra image channel, a linear function of its one-hot vector.

    Args:
        image_shape: ``(C, H, W)``.
        filters: filters of the hidden layers; the paper's code has 128.
        kernel_size: odd; 3 in the paper, 9 for CIFAR-10 in its code.
        classes: number of classes, 0 for an unconditional refiner.

    Shape:
        images ``(N, C, H, W)`` and one-hot labels ``(N, classes)`` to ``(N, C, H, W)`` in [0, 1].

    Raises:
        ValueError: an even kernel size.
    """

    def __init__(self, image_shape: Sequence[int], filters: int = 128, kernel_size: int = 3, classes: int = 0) -> None:
        super().__init__()
        colours, height, width = image_shape
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: expected an odd number, got {kernel_size}")
        self.label_channel = nn.Linear(classes, height * width) if classes else None
        layers: list[nn.Module] = []
        inputs = colours + bool(classes)
        for _ in range(2):
            layers += [nn.Conv2d(inputs, filters, kernel_size, padding=kernel_size // 2)]
            layers += [nn.BatchNorm2d(filters), nn.LeakyReLU(inplace=True)]
            inputs = filters
        self.layers = nn.Sequential(
            *layers, NarrowConv2d(filters, colours, kernel_size, padding=kernel_size // 2), nn.Sigmoid()
        )

    def forward(self, images: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return the refined images; ``one_hot`` is required if and only if the refiner has classes."""
        if self.label_channel is not None:
            if one_hot is None:
                raise ValueError("one_hot: this refiner was built with classes and needs the labels")
            channel = self.label_channel(one_hot).view(-1, 1, *images.shape[2:])
            images = torch.cat([images, channel], 1)
        refined: Tensor = self.layers(images)
        return refined


class Discriminator(nn.Sequential):
    r"""The encoder's architecture with a single value per image as its output (§4).

    With ``classes``, a projection discriminator (Miyato and Koyama, *cGANs with projection discriminator*, 2018):

    .. math::
        D(x, y) = w^\top \phi(x) + b + y^\top V \phi(x)

    where :math:`\phi` is the encoder and y the one-hot label.

    Args:
        image_shape, channels, width, activation, activate_width: as for :class:`Encoder`.
        classes: number of classes, 0 for an unconditional discriminator.

    Shape:
        images ``(N, C, H, W)`` and one-hot labels ``(N, classes)`` to ``(N,)``.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        width: int = 4096,
        activation: str = "leaky_relu",
        activate_width: bool = False,
        classes: int = 0,
    ) -> None:
        encoder = Encoder(image_shape, channels, width, activation, activate_width)
        super().__init__(encoder, nn.Linear(width, 1 + classes), _Projection() if classes else nn.Flatten(0))
        self.classes = classes

    def forward(self, images: Tensor, one_hot: Tensor | None = None) -> Tensor:
        """Return the score of each image; ``one_hot`` is required if and only if there are classes."""
        return cast(Tensor, self.chain(one_hot)(images))

    def chain(self, one_hot: Tensor | None = None) -> Chain:
        """Return the layers, given the labels, with the last two linear ones fused, at their current weights."""
        encoder, head = cast(Encoder, self[0]), cast(nn.Linear, self[1])
        last: Network = self[2]
        if self.classes:
            if one_hot is None:
                raise ValueError("one_hot: this discriminator was built with classes and needs the labels")
            last = partial(self[2], one_hot=one_hot)
        linear = all(computes_as(layer, nn.Linear) for layer in (encoder.last, head))
        if not speed.enabled() or not computes_as(encoder, Encoder) or not linear:
            return Chain([encoder, head, last])
        return Chain([*encoder.trunk, composed(cast(nn.Linear, encoder.last), [head]), last])


class _Projection(nn.Module):
    """The score given the class, from the unconditional one and one more for each class."""

    def forward(self, scores: Tensor, one_hot: Tensor) -> Tensor:
        return scores[:, 0] + (scores[:, 1:] * one_hot).sum(1)


register_pull_back(Discriminator, lambda discriminator, images: vjp(discriminator.chain(), images))


@torch.no_grad()
def check_width(encoder: nn.Module, image_shape: Sequence[int], width: int) -> None:
    """Raise a ValueError unless an encoder of the user's maps one image to as many numbers as it says."""
    parameter = next(encoder.parameters(), torch.empty(()))
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        found = encoder(parameter.new_zeros(1, *image_shape))
    except Exception as error:  # code of the user's
        said = str(error).strip().partition("\n")[0]
        raise ValueError(f"encoder: fails for an image of shape {tuple(image_shape)}: {said}") from None
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(found, Tensor) or found.shape != (1, width):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"encoder: expected an output of shape (N, {width}), for one image got {got}; width= says its size"
        )


def orthogonal_(module: nn.Module) -> None:
    """Initialise the weights of every linear and convolutional layer orthogonally, in place (§4).

    For use with :meth:`torch.nn.Module.apply`. Biases keep PyTorch's random values: with zero biases and a zero
    start every LeakyReLU would sit at its kink, and its slope of 0.01 a layer would make the Jacobian vanish.
    """
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.orthogonal_(module.weight)
