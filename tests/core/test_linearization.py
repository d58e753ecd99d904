"""The linearised network against its Jacobian's matrix, and what is built on it: automatic steps, recomputed ones."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.func import jacrev
from torch.utils._python_dispatch import TorchDispatchMode

from feature_alignment import affine_map, align, input_gradient, largest_singular_value
from feature_alignment.core import linearization
from feature_alignment.models import FA, VFA


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("value", [1e-3, 1.0, 100.0, 300.0, 2000.0])
@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float32])
def test_the_largest_singular_value_in_half_precision(value, dtype):
    """Its square is infinite in float16 above 256, and vanishes below 2e-4."""
    network = nn.Linear(8, 8).to(dtype)
    with torch.no_grad():
        network.weight.copy_(value * torch.eye(8))
    found, _ = largest_singular_value(network, torch.zeros(2, 8, dtype=dtype))
    torch.testing.assert_close(found.float(), torch.full((2,), value), rtol=0.02, atol=0)


def encoder(outputs=5, activation=nn.SiLU):
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, 2, 1),
        activation(),
        nn.Conv2d(3, 4, 3, 1, 1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(36, outputs),
    ).double()


def images(count=1):
    return torch.rand(count, 2, 6, 6, dtype=torch.double)


# --- the affine map ---------------------------------------------------------------------------------


def test_affine_map_is_the_jacobian_transposed():
    network, start = encoder(), images()
    matrix, offset = affine_map(network, start, 0.7)
    exact = jacrev(network)(start).view(5, 72)
    assert torch.allclose(matrix, 0.7 * exact)
    assert torch.allclose(offset, start.flatten() - 0.7 * network(start)[0] @ exact)


def test_affine_map_of_a_structure_is_the_feature_and_so_are_its_gradients():
    body, heads = encoder(6), nn.ModuleList([nn.Linear(6, 3), nn.Linear(6, 4)]).double()

    def network(x):
        hidden = body(x)
        return {"a": heads[0](hidden), "b": heads[1](hidden).view(-1, 2, 2)}

    target = {"a": torch.randn(7, 3, dtype=torch.double), "b": torch.randn(7, 2, 2, dtype=torch.double)}
    start, parameters = images(), [*body.parameters(), *heads.parameters()]
    matrix, offset = affine_map(network, start, 0.4)
    flat = torch.cat([target["a"], target["b"].flatten(1)], 1)
    by_map = (flat @ matrix + offset).view(7, 2, 6, 6)
    by_flow = align(network, target, start.expand(7, -1, -1, -1).clone(), step_size=0.4)
    assert torch.allclose(by_map, by_flow)
    weights = torch.randn_like(by_map)
    for got, wanted in zip(
        torch.autograd.grad((weights * by_map).sum(), parameters),
        torch.autograd.grad((weights * by_flow).sum(), parameters),
        strict=True,
    ):
        assert torch.allclose(got, wanted)
    with pytest.raises(ValueError, match=r"start: expected shape \(1, ...\)"):
        affine_map(network, images(2))
    with pytest.raises(ValueError, match="step_size: expected a number greater than 0 or auto, got 'large'"):
        affine_map(network, images(), "large")


def test_units_are_pulled_back_where_they_are_fewer_than_the_samples():
    network, start = encoder(outputs=5), images()
    batches = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is torch.ops.aten.convolution.default and args[6]:  # transposed
                batches.append(args[0].shape[0])
            return function(*args, **(kwargs or {}))

    for count, pulled in ((3, 3), (50, 5)):
        target = torch.randn(count, 5, dtype=torch.double)
        batches.clear()
        with Watch():
            gradient, _ = input_gradient(network, target, start)
        assert set(batches) == {pulled}
        exact = (network(start) - target) @ jacrev(network)(start).view(5, 72)
        assert torch.allclose(gradient.flatten(1), exact)


def test_an_expanded_start_is_a_shared_one():
    network, evaluated = encoder(), []
    network.register_forward_hook(lambda module, inputs, output: evaluated.append(len(inputs[0])))
    target, start = torch.randn(9, 5, dtype=torch.double), images().requires_grad_()
    feature = align(network, target, start.expand(9, -1, -1, -1), check=False)
    assert evaluated == [1]
    separate = align(network, target, start.repeat(9, 1, 1, 1), check=False)
    assert evaluated == [1, 9]
    assert torch.allclose(feature, separate)
    gradients = [torch.autograd.grad(each.square().sum(), start)[0] for each in (feature, separate)]
    assert torch.allclose(*gradients)


# --- singular values and automatic steps ------------------------------------------------------------


def test_largest_singular_value_of_every_sample():
    network, points = encoder(outputs=40), images(3)
    sigma, direction = largest_singular_value(network, points, iterations=300)
    for index in range(3):
        exact = jacrev(network)(points[index : index + 1]).view(40, 72).detach()
        _, values, right = torch.linalg.svd(exact)
        assert float(sigma[index]) == pytest.approx(float(values[0]), rel=1e-6)
        along = direction[index].flatten() / direction[index].norm()
        assert float((along @ right[0]).abs()) == pytest.approx(1, abs=1e-4)
    early, _ = largest_singular_value(network, points, iterations=3)
    assert bool((early <= sigma * (1 + 1e-12)).all())
    assert bool((early >= 0.5 * sigma).all())
    with pytest.raises(ValueError, match="iterations: expected at least 1, got 0"):
        largest_singular_value(network, points, 0)


def test_the_first_direction_has_no_pattern():
    numbers = linearization._scattered(torch.zeros(1, 3, 64, 64)).flatten()
    assert -1 <= float(numbers.min()) < -0.999
    assert 0.999 < float(numbers.max()) < 1
    assert abs(float(numbers.mean())) < 0.03  # of 12,288 uniform ones 0.005
    assert float(numbers.var()) == pytest.approx(1 / 3, rel=0.03)
    assert len(numbers.unique()) > 12_200
    power = torch.fft.rfft(numbers).abs().square() / (len(numbers) / 3)
    assert float(power.max()) < 25  # of as many uniform ones about 9; a wave would have thousands


def test_an_automatic_step_compiles_in_one_piece():
    network = encoder()  # in double precision: compiled, derivatives are rounded in other places
    target, start = torch.randn(3, 5).double(), torch.zeros(1, 2, 6, 6).double()

    def cost(target):
        return align(network, target, start, steps=2, step_size="auto").square().sum()

    torch.compiler.reset()
    compiled = torch.compile(cost, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(cost(target), list(network.parameters()))
    torch.testing.assert_close(torch.autograd.grad(compiled(target), list(network.parameters())), expected)


@pytest.mark.parametrize("gain", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("shared", [True, False])
def test_an_automatic_step_size_neither_diverges_nor_crawls(gain, shared):
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 20), nn.LeakyReLU(), nn.Linear(20, 6)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(gain)
    target = network(images(8)).detach()
    start = torch.full((1 if shared else 8, 2, 6, 6), 0.3, dtype=torch.double)
    distances = []
    for steps in (1, 5, 60):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            feature = align(network, target, start, steps=steps, step_size="auto")
        distances.append((network(feature) - target).flatten(1).norm(dim=1))
    first = (network(start) - target).flatten(1).norm(dim=1)
    for before, after in zip([first, *distances], distances, strict=False):
        assert bool((after < before).all())
    assert bool((distances[-1] < 0.2 * first).all())


def test_an_automatic_step_is_the_reciprocal_of_the_squared_singular_value():
    layer = nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([5.0, 0.5, 0.1]))[:, [0, 1, 2, 2]] * torch.tensor([1, 1, 1, 0]))
    feature = align(
        layer, torch.tensor([[5.0, 1.0, 0.0]], dtype=torch.double), torch.zeros(1, 4).double(), step_size="auto"
    )
    assert torch.allclose(feature, torch.tensor([[1, 0.5 / 25, 0, 0]], dtype=torch.double), atol=1e-6)
    with pytest.raises(ValueError, match="step_size: expected numbers greater than 0 or auto, got 'large'"):
        align(layer, torch.zeros(1, 3).double(), torch.zeros(1, 4).double(), step_size="large")


# --- recomputed steps -------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
def test_recomputed_steps_have_the_same_gradients(shared):
    network = encoder()
    scale = torch.tensor([0.3, 0.2, 0.4], dtype=torch.double, requires_grad=True)
    target = torch.randn(8, 5, dtype=torch.double, requires_grad=True)
    start = images(1 if shared else 8).requires_grad_()
    factor = nn.Parameter(torch.tensor(0.9, dtype=torch.double))
    captured = factor.exp()  # part of the graph, but not a leaf of it
    wanted = [*network.parameters(), factor, scale, target, start]
    results = []
    for recompute in (False, True):
        feature = align(
            lambda x: captured * network(x), target, start,
            steps=3, step_size=scale, squash=torch.sigmoid, recompute=recompute,
        )  # fmt: skip
        loss = (feature - 0.3).pow(2).sum()
        results.append((feature, torch.autograd.grad(loss, wanted, retain_graph=True)))
    assert torch.allclose(results[0][0], results[1][0])
    for got, expected in zip(results[1][1], results[0][1], strict=True):
        assert torch.allclose(got, expected)
        assert float(expected.abs().max()) > 0


class Experts(nn.Module):
    """Each sample is seen by the expert that a gate chooses for it."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 3) for _ in range(3))

    def forward(self, x):
        chosen, output = self.gate(x).argmax(1), x.new_zeros(len(x), 3)
        for number, expert in enumerate(self.experts):
            places = (chosen == number).nonzero().flatten()
            if len(places):
                output = output.index_add(0, places, expert(x[places]))
        return output


@pytest.mark.parametrize("shared", [True, False])
def test_recomputed_steps_reach_what_only_other_inputs_reach(shared):
    network = Experts().double()
    start, target = torch.randn(1 if shared else 8, 4).double(), 3 * torch.randn(8, 3).double()
    found = []
    for recompute in (False, True):
        network.zero_grad()
        align(network, target, start, steps=4, step_size=0.5, recompute=recompute).square().sum().backward()
        found.append([each.weight.grad for each in network.experts])
    assert sum(each is not None for each in found[0]) > 1
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed)
    feature = align(lambda x: network(x), target, start, steps=4, step_size=0.5, recompute=True)
    with pytest.raises(RuntimeError, match="recompute: the network has parameters"):
        feature.square().sum().backward()


def test_recomputed_steps_with_what_is_saved_elsewhere():
    network, start, target = encoder(), images(1), torch.randn(8, 5, dtype=torch.double)
    found = []
    for recompute in (False, True):
        with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
            feature = align(network, target, start, steps=2, step_size=0.3, recompute=recompute)
            found.append(torch.autograd.grad(feature.square().sum(), list(network.parameters())))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_recomputed_steps_keep_inputs_and_not_activations():
    network = nn.Sequential(nn.Flatten(), nn.Linear(20, 400), nn.SiLU(), nn.Linear(400, 3)).double()
    start = torch.zeros(64, 20, dtype=torch.double)
    target = torch.randn(64, 3, dtype=torch.double)

    def kept(steps, recompute):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        feature = align(network, target, start, steps=steps, recompute=recompute, check=False)
        waiting, seen = [feature.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for name in dir(node):
                if name.startswith("_saved_") or name == "saved_tensors":
                    found = getattr(node, name)
                    for each in found if isinstance(found, tuple | list) else [found]:
                        if isinstance(each, torch.Tensor):
                            pack(each)
            waiting += [following for following, _ in node.next_functions]
        return sum(storages.values())

    batch = start.nbytes
    assert kept(9, True) - kept(3, True) <= 6 * (batch + 8)
    assert kept(9, False) - kept(3, False) > 6 * 5 * batch


def test_recomputed_steps_refuse_what_they_cannot_repeat():
    network = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    with pytest.raises(ValueError, match="recompute: the network draws random numbers"):
        align(network, torch.zeros(2, 3), torch.zeros(1, 4), recompute=True)
    feature = align(network[0], torch.zeros(2, 3), torch.zeros(1, 4), recompute=True)
    (gradient,) = torch.autograd.grad(feature.sum(), network[0].weight, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_recomputed_steps_under_autocast():
    network, target = encoder().float(), torch.randn(8, 5)
    gradients = []
    for recompute in (False, True):
        with torch.autocast("cpu", torch.bfloat16):
            feature = align(network, target, torch.zeros(8, 2, 6, 6), steps=2, step_size=0.1, recompute=recompute)
        gradients.append(torch.autograd.grad(feature.square().sum(), list(network.parameters())))
    for got, wanted in zip(*gradients, strict=True):
        assert torch.allclose(got, wanted, rtol=2e-2, atol=2e-2 * float(wanted.abs().max()))


# --- in the models ----------------------------------------------------------------------------------

SMALL = {"image_shape": (1, 8, 8), "channels": [4], "width": 16}


@pytest.mark.parametrize("squash", ["last", "every", "none"])
@pytest.mark.parametrize("step_size", [0.5, "auto"])
def test_a_model_decodes_by_the_affine_map_what_the_flow_would(squash, step_size):
    model = VFA(latent=3, classes=4, class_weight=2.0, squash=squash, step_size=step_size, **SMALL).eval()
    latent, labels = torch.randn(6, 3), torch.arange(6) % 4
    with torch.no_grad():
        flow = model.feature(latent, 1.5 * nn.functional.one_hot(labels, 4).float())
    assert torch.allclose(model.decode(latent, labels, stress=1.5), flow, atol=1e-5)


def test_a_model_decodes_by_its_weights_of_now():
    model, latent = FA(latent=3, **SMALL).eval(), torch.randn(6, 3)
    evaluated = []
    model.encoder.register_forward_hook(lambda *_: evaluated.append(1))
    before = model.decode(latent)
    count = len(evaluated)
    assert torch.equal(model.decode(latent), before)
    assert len(evaluated) == count  # no evaluation more

    def changed(change):
        nonlocal before
        old = before
        change()
        before = model.decode(latent)
        assert not torch.equal(before, old)
        with torch.no_grad():
            assert torch.allclose(before, model.feature(latent), atol=1e-5)

    def write():
        with torch.no_grad():
            model.encoder[0].weight.mul_(1.3)

    changed(write)
    changed(lambda: model.load_state_dict(FA(latent=3, **SMALL).state_dict()))
    changed(lambda: setattr(model.mean, "weight", nn.Parameter(2 * model.mean.weight.detach())))
    assert model.double().decode(latent.double()).dtype == torch.double


@pytest.mark.parametrize(
    "options", [{"steps": 2, "step_size": "auto", "squash": "every"}, {"steps": 3, "step_size": 0.5, "recompute": True}]
)
def test_models_take_the_options(options):
    model = FA(latent=3, **SMALL, **options)
    feature = model.feature(torch.randn(5, 3), check=True)
    feature.square().sum().backward()
    assert float(model.encoder[0].weight.grad.abs().max()) > 0
    with pytest.raises(ValueError, match="learn_step_size: a step size of auto"):
        FA(latent=3, step_size="auto", learn_step_size=True, **SMALL)


@pytest.mark.parametrize("step_size", [-1.0, 0.0, float("nan")])
def test_a_step_size_that_is_not_positive_is_refused(step_size):
    with pytest.raises(ValueError, match="step_size: expected a finite number greater than 0, got"):
        affine_map(nn.Linear(4, 3), torch.zeros(1, 4), step_size)


def test_an_empty_batch_has_automatic_steps():
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    assert align(network, torch.zeros(0, 3), torch.zeros(1, 4), step_size="auto", steps=2).shape == (0, 4)
