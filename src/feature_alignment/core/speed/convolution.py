"""A convolution to few channels as a matrix product and a fold, which a CPU computes faster."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from . import enabled

__all__ = ["NarrowConv2d"]


class NarrowConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d`, faster on a CPU from many channels to one or a few.

    The usual kernel computes as many output channels at once as fit a vector register, most of which stays empty here.
    A matrix product followed by a sum over the kernel's shifts computes the same and fills it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the convolution of ``input``, shape ``(N, C, H, W)``."""
        if not (enabled() and self._is_narrow() and input.device.type == "cpu" and input.ndim == 4):
            return super().forward(input)
        (height, width), maps = self.kernel_size, self.weight[:, 0].numel()
        # A pixel adds to the one at (-i, -j) from it its product with the weight at (i, j).
        weight = self.weight.flip(2, 3).permute(0, 2, 3, 1).reshape(maps, self.in_channels)
        products = functional.linear(input.permute(0, 2, 3, 1), weight).flatten(1, 2).mT
        output = functional.fold(products, input.shape[2:], (height, width), padding=(height // 2, width // 2))
        return output if self.bias is None else output + self.bias.view(-1, 1, 1).to(output.dtype)

    def _is_narrow(self) -> bool:
        height, width = self.kernel_size
        centred = height % 2 == width % 2 == 1 and self.padding == (height // 2, width // 2)
        plain = {*self.stride, *self.dilation, self.groups} == {1} and self.padding_mode == "zeros"
        # Beyond two thirds the sum over the shifts takes longer than the product saves.
        return centred and plain and 3 * self.out_channels * height * width <= 2 * self.in_channels
