"""Any set of tensorflow-datasets: prepared here by its real builders, then read."""

import io
import re
import socket
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from fedasync_jax.data import load_dataset, load_tfds
from fedasync_jax.data.settings import DataSettings
from fedasync_jax.data.tfds import fetch
from fedasync_jax.experiment.build import build_experiment
from fedasync_jax.experiment.presets import make_settings

pytestmark = pytest.mark.filterwarnings("ignore")


def _fails(line: str):
    """Expect a ValueError with exactly this line."""
    return pytest.raises(ValueError, match=f"^{re.escape(line)}$")


def prepare(folder: Path, name: str, counts: dict[str, int], make) -> Path:
    """Let the real builder write examples of ours, ``make(split, i)``."""
    tfds: Any = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("PIL.Image")
    builder = tfds.builder(name, data_dir=folder, file_format="array_record")

    def examples(split, count):
        for i in range(count):
            yield f"{split}_{i:05d}", make(split, i)

    builder._split_generators = lambda dl_manager, *more: {
        split: examples(split, count) for split, count in counts.items()
    }
    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=offline)
    assert "tensorflow" not in sys.modules
    return folder


def png(pixels):
    """Return an image as a file; with arrays, the builders want TensorFlow."""
    from PIL import Image

    stored = io.BytesIO()
    mode = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    Image.fromarray(mode).save(stored, "png")
    return stored.getvalue()


def image(split, i):
    return {"image": png(np.full((28, 28, 1), 5 * i, np.uint8)), "label": i % 10}


def test_images(tmp_path):
    folder = prepare(tmp_path, "fashion_mnist", {"train": 20, "test": 10}, image)
    data = load_dataset("tfds:fashion_mnist", folder)
    assert data.x_train.shape == (20, 28, 28, 1) and len(data.x_test) == 10
    assert data.x_train.dtype == np.uint8 and data.num_classes == 10
    np.testing.assert_array_equal(data.x_train[:, 9, 9, 0] // 5 % 10, data.y_train)
    assert data.mean_image is not None
    np.testing.assert_allclose(data.mean_image, 5 * 9.5)


def test_one_config_of_several(tmp_path):
    counts = {"train": 6, "test": 4}
    prepare(tmp_path, "emnist/letters", counts, image)
    for name in ("emnist", "emnist/letters"):
        data = load_tfds(name, tmp_path)
        assert data.num_classes == 37 and len(data.y_train) == 6
    prepare(tmp_path, "emnist/digits", counts, image)
    with _fails(
        f"{tmp_path}: emnist must be one of emnist/digits, emnist/letters, got no "
        "config"
    ):
        load_tfds("emnist", tmp_path)
    assert load_tfds("emnist/digits", tmp_path).num_classes == 10


def test_texts_become_counts_of_words(tmp_path):
    def review(split, i):
        return {"text": ("awful film", "a lovely film")[i % 2], "label": i % 2}

    folder = prepare(tmp_path, "imdb_reviews", {"train": 8, "test": 2}, review)
    data = load_tfds("imdb_reviews", folder)
    assert data.x_train.shape == (8, 2048) and data.x_train.dtype == np.float32
    assert data.mean_image is None
    assert np.count_nonzero(data.x_train, axis=1)[data.y_train == 1].tolist() == [3] * 4


def make_numbers(folder, supervised_keys):
    """Prepare a set of numbers, of the split train alone, by a builder of ours."""
    tfds: Any = pytest.importorskip("tensorflow_datasets")

    with tfds.core.registered.skip_registration():

        class Numbers(tfds.core.GeneratorBasedBuilder):
            pkg_dir_path = folder
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {
                    "features": tfds.features.Tensor(shape=(4,), dtype=np.float64),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
                return self.dataset_info_from_configs(
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=supervised_keys,
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for i in range(20):
                    yield i, {"features": np.full(4, i, np.float64), "label": i % 2}

    builder = Numbers(data_dir=folder, file_format="array_record")
    offline = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=offline)
    return folder


def test_numbers_and_a_set_without_a_test_split(tmp_path):
    folder = make_numbers(tmp_path, ("features", "label"))
    one, two = load_tfds("numbers", folder), load_tfds("numbers", folder)
    assert one.x_train.shape == (16, 4) and one.x_test.shape == (4, 4)
    assert one.x_train.dtype == np.float32 and one.mean_image is None
    np.testing.assert_array_equal(one.x_test, two.x_test)
    whole = np.concatenate([one.x_train, one.x_test])[:, 0]
    assert sorted(whole) == list(range(20))
    np.testing.assert_array_equal(one.x_train[:, 0] % 2, one.y_train)


@pytest.mark.parametrize("keys", [None, ("label", "features")])
def test_a_set_without_a_class_label_is_one_line(tmp_path, keys):
    folder = make_numbers(tmp_path, keys)
    with _fails(
        f"{folder / 'numbers' / '1.0.0'}: must name an input and a class label to be "
        "learned, got features, label"
    ):
        load_tfds("numbers", folder)


def test_an_experiment_by_its_name(tmp_path):
    folder = prepare(tmp_path, "fashion_mnist", {"train": 40, "test": 10}, image)
    settings = make_settings(
        dataset="tfds:fashion_mnist",
        data_path=folder,
        num_clients=4,
        partition="iid",
        concurrency=2,
        clients_per_round=2,
        num_updates=4,
    )
    workload = build_experiment(settings).workload
    metrics = workload.evaluate(workload.model.init(jax.random.key(0)))
    assert np.isfinite(float(metrics["loss"]))


def test_images_of_many_shapes_are_one_line(tmp_path):
    def cat(split, i):
        picture = png(np.zeros((20 + i, 40, 3), np.uint8))
        return {"image": picture, "image/filename": f"{i}.png", "label": i % 2}

    folder = prepare(tmp_path, "cats_vs_dogs", {"train": 4}, cat)
    with pytest.raises(ValueError) as error:
        load_tfds("cats_vs_dogs", folder)
    line = str(error.value)
    assert line.startswith(f"{folder / 'cats_vs_dogs'}/")
    assert line.endswith(
        "image must hold numbers of one shape, got uint8 of shape (None, None, 3)"
    )


def test_what_does_not_fit_into_memory_is_one_line(tmp_path, monkeypatch):
    folder = prepare(tmp_path, "fashion_mnist", {"train": 20, "test": 10}, image)
    monkeypatch.setattr(
        "fedasync_jax.parts.memory.physical_memory", lambda: 28 * 28 * 29
    )
    with pytest.raises(ValueError) as error:
        load_tfds("fashion_mnist", folder)
    assert "dataset must fit into memory, 0.0 GB, got 'tfds:fashion_mnist'" in str(
        error.value
    )


@pytest.fixture
def offline(monkeypatch):
    """Let every connection be refused at once, and the packages be there."""
    pytest.importorskip("tensorflow_datasets")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(fetch, "_PACKAGES", ("tensorflow_datasets",))


@pytest.mark.usefixtures("offline")
def test_an_unknown_name_is_answered_by_the_nearest(tmp_path):
    with pytest.raises(ValueError) as error:
        load_tfds("fashion_mnst", tmp_path)
    assert str(error.value).startswith(
        "dataset must be tfds: and a name of tensorflow-datasets, got "
        "'tfds:fashion_mnst'; nearest: fashion_mnist"
    )
    with pytest.raises(ValueError, match="got 'tfds:emnist/leters'; nearest: letters"):
        load_tfds("emnist/leters", tmp_path)


@pytest.mark.usefixtures("offline")
def test_no_network_is_told_at_once(tmp_path):
    with _fails(
        f"tfds:cifar100: nothing prepared in {tmp_path} and www.cs.toronto.edu cannot "
        "be reached; data_path (--data-path) must name a folder that holds "
        "cifar100/<version> of tensorflow-datasets"
    ):
        load_tfds("cifar100", tmp_path)


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError) as error:
        load_tfds("cifar100", tmp_path)
    assert "or install the extra 'tfds-prepare'" in str(error.value)


@pytest.mark.parametrize("name", ["", "../x", "a/b/c", "Caps", "a b"])
def test_what_is_no_name_is_one_line(name):
    with _fails(
        "dataset must be tfds:NAME or tfds:NAME/CONFIG of tensorflow-datasets, got "
        f"'tfds:{name}'"
    ):
        load_tfds(name)


def test_settings_take_the_family():
    assert not DataSettings(dataset="tfds:fashion_mnist").is_text
    with _fails(
        "dataset must be one of digits, npz, table, leaf, cifar10, synthetic, "
        "wikitext2, shakespeare, leaf-text, tfds:NAME, got 'mnist'"
    ):
        DataSettings(dataset="mnist")
