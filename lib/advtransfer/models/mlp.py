"""Small networks for the theory and the synthetic experiment, with Jacobians in closed form."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class OneHiddenLayer(NamedTuple):
    """f(x) = W2 s(W1 x + b1) + b2 with the logistic function s: the network of section 4.

    It is a tuple of parameters, so that W + tV is plain arithmetic on its fields.
    """

    w1: Tensor
    """W1, shape (m, n)."""
    b1: Tensor
    """b1, shape (m,)."""
    w2: Tensor
    """W2, shape (d, m)."""
    b2: Tensor
    """b2, shape (d,)."""

    @classmethod
    def uniform(
        cls, n: int, m: int, d: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> "OneHiddenLayer":
        """A network with parameters drawn from U(-0.5, 0.5), in the order W1, b1, W2, b2."""
        return cls(*(torch.rand(size, generator=generator, dtype=dtype) - 0.5 for size in ((m, n), (m,), (d, m), (d,))))

    def hidden(self, x: Tensor) -> Tensor:
        """The outputs of the hidden layer, (N, n) -> (N, m)."""
        return torch.sigmoid(torch.addmm(self.b1, x, self.w1.T))

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs, (N, n) -> (N, d)."""
        return torch.addmm(self.b2, self.hidden(x), self.w2.T)

    def jacobian(self, x: Tensor) -> Tensor:
        """The Jacobians, (N, n) -> (N, d, n), by one matrix product with the outer products of W2 and W1."""
        s = self.hidden(x)
        outer = torch.einsum("dm,mi->mdi", self.w2, self.w1).flatten(1)  # (m, d n)
        return (s * (1 - s) @ outer).unflatten(1, (len(self.w2), -1))

    def moved(self, t: float, direction: "OneHiddenLayer") -> "OneHiddenLayer":
        """The network with the parameters W + tV, where V is `direction`."""
        return OneHiddenLayer(*(w + t * v for w, v in zip(self, direction, strict=True)))

    def fitted(self, x: Tensor, y: Tensor, *, steps: int, lr: float = 0.2, momentum: float = 0.9) -> "OneHiddenLayer":
        """The network after training from here, as in section 4.

        Training is full-batch gradient descent with momentum on the mean squared error.
        """
        parameters = [w.detach().clone().requires_grad_() for w in self]
        optimiser = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
        with torch.enable_grad():
            for _ in range(steps):
                loss = nn.functional.mse_loss(OneHiddenLayer(*parameters)(x), y)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return OneHiddenLayer(*(w.detach() for w in parameters))


def tanh_network(sizes: list[int], generator: torch.Generator) -> nn.Sequential:
    """A float64 network with tanh between its linear layers and parameters from N(0, 1 / inputs of the layer).

    `sizes` are the widths from input to output, e.g. ``[6, 20, 3]`` for one hidden layer of 20 units.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)
        for parameter in linear.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / inputs**0.5
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
