"""Models on the Hugging Face Hub: pushed with a model card, loaded by repository id or from the cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from huggingface_hub.errors import HFValidationError

from ..files import write_atomically
from ..models.hub import download
from ..models.model import Model
from ..training import Run
from .card import PICTURES, metrics_of, model_card, name_of_data

__all__ = ["HubModel", "from_pretrained", "push"]


class HubModel(PyTorchModelHubMixin, library_name="feature-alignment"):
    """A trained model with the methods of the Hub's library: ``save_pretrained``, ``push_to_hub``, ``from_pretrained``.

    The files are those of :meth:`feature_alignment.models.Model.save_pretrained`, ``config.json`` and
    ``model.safetensors``; of a run its pictures, ``metrics.json`` and ``config.yaml`` too, without paths of this
    machine; and the model card, ``README.md``.

    Args:
        trained: a model.
        run: the run that it comes from, for the card.

    Example:
        >>> from feature_alignment.models import AE
        >>> model = AE((1, 8, 8), latent=4, channels=(4,), width=16)
        >>> _ = HubModel(model).save_pretrained(folder, model_card_kwargs={"repository": "me/small"})
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        >>> HubModel.from_pretrained(folder).model.latent
        4
    """

    def __init__(self, trained: Model, run: Run | None = None) -> None:
        self.model, self.run = trained, run

    def generate_model_card(self, *, repository: str = "", licence: str = "mit") -> ModelCard:
        """Return the model card, see :func:`feature_alignment.export.card.model_card`."""
        return model_card(self.model, repository, run=self.run, licence=licence)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save_pretrained(save_directory)
        if self.run is None:
            return
        if self.run.config.is_file():
            settings = yaml.safe_dump(_public_settings(self.run), sort_keys=False)
            write_atomically(save_directory / self.run.config.name, settings)
        if metrics := metrics_of(self.run):
            metrics["data"] = name_of_data(metrics["data"])
            write_atomically(save_directory / self.run.metrics.name, json.dumps(metrics, indent=2) + "\n")
        for name in PICTURES:
            if (self.run.directory / name).is_file():
                shutil.copyfile(self.run.directory / name, save_directory / name)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        map_location: str = "cpu",
        strict: bool = True,
        **model_kwargs: Any,
    ) -> HubModel:
        directory = Path(model_id)
        if not directory.is_dir():
            directory = download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
            )
        return cls(Model.from_pretrained(directory, **model_kwargs).to(map_location))


def from_pretrained(name: str | Path, **options: Any) -> Model:
    """Load a model by repository id, from the Hub or its cache, or from a directory; in eval mode, on the CPU.

    Args:
        name: ``owner/name``, or a directory.
        options: of the Hub's library: ``revision``, ``cache_dir``, ``local_files_only``, ``force_download``, ``token``;
            or arguments of the model that override those in its ``config.json``.

    Raises:
        FileNotFoundError: there is no such model, or it cannot be fetched.
        ValueError: the files hold another model, or weights that do not fit.
    """
    directory = Path(name)
    known = ("revision", "cache_dir", "local_files_only", "force_download", "token")
    asked = {option: options.pop(option) for option in known if option in options}
    return Model.from_pretrained(directory if directory.is_dir() else download(str(name), **asked), **options)


def push(
    model: Model,
    repository: str,
    *,
    run: Run | None = None,
    licence: str = "mit",
    private: bool = False,
    **options: Any,
) -> str:
    """Create a repository on the Hub if there is none, and push a model with its card; return the commit's address.

    Args:
        model: a trained model.
        repository: ``owner/name``.
        run: the run that it comes from: its data, metrics and pictures then are on the card.
        licence: of the weights, by the Hub's identifier, such as ``mit``, ``apache-2.0`` or ``cc-by-4.0``.
        private: whether a repository that is created is private.
        options: of :meth:`huggingface_hub.ModelHubMixin.push_to_hub`, such as ``token``, ``branch``, ``create_pr``.

    Raises:
        OSError: the Hub refuses, or cannot be reached; the reason is in the message.
    """
    card = {"repository": repository, "licence": licence}
    hub_model = HubModel(model, run)
    hub_model.generate_model_card(**card)  # a mistake in it comes before anything is created
    try:
        return hub_model.push_to_hub(repository, private=private, model_card_kwargs=card, **options)
    except Exception as error:
        if not isinstance(error, OSError | HFValidationError) and not hasattr(type(error), "request"):  # of httpx
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{repository}: cannot be pushed to the Hugging Face Hub ({reason[:300]})") from None


def _public_settings(run: Run) -> dict[str, Any]:
    """Return the run's configuration without paths of this machine."""
    settings = run.settings()
    data = settings.get("data", {})
    return {**settings, "data": {**data, "name": name_of_data(str(data.get("name", "")))}}
