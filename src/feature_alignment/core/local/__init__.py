r"""Layer-local training (Algorithm 2) and reconstruction layer by layer (Algorithm 3).

Every layer learns to predict its own input from its own output, and nothing else: the loss of layer
:math:`l` is the distance between its input and the feature of its output,

.. math::
    C_l = \lVert x - \hat r \rVert^2, \qquad \hat r = \mathrm{align}(E_l, E_l(x), r^0)

whose graph, gradient and optimiser step are finished and freed before the next layer begins. On the way back, an
activation is inverted exactly.
"""

from ..layers import Arcsinh
from .inverses import register_inverse
from .layers import Learning
from .network import LocalNetwork

__all__ = ["Arcsinh", "Learning", "LocalNetwork", "register_inverse"]
