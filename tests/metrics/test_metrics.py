"""Measures against NumPy and SciPy in float64, numbers by hand, real digits, and Inception with random weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3

from feature_alignment.cli.main import main
from feature_alignment.data import load
from feature_alignment.metrics import (
    INCEPTION_URL,
    MEASURES,
    Classifier,
    Inception,
    class_agreement,
    classifier_fid,
    classifier_for,
    evaluate,
    frechet_distance,
    inception_features,
    kernel_distance,
    psnr,
    reconstruction_error,
    ssim,
    stages_of,
)
from feature_alignment.models import VFA, VFAGAN


@pytest.fixture(scope="module")
def splits():
    return load("mnist-mini", "train"), load("mnist-mini", "test")


@pytest.fixture(scope="module")
def classifier(splits):
    return classifier_for(splits[0], steps=500)


def test_reconstruction_error_by_hand():
    assert reconstruction_error(torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.5)) == 1.0
    with pytest.raises(ValueError, match=r"expected shape \(3, 1, 2, 2\), got \(1, 1, 2, 2\)"):
        reconstruction_error(torch.zeros(3, 1, 2, 2), torch.zeros(1, 1, 2, 2))


def test_error_of_the_mean_image_is_what_the_digits_say(splits):
    train, test = splits
    error = reconstruction_error(test.images(), train.images().mean(0).expand(500, 1, 28, 28))
    pixels = np.asarray(test.pixels, np.float64) / 255
    expected = ((pixels - np.asarray(train.pixels, np.float64).mean(0) / 255) ** 2).sum((1, 2, 3)).mean()
    assert error == pytest.approx(expected, rel=1e-6)


def test_psnr_by_hand():
    images = torch.zeros(3, 2, 4, 4)
    reconstructions = torch.stack([torch.full((2, 4, 4), error) for error in (0.1, 0.01, 0.0)])
    # 20 and 40 dB, and the exact one counts as 100.
    assert psnr(images, reconstructions) == pytest.approx((20 + 40 + 100) / 3, rel=1e-6)
    reconstructions[1] = 0
    reconstructions[1, 0, 0, 0] = 1  # one of 32 values is off by 1
    assert psnr(images[:2], reconstructions[:2]) == pytest.approx((20 + 10 * np.log10(32)) / 2, rel=1e-6)


def by_definition_ssim(one, two):
    """SSIM of two channels in float64: SciPy's Gaussian window, cut off at 5 pixels, mirrored without the edge."""

    def blur(channel):
        return scipy.ndimage.gaussian_filter(channel, 1.5, mode="mirror", radius=5)

    mean, other = blur(one), blur(two)
    variances = blur(one**2) - mean**2 + blur(two**2) - other**2
    covariance = blur(one * two) - mean * other
    similarity = (2 * mean * other + 1e-4) * (2 * covariance + 9e-4)
    return (similarity / ((mean**2 + other**2 + 1e-4) * (variances + 9e-4))).mean()


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 6, 9)])
def test_ssim_is_its_definition(shape, monkeypatch):
    monkeypatch.setattr("feature_alignment.metrics.CHUNK", 2)
    torch.manual_seed(0)
    images = torch.rand(5, *shape)
    reconstructions = (images + 0.2 * torch.randn_like(images)).clamp(0, 1)
    pairs = zip(images.double().flatten(0, 1), reconstructions.double().flatten(0, 1), strict=True)
    expected = np.mean([by_definition_ssim(one.numpy(), two.numpy()) for one, two in pairs])
    assert ssim(images, reconstructions) == pytest.approx(expected, rel=1e-6)
    assert ssim(images, images) == pytest.approx(1)


def test_classifier_reads_held_out_digits_and_is_cached(splits, classifier):
    train, test = splits
    assert class_agreement(classifier, test.images(), test.labels) > 0.9
    state = torch.get_rng_state()
    again = classifier_for(train, steps=500)
    assert torch.equal(state, torch.get_rng_state())
    for one, two in zip(classifier.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_classifier_without_labels_learns_rotations(splits):
    train, test = splits
    classifier = classifier_for(replace(train, labels=None, classes=(), name="unlabelled"), steps=300)
    turned = torch.cat([test.images().rot90(turns, (2, 3)) for turns in range(4)])
    assert class_agreement(classifier, turned, torch.arange(4).repeat_interleave(500)) > 0.8


def test_classifier_fid_is_equation_8(splits, classifier):
    real, other = splits[1].images()[:300], splits[0].images()[:400] * 0.8
    with torch.no_grad():
        a, b = (classifier.features(images).double().numpy() for images in (real, other))
    covariances = [np.cov(each, rowvar=False) for each in (a, b)]
    # Features that are always zero make the product singular, which SciPy's root does not like.
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1] + 1e-10 * np.eye(64)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert classifier_fid(classifier, real, other) == pytest.approx(expected, rel=1e-3)
    assert classifier_fid(classifier, real, real) == pytest.approx(0, abs=1e-2)


def trace_of_root(one, two):
    """tr((one two)^1/2) as the sum of the singular values of one^1/2 two^1/2, which singular ones do not trouble."""

    def root(covariance):
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(values.clip(0)) @ vectors.T

    return np.linalg.svd(root(one) @ root(two), compute_uv=False).sum()


@pytest.mark.parametrize(("count", "features"), [(400, 12), (30, 40)])  # the latter's covariances are singular
def test_frechet_distance_is_equation_8(count, features):
    draw = np.random.default_rng(0)
    one = draw.normal(size=(count, features)) @ draw.normal(size=(features, features)) + 1
    two = draw.normal(size=(count + 5, features)) @ draw.normal(size=(features, features))
    covariances = np.cov(one, rowvar=False), np.cov(two, rowvar=False)
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(sum(covariances)) - 2 * trace_of_root(*covariances)
    assert frechet_distance(torch.tensor(one), torch.tensor(two)) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(torch.tensor(one), torch.tensor(one)) == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match=f"expected two images or more, got 1 and {count + 5}"):
        frechet_distance(torch.tensor(one[:1]), torch.tensor(two))


def squared_discrepancy(one, two):
    """The unbiased estimate of the squared maximum mean discrepancy with (x y / d + 1)^3, one pair after the other."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    count = len(one)
    inside = [kernel(s[i], s[j]) for s in (one, two) for i in range(count) for j in range(count) if i != j]
    across = [kernel(x, y) for x in one for y in two]
    return sum(inside) / (count * (count - 1)) - 2 * sum(across) / count**2


def test_kernel_distance_is_its_definition():
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(20, 6)), draw.normal(size=(20, 6)) + 0.5
    state = torch.get_rng_state()
    found = kernel_distance(torch.tensor(one), torch.tensor(two))
    assert found == pytest.approx(squared_discrepancy(one, two), rel=1e-9)
    # The mean over many subsets of larger sets is close to the estimate from all of them.
    large, other = torch.from_numpy(draw.normal(size=(2, 2000, 6)))
    one_by_one, across = ((large @ each.T / 6 + 1) ** 3 for each in (large, other))
    both = one_by_one.sum() - one_by_one.trace() + ((other @ other.T / 6 + 1) ** 3).fill_diagonal_(0).sum()
    several = kernel_distance(large, other)
    assert several == pytest.approx(float(both / (2000 * 1999) - 2 * across.mean()), abs=1e-3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    assert several == kernel_distance(large, other)
    with pytest.raises(ValueError, match="expected two images or more, got 1 and 20"):
        kernel_distance(torch.tensor(one[:1]), torch.tensor(two))


def test_class_agreement_by_hand():
    classifier = Classifier(1, 8, 3).eval()
    images = torch.rand(4, 1, 8, 8)
    named = classifier.classify(images)
    wrong = (named + torch.tensor([0, 1, 1, 0])) % 3
    assert class_agreement(classifier, images, wrong) == 0.5


def small_model(kind=VFAGAN, **more):
    torch.manual_seed(0)
    more = {"channels": (4, 8), "width": 16, "step_size": 99.0, "classes": 10} | more
    return kind((1, 28, 28), 4, **more).eval()


def test_evaluate_reports_every_stage_beside_the_reference(splits, monkeypatch):
    monkeypatch.setattr("feature_alignment.metrics.CHUNK", 64)  # several chunks
    model = small_model(refiner_filters=4, discriminator_width=8)
    found = evaluate(model, *splits, seed=3, limit=150)
    assert (found["images"], found["samples"], found["seed"]) == (150, 150, 3)
    for name in ("reconstruction_error", "psnr", "ssim", "classifier_fid", "class_agreement"):
        assert list(found[name]) == ["feature", "refined", "reference"]
    assert not {"fid", "kid", "notes"} & set(found)
    spread = (np.arange(150) * 499 / 149).round().astype(int).tolist()
    images, labels = splits[1].images()[spread], splits[1].labels[spread]
    assert torch.bincount(labels).min() >= 14  # every class has its share
    features = model.reconstruct(images, labels)
    assert found["reconstruction_error"]["feature"] == pytest.approx(reconstruction_error(images, features), rel=1e-5)
    refined = model.refine(features, labels)
    assert found["reconstruction_error"]["refined"] == pytest.approx(reconstruction_error(images, refined), rel=1e-5)
    assert found["psnr"]["refined"] == pytest.approx(psnr(images, refined), rel=1e-5)
    assert found["ssim"]["feature"] == pytest.approx(ssim(images, features), rel=1e-5)
    mean = splits[0].images().mean(0).expand_as(images)
    assert found["ssim"]["reference"] == pytest.approx(ssim(images, mean), rel=1e-4)
    generator = torch.Generator().manual_seed(3)
    chunks = [model.sample(len(each), each, generator=generator) for each in labels.split(64)]
    expected = classifier_fid(classifier_for(splits[0]), images, torch.cat(chunks))
    assert found["classifier_fid"]["feature"] == pytest.approx(expected, rel=1e-3)
    assert found["classifier_fid"]["reference"] < found["classifier_fid"]["feature"]
    accuracy = class_agreement(classifier_for(splits[0]), images, labels)
    assert found["class_agreement"]["feature"] < 0.5 < accuracy == found["class_agreement"]["reference"]
    assert found == evaluate(model, *splits, seed=3, limit=150)


def test_evaluate_calls_a_slow_reconstruct_once_and_uses_the_stage_of_the_model(splits, monkeypatch):
    model = small_model(VFA)
    monkeypatch.setattr(type(model), "stage", "decoded")
    with mock.patch.object(model, "reconstruct", wraps=model.reconstruct) as searched:
        found = evaluate(model, *splits, limit=20)
    assert searched.call_count == 1
    assert stages_of(found) == ["decoded", "reference"]


def test_what_cannot_be_measured_is_left_out_with_the_reason(splits):
    small = [replace(split, pixels=split.pixels[:, :, 10:14, 10:14].contiguous()) for split in splits]
    model = VFA((1, 4, 4), 2, classes=10, channels=(4,), width=8).eval()
    found = evaluate(model, *small, limit=1)
    assert not {"ssim", "classifier_fid"} & set(found)
    assert found["notes"]["ssim"] == "left out: images of 4 x 4 pixels are too small for its window"
    assert found["notes"]["classifier_fid"] == "left out: a distribution needs two images or more"
    assert found["psnr"]["feature"] > 0
    with pytest.raises(ValueError, match="limit: expected at least 1, got 0"):
        evaluate(model, *small, limit=0)


def test_stages_come_from_the_measures_and_the_reference_last():
    assert stages_of({"psnr": {"reference": 1, "decoded": 2}, "images": 3, "kid": {"refined": 4}}) == [
        "decoded",
        "refined",
        "reference",
    ]
    assert {measure.better for measure in MEASURES.values()} == {"lower", "higher"}


# --- Inception, whose published weights are not at hand: the path is tested with random ones -----------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file in the layout of the published one."""
    torch.manual_seed(0)
    extractor = feature_extractor_inceptionv3.FeatureExtractorInceptionV3
    with (
        mock.patch.object(feature_extractor_inceptionv3, "load_state_dict_from_url"),
        mock.patch.object(extractor, "load_state_dict"),
    ):
        network = extractor("random", ["2048"])
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # so that the images still make a difference at the end
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def inception(weights):
    return Inception(weights)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run whose model was never trained."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    small_model(VFA).save_pretrained(directory)
    (directory / "config.yaml").write_text("data:\n  name: mnist-mini\n")
    return directory


@pytest.fixture
def no_hub(tmp_path, monkeypatch):
    """A torch hub directory without weights."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_url_is_that_of_torch_fidelity():
    assert feature_extractor_inceptionv3.URL_INCEPTION_V3 == INCEPTION_URL


def test_inception_sees_what_torch_fidelity_sees(weights, inception, splits):
    original = feature_extractor_inceptionv3.FeatureExtractorInceptionV3("original", ["2048"], str(weights))
    pixels = splits[1].pixels[:3]
    expected = original(pixels.repeat(1, 3, 1, 1))[0]
    features = inception.features(pixels.float() / 255)
    assert expected.std(0).mean() > 1e-3 * expected.abs().mean()
    assert torch.allclose(features, expected, rtol=1e-4)
    assert torch.allclose(inception.features(pixels / 255 + 0.4 / 255), expected, rtol=1e-4)  # rounded to 8 bits
    colours = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(inception.features(colours / 255), original(colours)[0], rtol=1e-4)
    assert not inception.official


def test_features_of_real_images_are_computed_once(inception, splits):
    images = replace(splits[1], pixels=splits[1].pixels[:2], labels=None)
    first = inception_features(inception, images)
    with mock.patch.object(inception, "features", side_effect=AssertionError("again")):
        assert torch.equal(inception_features(inception, images), first)
    # Other images, or other weights, are another matter.
    others = replace(images, pixels=splits[1].pixels[2:4])
    assert not torch.equal(inception_features(inception, others), first)
    with mock.patch.object(inception, "identity", "other"), mock.patch.object(inception, "features") as again:
        again.return_value = first + 1
        assert torch.equal(inception_features(inception, images), first + 1)


def test_evaluate_measures_fid_and_kid_from_one_pass(inception, splits):
    model = small_model(VFA)
    with mock.patch.object(inception, "features", wraps=inception.features) as passes:
        found = evaluate(model, *splits, seed=1, limit=6, inception=inception)
        assert passes.call_count == 3  # held-out images, samples, reference
        again = evaluate(model, *splits, seed=1, limit=6, inception=inception)
        assert passes.call_count == 4  # only the samples are new
    assert found == again
    held_out = splits[1].images()[(np.arange(6) * 499 / 5).round()]
    labels = splits[1].labels[(np.arange(6) * 499 / 5).round()]
    samples = model.sample(6, labels, generator=torch.Generator().manual_seed(1))
    one, two = (inception.features(images).double().numpy() for images in (held_out, samples))
    # With the centred features in the rows of A and B, the root's trace is the sum of A B^T's singular values.
    a, b = ((each - each.mean(0)) / np.sqrt(5) for each in (one, two))
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * root
    assert found["fid"]["feature"] == pytest.approx(expected, rel=1e-3)
    assert found["kid"]["feature"] == pytest.approx(squared_discrepancy(one, two), rel=1e-3)
    assert set(found["fid"]) == set(found["kid"]) == {"feature", "reference"}
    assert found["notes"]["fid"].startswith("biased: 6 images give 2048 features a singular covariance")
    assert found["notes"]["inception"].startswith("other weights than the published ones")


def test_command_measures_with_the_weights_it_is_given(run, weights, no_hub, capsys):
    assert main(["evaluate", str(run), "--limit", "4", "--inception-weights", str(weights)]) == 0
    printed = capsys.readouterr()
    assert "falign:" not in printed.err  # where the machine is slow, progress bars are
    lines = {line[:38].strip(): line[38:].split() for line in printed.out.splitlines()}
    assert lines["4 test images of mnist-mini"] == ["better", "feature", "reference"]
    found = json.loads((run / "evaluation.json").read_text())
    assert lines["FID of samples"] == ["lower", *(f"{found['fid'][stage]:.3g}" for stage in ("feature", "reference"))]
    assert lines["PSNR (dB)"][0] == "higher"
    assert "(fid: biased: 4 images give 2048 features a singular covariance" in printed.out


def test_command_finds_the_weights_that_torch_hub_has(run, weights, no_hub, capsys):
    no_hub.mkdir(parents=True)
    (no_hub / Path(INCEPTION_URL).name).symlink_to(weights)
    assert main(["evaluate", str(run), "--limit", "4", "--fid", "yes"]) == 0
    assert "KID of samples" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--limit", "4", "--fid", "no"]) == 0
    assert "KID of samples" not in capsys.readouterr().out


def test_without_weights_the_rest_is_measured_and_nothing_downloaded(run, no_hub, capsys):
    with mock.patch("urllib.request.urlopen", side_effect=AssertionError("download")):
        assert main(["evaluate", str(run), "--limit", "4"]) == 0
        printed = capsys.readouterr()
        assert "classifier FID" in printed.out
        assert not {"fid", "kid"} & set(json.loads((run / "evaluation.json").read_text()))
        message = f"download {INCEPTION_URL} and give the file with --inception-weights, or put it into {no_hub}\n"
        assert printed.err.count("falign:") == 1
        assert f"falign: left out: FID and KID need the weights of Inception-v3: {message}" in printed.err
        assert main(["evaluate", str(run), "--limit", "4", "--fid", "yes"]) == 2
        assert capsys.readouterr().err.endswith(message)


def harmful():
    class Harmful:
        def __reduce__(self):
            return Path.touch, (Path("harm"),)

    return Harmful()


@pytest.mark.parametrize("content", ["missing", "text", "cut off", "another network", "harmful"])
def test_bad_weights_are_one_clear_line(run, weights, content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("<html>not found</html>")
    elif content == "cut off":
        path.write_bytes(weights.read_bytes()[:1_000_000])
    elif content == "another network":
        torch.save(nn.Linear(2, 2).state_dict(), path)
    elif content == "harmful":
        torch.save(harmful(), path)
    assert main(["evaluate", str(run), "--inception-weights", str(path)]) == 2
    problem = "no such file; expected" if content == "missing" else "not the weights of Inception-v3; expected"
    error = capsys.readouterr().err
    assert error.startswith(f"falign: error: --inception-weights {path}: {problem}")
    assert error.count("\n") == 1
    assert not Path("harm").exists()
