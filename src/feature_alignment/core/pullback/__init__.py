"""Vector-Jacobian products of any network: one rule per layer type, otherwise automatic differentiation."""

from .autodiff import by_differentiation, differentiated, leaving_its_input, transposed
from .evaluation import evaluation
from .explanations import NotDifferentiableError, explained
from .exported import any_batch
from .rules import transposed_conv2d
from .vjp import Chain, PullBack, computes_as, path_of, register_pull_back, rule_of, vjp
from .workarounds import outside_inference_mode

__all__ = [
    "Chain",
    "NotDifferentiableError",
    "PullBack",
    "any_batch",
    "by_differentiation",
    "computes_as",
    "differentiated",
    "evaluation",
    "explained",
    "leaving_its_input",
    "outside_inference_mode",
    "path_of",
    "register_pull_back",
    "rule_of",
    "transposed",
    "transposed_conv2d",
    "vjp",
]
