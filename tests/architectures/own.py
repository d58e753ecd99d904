"""What people write themselves: recurrent, 1-d, 3-d and tabular networks, and unusual ways to evaluate one."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from .zoo import Applied, architecture

# --- sequences, volumes, tables ---------------------------------------------------------------------


def last(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)[0][:, -1]


@architecture("torch", 6, 5, quick=True)
def lstm() -> nn.Module:
    return Applied(nn.LSTM(5, 8, batch_first=True, bidirectional=True), last)


@architecture("torch", 6, 5)
def lstm_two_layers_with_projection() -> nn.Module:
    return Applied(nn.LSTM(5, 8, 2, batch_first=True, proj_size=4), last)


@architecture("torch", 6, 5)
def gru() -> nn.Module:
    return Applied(nn.GRU(5, 8, batch_first=True), last)


@architecture("torch", 6, 5)
def rnn() -> nn.Module:
    return Applied(nn.RNN(5, 8, batch_first=True), last)


@architecture("torch", 2, 40)
def conv_1d() -> nn.Module:
    parts = [nn.Conv1d(2, 8, 5, 2), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(8, 8, 3), nn.Tanh(), nn.Flatten()]
    return nn.Sequential(*parts, nn.Linear(56, 6))


@architecture("torch", 1, 8, 8, 8)
def conv_3d() -> nn.Module:
    parts = [nn.Conv3d(1, 6, 3, 1, 1), nn.BatchNorm3d(6), nn.ReLU(), nn.AvgPool3d(2), nn.Conv3d(6, 8, 3, 2), nn.ELU()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 6))


@architecture("torch", 20, quick=True)
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.SELU(), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 5))


class Table(nn.Module):
    """Two gated residual blocks; mean, log-variance and, where attentions might be, None."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 24), nn.GLU()) for _ in range(2))
        self.mean, self.log_variance = nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        for block in self.blocks:
            x = x + block(x)
        return {"mean": self.mean(x), "log_variance": self.log_variance(x), "attentions": None}


@architecture("torch", 12)
def table_with_two_heads() -> nn.Module:
    return Table()


@architecture("torch", 5, 16, quick=True)
def transformer_encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return Applied(nn.TransformerEncoder(layer, 2), lambda m, x: m(x).mean(1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm, self.up, self.out = nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(9, 1, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.mish(self.norm(self.middle(functional.hardtanh(self.down(x), -3, 3))))
        return self.out(torch.cat([x, self.up(h)], 1))


@architecture("torch", 1, 16, 16)
def u_net() -> nn.Module:
    return UNet()


# --- special layers -------------------------------------------------------------------------------


@architecture("torch", 2, 8, 8)
def spectral_norm() -> nn.Module:
    first = parametrizations.spectral_norm(nn.Conv2d(2, 6, 3, 2, 1))
    return nn.Sequential(first, nn.LeakyReLU(0.1), nn.Flatten(), parametrizations.spectral_norm(nn.Linear(96, 8)))


@architecture("torch", 2, 8, 8)
def weight_norm() -> nn.Module:
    first = parametrizations.weight_norm(nn.Conv2d(2, 6, 3, 2, 1, padding_mode="reflect"))
    return nn.Sequential(first, nn.PReLU(6), nn.Flatten(), parametrizations.weight_norm(nn.Linear(96, 8)))


class EinsumAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project, self.bias = nn.Linear(8, 24), nn.Parameter(torch.zeros(5, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).unbind(2)
        weights = (torch.einsum("nihc,njhc->nhij", q, k) / 2 + self.bias).softmax(-1)
        return torch.einsum("nhij,njhc->nihc", weights, v).flatten(1)


@architecture("torch", 5, 8)
def einsum_attention() -> nn.Module:
    return EinsumAttention()


class Spectral(nn.Module):
    """A Fourier layer with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 5, 2, dtype=torch.double) / 3)
        self.skip = nn.Conv1d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.fft.rfft(x)[..., :5]
        mixed = torch.einsum("ncm,cdm->ndm", modes, torch.view_as_complex(self.weight))
        return functional.gelu(torch.fft.irfft(mixed, x.shape[-1]) + self.skip(x))


@architecture("torch", 3, 16)
def fourier_layer() -> nn.Module:
    return nn.Sequential(Spectral(), Spectral(), nn.Flatten(), nn.Linear(48, 6))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + torch.tanh(self.layer(x)) / 2
        return functional.linear(x, self.layer.weight[:6])


@architecture("torch", 12)
def tied_weights() -> nn.Module:
    return Tied()


class Mixture(nn.Module):
    """Experts chosen by the two largest gates: other operations for other inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 6) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        gates, chosen = self.gate(x).topk(2, dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], 1)
        picked = outputs.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 6))
        return (gates.softmax(-1).unsqueeze(-1) * picked).sum(1)


@architecture("torch", 8)
def mixture_of_experts() -> nn.Module:
    return Mixture()


class Codes(nn.Module):
    """Soft bags of an embedding table, as in recommenders, and distances to centres."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.centres = nn.Embedding(10, 6), nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        bags = x.softmax(-1) @ self.table.weight
        return torch.exp(-(bags.unsqueeze(1) - self.centres).square().sum(-1))


@architecture("torch", 10)
def embedding_bag_and_centres() -> nn.Module:
    return Codes()


@architecture("torch", 3, 8, 8)
def hard_activations() -> nn.Module:
    parts = [nn.Conv2d(3, 6, 3, 2), nn.Hardswish(), nn.Conv2d(6, 6, 1), nn.ReLU6(), nn.AdaptiveMaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Softplus(), nn.Linear(24, 5), nn.Hardtanh(-9, 9))


# --- special in how they are evaluated ----------------------------------------------------------------


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool = False, recompute: bool = True) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(10, 10), nn.GELU()) for _ in range(3))
        self.recompute = recompute

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.recompute else block(x))
        return x[:, :6]


def not_checkpointed(network: Checkpointed) -> Checkpointed:
    other = Checkpointed(recompute=False).double()
    other.load_state_dict(network.state_dict())
    return other


@architecture("torch", 10, equivalent=not_checkpointed, quick=True)
def checkpointed() -> nn.Module:
    return Checkpointed()


class OldStyle(torch.autograd.Function):
    """The exponential linear unit of a layer from before ``setup_context``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, x.exp() - 1)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cotangent * torch.where(x > 0, torch.ones_like(x), x.exp())


class Custom(nn.Module):
    def __init__(self, old: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.old = nn.Linear(10, 16), nn.Linear(16, 5), old

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.second(OldStyle.apply(h) if self.old else functional.elu(h))


def by_elu(network: Custom) -> Custom:
    other = Custom(old=False).double()
    other.load_state_dict(network.state_dict())
    return other


@architecture("torch", 10, equivalent=by_elu, quick=True)
def old_style_function() -> nn.Module:
    return Custom()


class Counted(nn.Module):
    """A running mean of its activations, of which nothing is used, is kept in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(10, 16), nn.Linear(16, 5)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * h.detach().mean(0))
        return self.second(h)


def without_buffer(network: Counted) -> nn.Module:
    return nn.Sequential(network.first, nn.Tanh(), network.second)


@architecture("torch", 10, equivalent=without_buffer)
def buffer_updated_in_forward() -> nn.Module:
    return Counted()


def small_cnn() -> nn.Sequential:
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(32, 6)]
    return nn.Sequential(*parts).double().eval()


def original(network: nn.Module) -> nn.Module:
    other = small_cnn()
    other.load_state_dict(network.state_dict())
    return other


@architecture("torch", 2, 8, 8, equivalent=original)
def torchscript() -> nn.Module:
    return torch.jit.script(small_cnn())


@architecture("torch", 2, 8, 8, equivalent=original)
def exported_with_a_fixed_batch() -> nn.Module:
    return torch.export.export(small_cnn(), (torch.zeros(2, 2, 8, 8, dtype=torch.double),)).module()


@architecture("torch", 2, 8, 8, equivalent=original)
def exported_with_any_batch() -> nn.Module:
    example = (torch.zeros(2, 2, 8, 8, dtype=torch.double),)
    return torch.export.export(small_cnn(), example, dynamic_shapes=({0: torch.export.Dim("batch")},)).module()


@architecture("torch", 12)
def function_without_parameters() -> Any:
    matrix = torch.randn(6, 12, dtype=torch.double) / math.sqrt(12)
    return lambda x: (x @ matrix.T).sinh()
