"""Named modules inside a network, against running the layers before them."""

from __future__ import annotations

import threading

import pytest
import torch
from reference import algorithm_1
from torch import nn

from feature_alignment import align, diagnose
from feature_alignment.core.select import select


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True))
        self.block = nn.Linear(5, 5)
        self.recurrent = nn.GRU(5, 4, batch_first=True)
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 3)
        self.computed = 0

    def forward(self, x):
        h = self.stem(x)
        h = self.block(self.block(h).tanh())
        h, _ = self.recurrent(h.unsqueeze(1))
        self.computed += 1
        return self.head(h.squeeze(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().double()


def hooks(network):
    return sum(len(module._forward_hooks) for module in network.modules())


def test_one_name_is_its_output_and_nothing_later_is_computed(network):
    x = torch.randn(3, 6).double()
    torch.testing.assert_close(select(network, "stem")(x), network.stem(x))
    torch.testing.assert_close(select(network, "block")(x), network.block(network.stem(x)))  # its first call
    assert network.computed == 0
    assert hooks(network) == 0


def test_several_names_keep_their_order_and_their_values(network):
    x = torch.randn(3, 6).double()
    head, linear, stem = select(network, "head", "stem.0", "stem")(x)
    torch.testing.assert_close(head, network(x))
    torch.testing.assert_close(linear, network.stem[0](x))  # although the activation after it works in place
    torch.testing.assert_close(stem, linear.relu())
    assert linear.min() < 0


def test_what_a_module_returns_is_returned(network):
    x = torch.randn(3, 6).double()
    outputs, last = select(network, "recurrent")(x)
    torch.testing.assert_close(network.head(outputs.squeeze(1)), network(x))
    assert last.shape == (1, 3, 4)


@pytest.mark.parametrize("shared", [True, False])
def test_it_is_aligned_as_any_network(network, shared):
    network.stem[1] = nn.Tanh()
    chosen = select(network, "block")
    x, start = torch.randn(3, 6).double(), torch.randn(1 if shared else 3, 6).double()
    parameters = [*network.stem.parameters(), *network.block.parameters()]
    found = []
    for method, inner in ((align, chosen), (algorithm_1, lambda x: network.block(network.stem(x)))):
        feature = method(inner, network.block(network.stem(x)), start, steps=2, step_size=0.5)
        found.append([feature, *torch.autograd.grad((x - feature).square().sum(), parameters)])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted)
    assert hooks(network) == 0


def test_selections_inside_selections(network):
    x = torch.randn(3, 6).double()
    inner = select(network, "block")
    torch.testing.assert_close(select(inner, "network.stem")(x), network.stem(x))


def test_an_evaluation_in_another_thread_is_not_taken_for_ones_own(network):
    x, reached, go_on, found = torch.randn(3, 6).double(), threading.Event(), threading.Event(), []

    def wait(module, inputs):
        if threading.current_thread() is other:
            reached.set()
            go_on.wait(10)

    network.stem.register_forward_pre_hook(wait)
    other = threading.Thread(target=lambda: found.append(select(network, "head")(x)))
    other.start()
    assert reached.wait(10)  # its hooks are there
    torch.testing.assert_close(network(2 * x), network(2 * x))
    torch.testing.assert_close(select(network, "stem")(2 * x), network.stem(2 * x))
    go_on.set()
    other.join()
    torch.testing.assert_close(found[0], network(x))


def test_an_error_inside_the_network_leaves_no_hooks(network):
    with pytest.raises(RuntimeError, match="shapes"):
        select(network, "head")(torch.zeros(3, 7).double())
    assert hooks(network) == 0


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["stam.0"], ValueError, r"no module 'stam\.0'; nearest: stem\.0"),
        (["stem", "heads"], ValueError, "no module 'heads'; nearest: head"),
        (["layer3.1.0"], ValueError, r"no module 'layer3\.1\.0'; nearest: stem\.0"),
        (["zzzzzzzzzzzzzzzzzzzz.0"], ValueError, r"no module 'z+\.0'; nearest: stem\.0"),
        (["@"], ValueError, "it has modules such as stem"),
        ([], ValueError, "names: expected at least one, such as stem"),
    ],
)
def test_unknown_names_are_answered_by_the_nearest(network, names, error, message):
    with pytest.raises(error, match=message):
        select(network, *names)


def test_what_is_never_called_or_no_module_is_named(network):
    with pytest.raises(ValueError, match="the network does not call its module 'unused'"):
        select(network, "unused")(torch.zeros(1, 6).double())
    network.recurrent2, network.recurrent3 = nn.Linear(2, 2), nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not call its module 'recurrent2'; nearest: recurrent$"):
        select(network, "recurrent", "recurrent2")(torch.zeros(1, 6).double())
    with pytest.raises(TypeError, match=r"network: expected a torch\.nn\.Module.*got function"):
        select(lambda x: x, "a")


def test_at_most_three_modules_of_that_last_name_are_named():
    network = nn.ModuleDict({each: nn.ModuleDict({"q": nn.Identity()}) for each in "abcd"})
    with pytest.raises(ValueError, match=r"nearest: a\.q, b\.q, c\.q$"):
        select(network, "zzzzzzzzzzzzzzzzzzzz.q")


def test_a_module_is_found_by_all_its_names(network):
    network.other = network.stem
    x = torch.randn(3, 6).double()
    torch.testing.assert_close(select(network, "other.0")(x), network.stem[0](x))


@pytest.mark.parametrize("kind", ["whole", "inside", "method"])
def test_a_compiled_network_that_has_run_is_one_like_any_other(kind):
    """Compiled code that has run once calls no hook that was added since."""
    chain = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).eval()
    x, wanted = torch.randn(2, 4), chain[:2]
    if kind == "method":
        chain.compile(backend="eager")
        network, name = chain, "1"
    else:
        network, name = torch.compile(chain, backend="eager"), "_orig_mod.1"
        if kind == "inside":
            network, name = nn.Sequential(network, nn.Linear(2, 2)), f"0.{name}"
    with torch.no_grad():
        network(x)
        assert torch.equal(select(network, name)(x), wanted(x))
    assert torch.equal(select(network, name)(x), wanted(x))


def test_torchscript_is_one_module_of_which_nothing_inside_is_taken():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    network = nn.Sequential(torch.jit.script(inner), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"names: '0\.1' is of TorchScript; take the network that it was made of"):
        select(network, "0.1")
    images = torch.rand(3, 4)
    found = diagnose(network, images, variables="pixels", max_evaluations=20).layers
    plain = diagnose(nn.Sequential(inner, network[1]), images, ["1"], variables="pixels", max_evaluations=20).layers
    assert [layer.name for layer in found] == ["1"]
    assert found[0].effective_rank == pytest.approx(plain[0].effective_rank, rel=1e-4)
    alone = diagnose(torch.jit.script(inner), images, variables="pixels", max_evaluations=20)
    assert [layer.name for layer in alone.layers] == ["output"]
