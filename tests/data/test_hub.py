"""Sets of the Hugging Face Hub, read by its own library from parquet files."""

from __future__ import annotations

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from image_files import hub_rows, png

from feature_alignment.data import DataError, DataOptions, TrainingData, cache_directory, load


def write_parquet(path, pictures, **columns):
    """Images as struct of bytes and path, without the features that datasets would add."""
    images = [None if each is None else {"bytes": each, "path": None} for each in pictures]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table({"picture": pyarrow.array(images, kind), **columns})
    pyarrow.parquet.write_table(table, path)


def test_a_set_with_splits_and_classes_as_the_hub_has_it(parquet):
    rows = hub_rows(range(12), [number % 3 for number in range(12)], names=("x", "y", "z"))
    rows.to_parquet(parquet / "train-00000-of-00001.parquet")
    hub_rows([200, 201], [2, 0], names=("x", "y", "z")).to_parquet(parquet / "validation-00000-of-00001.parquet")
    module = TrainingData(DataOptions(str(parquet), batch_size=4))
    assert module.image_shape == (1, 28, 28)
    assert module.classes == 3
    assert module.train.pixels[:, 0, 5, 5].tolist() == list(range(12))
    assert module.train.labels.tolist() == [0, 1, 2] * 4
    assert module.test().pixels[:, 0, 0, 0].tolist() == [200, 201]
    assert module.test().labels.tolist() == [2, 0]
    small = load(f"hf:{parquet}", "train", image_size=8, channels=3)
    assert small.pixels.shape == (12, 3, 8, 8)


def test_its_library_draws_no_bar_into_a_pipe(parquet, capfd):
    for disabled in (False, True):
        write_parquet(parquet / f"{disabled}.parquet", [png((1, 2, 3))] * 3)
        datasets.utils.disable_progress_bars() if disabled else datasets.utils.enable_progress_bars()
        load(str(parquet), "train")
        assert capfd.readouterr().err == ""
        assert datasets.utils.are_progress_bars_disabled() == disabled
    datasets.utils.enable_progress_bars()


def test_one_split_images_of_many_sizes_and_labels_of_words_and_numbers(parquet):
    sizes = [(6, 6), (9, 3)] * 10
    write_parquet(
        parquet / "all.parquet",
        [png((number, 0, 0), size) for number, size in enumerate(sizes)],
        kind=["wolf", "ape"] * 10,
        year=[1999, 7] * 9 + [7, 12],
        half=[0.5] * 20,
    )
    train, test = load(str(parquet), "train"), load(str(parquet), "test")
    assert (len(train), len(test)) == (18, 2)
    assert train.shape == (3, 64, 64)
    assert train.labels is None
    assert test.pixels[:, 0].flatten(1).unique(dim=1).squeeze(1).tolist() == [9, 19]
    assert train.pixels[:, 0, 0, 0].tolist() == [number for number in range(20) if number not in (9, 19)]
    words = load(str(parquet), "test", label="kind", image="picture")
    assert [words.classes[label] for label in words.labels] == ["ape", "ape"]
    assert words.classes == ("ape", "wolf")
    numbers = load(str(parquet), "test", label="year")
    assert numbers.classes == ("7", "12", "1999")  # also the one that is not in the split, and by size
    assert numbers.labels.tolist() == [0, 1]
    assert load(str(parquet), "train", label="year").classes == numbers.classes
    assert len(list(cache_directory().glob("hub-*-repository-*"))) == 5  # one for each choice of columns and split

    module = TrainingData(DataOptions(str(parquet), batch_size=2, image="picture", label="kind"))
    assert module.classes == 2
    assert module.test().classes == ("ape", "wolf")
    with pytest.raises(DataError, match="the column year has no images"):
        TrainingData(DataOptions(str(parquet), batch_size=2, image="year"))

    everything = "picture, kind, year, half"
    for settings, message in [
        ({"image": "img"}, f"no column 'img' for image; its columns are {everything}"),
        ({"label": "nope"}, f"no column 'nope' for label; its columns are {everything}"),
        ({"image": "kind"}, "the column kind has no images; its columns are "),
        ({"label": "half"}, "the column half has neither classes nor integers nor strings"),
        ({"label": "picture"}, "the column picture has neither classes nor integers nor strings"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            load(str(parquet), "train", **settings)
        assert "\n" not in str(caught.value)


def test_changed_parquet_files_are_decoded_again(parquet):
    write_parquet(parquet / "all.parquet", [png((1, 1, 1))] * 3)
    assert load(str(parquet), "train").pixels.unique().tolist() == [1]
    write_parquet(parquet / "all.parquet", [png((2, 2, 2), (7, 7))] * 3)
    assert load(str(parquet), "train").pixels.unique().tolist() == [2]


def test_broken_images_of_the_hub_are_skipped_with_their_labels(parquet):
    pictures = [png((1, 1, 1)), b"no image", None, png((4, 4, 4)), png((5, 5, 5))]
    write_parquet(parquet / "train.parquet", pictures, label=["a", "b", "c", "d", "e"])
    write_parquet(parquet / "test.parquet", pictures[:1], label=[None])
    with pytest.warns(UserWarning, match="skipped") as caught:
        train = load(str(parquet), "train")
    said = [str(each.message) for each in caught]
    assert len(said) == 2
    assert "no image can be read of b, c, which stay classes" in said[0]
    assert "2 skipped: not a readable image: 2" in said[1]
    assert "repository, image 1: format not recognised" in said[1]
    assert train.pixels[:, 0, 0, 0].tolist() == [1, 4, 5]
    assert [train.classes[label] for label in train.labels] == ["a", "d", "e"]
    with pytest.raises(DataError, match="image 1: format not recognised"):
        load(str(parquet), "train", strict=True)
    with pytest.warns(UserWarning, match="1 of 1 labels are missing, so none is used"):
        assert load(str(parquet), "test").labels is None


def test_sets_of_the_hub_that_need_a_choice_or_cannot_be_used(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))
    rows = hub_rows([1, 2, 3], [0, 1, 0])
    two = rows.rename_column("label", "fine").add_column("other", [0, 1, 1])
    two = two.cast_column("other", datasets.ClassLabel(names=["c", "d"]))
    parts = {
        "an/ambiguous": {"train": two},
        "an/unsplit": {"left": rows, "right": rows},
        "an/empty": {"train": rows.select([]), "test": rows},
        "an/imageless": {"train": rows.remove_columns("image")},
        "a/single": {"test": rows},
    }
    monkeypatch.setattr(datasets, "load_dataset", parts.__getitem__)
    for name, message in {
        "an/ambiguous": "which column is the label, fine or other",
        "an/unsplit": "no split train; its splits are left, right",
        "an/empty": "the train split is empty",
        "an/imageless": "no column of images; its columns are label",
    }.items():
        with pytest.raises(DataError, match=f"{name}: {message}"):
            load(name, "train")
    assert load("an/ambiguous", "train", label="other").classes == ("c", "d")
    assert [len(load("hf:a/single", split)) for split in ("train", "test")] == [2, 1]


def test_a_set_with_configurations_names_them_and_takes_one(parquet):
    text = "---\nconfigs:\n"
    for name, value in (("small", 5), ("large", 9)):
        write_parquet(parquet / f"{name}.parquet", [png((value, 0, 0))] * 3)
        text += f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n"
    (parquet / "README.md").write_text(text + "---\n")
    for config, message in [
        (None, "it has several configurations; choose by --data.config one of (small, large|large, small)"),
        ("huge", "no configuration 'huge'; choose by --data.config one of (small, large|large, small)"),
    ]:
        with pytest.raises(DataError, match=message):
            load(str(parquet), "train", config=config)
    assert load(str(parquet), "train", config="large").pixels[:, 0, 0, 0].tolist() == [9, 9]
    module = TrainingData(DataOptions(str(parquet), batch_size=2, config="small"))
    assert module.train.pixels[:, 0, 0, 0].tolist() == [5, 5]


def test_the_splits_of_the_hub_are_those_of_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FALIGN_CACHE", str(tmp_path))
    parts = {"Train": hub_rows([1, 2]), "extra": hub_rows([3]), "VAL": hub_rows([4])}
    monkeypatch.setattr(datasets, "load_dataset", {"a/set": parts}.__getitem__)
    with pytest.warns(UserWarning, match="the 1 images of the split extra are not used"):
        assert load("a/set", "train").pixels[:, 0, 0, 0].tolist() == [1, 2]
    with pytest.warns(UserWarning, match="split extra"):
        assert load("a/set", "test").pixels[:, 0, 0, 0].tolist() == [4]
