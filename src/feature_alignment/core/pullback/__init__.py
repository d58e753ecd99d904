"""Vector-Jacobian products of any network."""

from .rules import Chain, PullBack, differentiated, leaving_its_input, register_pull_back, transposed_conv2d, vjp

__all__ = ["Chain", "PullBack", "differentiated", "leaving_its_input", "register_pull_back", "transposed_conv2d", "vjp"]
