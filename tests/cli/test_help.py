"""What every command says of itself."""

from __future__ import annotations

import pytest

from feature_alignment import __version__
from feature_alignment.cli.commands import COMMANDS
from feature_alignment.cli.main import main


def shown(capsys, *arguments):
    """Return what is printed when it is asked for."""
    with pytest.raises(SystemExit) as stopped:
        main([*arguments])
    assert not stopped.value.code
    return " ".join(capsys.readouterr().out.split())


def test_the_overview_names_every_command(capsys):
    said = shown(capsys)
    assert said == shown(capsys, "--help")
    assert all(f"{name} {command.about}" in said for name, command in COMMANDS.items())
    assert shown(capsys, "--version") == f"falign {__version__}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_no_markup(command, capsys):
    said = shown(capsys, command, "--help")
    assert f"falign {command}" in said.partition("Example: ")[2]
    assert ":class:" not in said
    assert "``" not in said


def test_the_help_of_a_training_has_every_option_of_the_model(capsys):
    assert "--model.latent LATENT" not in shown(capsys, "train", "--help")
    said = shown(capsys, "train", "--model", "vfa-gan", "--help")
    # Its own, those of the models it derives from, of the data and of the training.
    options = [
        "model.refiner_filters",
        "model.beta",
        "model.channels",
        "model.learning_rate",
        "data.name",
        "training.steps",
    ]
    assert all(f"--{option}" in said for option in options)
    assert "size of the latent vector" in said


def test_the_help_of_reproduce_names_its_targets(capsys):
    said = shown(capsys, "reproduce", "--help")
    assert "table1" in said
    assert "fig12" in said
