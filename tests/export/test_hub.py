"""Models on the Hub: its library's own layout, without a network."""

from __future__ import annotations

import huggingface_hub
import pytest
import torch
from hub_layout import COMMIT, cached
from huggingface_hub import HfApi, ModelCard, constants

from feature_alignment.export import HubModel, from_pretrained, push
from feature_alignment.models import AE, VFAGAN, Model
from feature_alignment.models.hub import is_repository

SMALL = {"image_shape": (1, 8, 8), "latent": 5, "channels": (4,), "width": 12}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The Hub library's cache, empty, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = VFAGAN(**SMALL, classes=3, refiner_filters=4, discriminator_width=8).eval()
    found.class_names = ("red", "green", "blue")
    return found


def test_a_cached_repository_is_loaded_by_its_id(cache, model, tmp_path):
    model.save_pretrained(tmp_path / "files")
    cached(tmp_path / "files", cache, "owner/name")
    images = torch.rand(2, 1, 8, 8)
    for load in (Model.from_pretrained, from_pretrained, lambda name: HubModel.from_pretrained(name).model):
        found = load("owner/name")
        assert type(found) is VFAGAN
        assert found.class_names == model.class_names
        torch.testing.assert_close(found.encode(images), model.encode(images), rtol=0, atol=0)
    assert from_pretrained("owner/name", revision=COMMIT).latent == 5
    with pytest.raises(FileNotFoundError, match="owner/name: neither a directory nor a model that can be fetched"):
        from_pretrained("owner/name", revision="other")
    with pytest.raises(FileNotFoundError):
        HubModel.from_pretrained("owner/other")


def test_another_cache_may_be_named(cache, model, tmp_path):
    model.save_pretrained(tmp_path / "files")
    cached(tmp_path / "files", tmp_path / "elsewhere", "owner/name")
    assert from_pretrained("owner/name", cache_dir=tmp_path / "elsewhere", local_files_only=True).latent == 5
    with pytest.raises(FileNotFoundError):
        from_pretrained("owner/name")


@pytest.fixture
def hub(cache, monkeypatch):
    """A Hub whose uploads are downloads at once."""

    class Created:
        repo_id = "owner/name"

    def upload(self, *, repo_id, folder_path, **_):
        cached(folder_path, cache, repo_id)
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: Created)
    monkeypatch.setattr(HfApi, "upload_folder", upload)


def test_what_is_pushed_is_what_is_loaded_and_its_snippet_runs(hub, cache, model, capsys):
    assert push(model, "owner/name", licence="apache-2.0") == "https://hub/owner/name"
    latent, labels = torch.rand(2, 5), torch.tensor([0, 2])
    torch.testing.assert_close(from_pretrained("owner/name").decode(latent, labels), model.decode(latent, labels))
    card = ModelCard.load(cache / "models--owner--name" / "snapshots" / COMMIT / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.library_name == "feature-alignment"
    assert "classes (red, green, blue)" in card.text
    (snippet,) = [part.partition("```")[0] for part in card.text.split("```python\n")[1:]]
    exec(snippet, {})
    assert "torch.Size([16, 1, 8, 8])" in capsys.readouterr().out


def test_the_snippet_of_a_model_without_classes_and_refiner_runs(cache, tmp_path, capsys):
    HubModel(AE(**SMALL)).save_pretrained(tmp_path / "files", model_card_kwargs={"repository": "owner/ae"})
    cached(tmp_path / "files", cache, "owner/ae")
    exec((tmp_path / "files" / "README.md").read_text().split("```python\n")[1].partition("```")[0], {})
    assert "torch.Size([16, 1, 8, 8])" in capsys.readouterr().out


@pytest.mark.parametrize("reason", [OSError("401 Client Error"), huggingface_hub.errors.HFValidationError("bad id")])
def test_a_hub_that_refuses_is_one_line(reason, model, monkeypatch):
    def refuse(*_, **__):
        raise reason

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(OSError, match=rf"owner/name: cannot be pushed to the Hugging Face Hub \({reason}"):
        push(model, "owner/name")


def test_a_path_is_not_taken_for_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_repository("runs/mine")
    (tmp_path / "runs").mkdir()
    assert not is_repository("runs/mine")
    assert is_repository("hf:runs/mine")
    assert not any(map(is_repository, ["mine", "./mine", "/tmp/mine", "../mine", "a/b/c", "a//b"]))
