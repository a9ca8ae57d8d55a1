"""A detector's encoder that learned to name classes: accuracy, determinism, storage, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import signal
import subprocess
import sys
import tomllib
from functools import partial

import cv2
import numpy as np
import pytest
import tomli_w
import torch

from conftest import digits, stripes
from unlike import Classifier, Detector
from unlike.artifacts import CHECKSUMS
from unlike.errors import ArtifactError, ConfigError, DataError, NotFittedError, OutputError
from unlike.training import Checkpoint

FILES = ("classifier.toml", "weights.safetensors", "evidence.npz")
SMALL = {"finetune": {"head_width": 64}, "training": {"learning_rate": 3e-3, "batch_size": 16}}


@pytest.fixture(scope="module")
def detector():
    """Fitted on digits, of which it knows nothing but how they look."""
    settings = {"model": {"widths": [8, 16]}, "training": {"learning_rate": 5e-3}}
    images, _ = digits(0, 300)
    return Detector(model="conv", size=16, epochs=4, false_alarms=0.1, device="cpu", settings=settings).fit(images)


def make(detector, epochs=2, seed=0, **finetune):
    settings = {**SMALL, "finetune": {**SMALL["finetune"], **finetune}}
    return Classifier.from_detector(detector, epochs=epochs, seed=seed, device="cpu", settings=settings)


@pytest.fixture(scope="module")
def classifier(detector):
    return make(detector, epochs=40).fit(*digits(300, 500))


@pytest.fixture
def folder(classifier, tmp_path):
    classifier.save(tmp_path / "digits.classifier")
    return tmp_path / "digits.classifier"


def accuracy(classifier, images, labels):
    return np.mean([int(name) for name in classifier.predict(images).names] == labels)


def encoder(model):
    return {name: value for name, value in model.state_dict().items() if name.startswith("encoder")}


def test_digits_are_told_apart(classifier):
    assert classifier.classes_ == tuple("0123456789")
    assert accuracy(classifier, *digits(500, 900)) > 0.6  # chance is 0.1
    assert classifier.confusion_.sum() == 41
    assert classifier.confusion_.sum(axis=1).min() >= 2  # of each class a fifth validates
    assert classifier.describe()["fitted"]["images"] == {"train": 159, "validation": 41, "copies": 0, "unreadable": 0}
    assert classifier.history_[-1]["train"] < classifier.history_[0]["train"]
    assert "fine-tuned on the array" in repr(classifier)


def test_pages_of_a_file_are_images_for_a_classifier_as_for_its_detector(classifier, tmp_path):
    images, _ = digits(500, 503)
    cv2.imwritemulti(str(tmp_path / "pages.tif"), list(images))
    found = classifier.predict(tmp_path)
    assert [sample.id for sample in found.samples] == ["pages.tif#1", "pages.tif#2", "pages.tif#3"]
    assert found.names == classifier.predict(images).names


def test_words_name_classes_and_their_order_is_the_alphabets(detector):
    images, labels = digits(300, 400)
    words = np.array(["round" if label in (0, 6, 8, 9) else "angular" for label in labels])
    found = make(detector, epochs=30).fit(images, words)
    assert found.classes_ == ("angular", "round")
    predictions = found.predict(images)
    assert np.mean(np.array(predictions.names) == words) > 0.8
    np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert predictions.ids[:2] == ("0", "1")


def test_the_encoder_learns_unless_it_is_frozen_and_the_detector_stays_as_it_is(detector):
    before = {name: value.clone() for name, value in detector.fitted_.pipeline.model.state_dict().items()}
    images, labels = digits(300, 400)
    trained, frozen = make(detector).fit(images, labels), make(detector, freeze_encoder=True).fit(images, labels)
    same = [bool((value == before[name]).all()) for name, value in encoder(trained._finetuned.model.model).items()]
    assert not any(same)
    for name, value in frozen._finetuned.model.model.state_dict().items():
        assert (value == before[name]).all()
    for name, value in detector.fitted_.pipeline.model.state_dict().items():
        assert (value == before[name]).all()


def test_scratch_starts_from_other_weights(detector):
    images, _ = digits(300, 330)
    start = make(detector, scratch=True)._build(10).model.state_dict()
    assert any(
        not bool((value == start[name]).all()) for name, value in detector.fitted_.pipeline.model.state_dict().items()
    )
    found = make(detector, scratch=True, epochs=1).fit(images, np.arange(30) % 2)
    assert found.describe()["finetune"]["scratch"] is True


def test_two_runs_are_the_same_and_another_seed_is_not(detector):
    images, labels = digits(300, 360)
    labels = labels % 2
    first, again, other = (make(detector, seed=seed).fit(images, labels) for seed in (0, 0, 1))
    probabilities = [found.predict(images).probabilities for found in (first, again, other)]
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert not np.array_equal(probabilities[0], probabilities[2])


@pytest.mark.slow
def test_a_killed_fine_tuning_goes_on_to_the_same_classifier(detector, tmp_path):
    images, labels = digits(300, 400)
    np.savez(tmp_path / "labelled.npz", images=images, labels=labels)
    detector.save(tmp_path / "d.unlike")
    code = f"""
import functools, math, os, signal
import numpy as np
from unlike import Classifier, Detector
from unlike.detector import classifier
from unlike.training import Checkpoint, checkpoints

def kill(stage, done, total, figures):
    if (stage, done) == ("train", 3):
        os.kill(os.getpid(), signal.SIGKILL)

classifier.Checkpoint, checkpoints.COST_SHARE = functools.partial(Checkpoint, wait_seconds=0), math.inf
found = np.load({str(tmp_path / "labelled.npz")!r})
detector = Detector.load({str(tmp_path / "d.unlike")!r}, "cpu")
made = Classifier.from_detector(detector, epochs=6, device="cpu", settings={SMALL!r})
made.fit(found["images"], found["labels"], checkpoint={str(tmp_path / "state")!r}, notify=kill)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    seen = []
    resumed = make(detector, epochs=6).fit(
        images,
        labels,
        checkpoint=tmp_path / "state",
        resume=True,
        notify=lambda stage, done, *_: seen.append((stage, done)),
    )
    assert [done for stage, done in seen if stage == "train"] == [4, 5, 6]
    whole = make(detector, epochs=6).fit(images, labels)
    assert resumed.history_ == whole.history_
    for name, value in whole.model_.state_dict().items():
        assert (value == resumed.model_.state_dict()[name]).all(), name


def test_a_state_is_of_one_encoder_and_of_one_set_of_labels(detector, tmp_path, monkeypatch):
    images, labels = digits(300, 340)
    labels = labels % 2
    monkeypatch.setattr("unlike.detector.classifier.Checkpoint", partial(Checkpoint, wait_seconds=0))
    make(detector).fit(images, labels, checkpoint=tmp_path / "state")
    other = copy.deepcopy(detector)
    with torch.no_grad():
        next(other.fitted_.pipeline.model.parameters()).mul_(1.5)
    changed = labels.copy()
    changed[0] = 1 - changed[0]
    for maker, words in ((other, labels), (detector, changed)):
        with pytest.raises(ConfigError, match="belongs to a fit with other settings, images or versions"):
            make(maker).fit(images, words, checkpoint=tmp_path / "state", resume=True)
    make(detector).fit(images, labels, checkpoint=tmp_path / "state", resume=True)


def test_whether_the_encoder_has_learned_is_known(detector, tmp_path):
    images, labels = digits(300, 340)
    for freeze in (False, True):
        found = make(detector, epochs=1, freeze_encoder=freeze).fit(images, labels % 2)
        assert found.frozen_ is freeze
        found.save(tmp_path / "c")
        assert Classifier.load(tmp_path / "c").frozen_ is freeze


def test_class_weights_act_on_unbalanced_data(detector):
    images, labels = digits(300, 500)
    rare = np.flatnonzero(labels == 1)[:4]
    rows = np.sort(np.concatenate([rare, np.flatnonzero(labels == 0), np.flatnonzero(labels == 7)]))
    plain, balanced = (
        make(detector, class_weights=mode).fit(images[rows], labels[rows]) for mode in ("none", "balanced")
    )
    weights = balanced._finetuned.model.class_weights.tolist()
    assert plain._finetuned.model.class_weights.tolist() == [1, 1, 1]
    assert weights[1] > 3 > 1.2 > weights[0]
    test, truth = digits(500, 900)
    ones = test[truth == 1]
    chances = [found.predict(ones).probabilities[:, 1].mean() for found in (plain, balanced)]
    assert chances[1] > chances[0]


def test_predictions_do_not_depend_on_the_batch(classifier):
    images, _ = digits(500, 570)
    whole = classifier.predict(images).probabilities
    alone = np.concatenate([classifier.predict(images[row : row + 1]).probabilities for row in range(0, 70, 10)])
    np.testing.assert_allclose(alone, whole[::10], rtol=1e-5, atol=1e-7)
    parts = np.concatenate([batch.probabilities for batch in classifier.stream(images, batch_size=32)])
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-7)


def test_copies_teach_once_and_are_never_on_both_sides(detector):
    images, labels = digits(300, 340)
    labels = labels % 2
    found = make(detector, epochs=1).fit(np.concatenate([images, images]), np.concatenate([labels, labels]))
    assert found.describe()["fitted"]["images"] == {"train": 32, "validation": 8, "copies": 40, "unreadable": 0}


def test_floats_are_seen_as_the_detector_sees_them():
    """A labelled set that happens to be dark must not be brightened: black and white are the detector's."""
    images = stripes(40, size=16, channels=1)[..., 0].astype(np.float32) / 255 * 2 - 1
    detector = Detector(model="conv", epochs=1, false_alarms=0.1, device="cpu").fit(images)
    found = make(detector, epochs=1).fit(np.abs(images), np.arange(40) % 2)
    assert detector.fitted_.spec.value_range == (-1.0, 1.0)
    assert found.spec_.value_range == (-1.0, 1.0)
    far = np.concatenate([images[:2], 3e38 * np.sign(images[2:3])])
    with np.errstate(all="ignore"):
        predictions = found.predict(far)
    assert predictions.ids == ("0", "1")
    assert "probabilities are not finite" in predictions.unreadable[0].reason


def find(images):
    from unlike.data.source import open_source

    return open_source(images)


def test_loaded_is_the_same_to_the_last_bit(classifier, folder):
    loaded = Classifier.load(folder)
    images, _ = digits(500, 520)
    np.testing.assert_array_equal(loaded.predict(images).probabilities, classifier.predict(images).probabilities)
    assert loaded.describe() == classifier.describe()
    assert loaded.history_ == classifier.history_
    assert loaded.settings == classifier.settings
    assert loaded.spec_ == classifier.spec_
    np.testing.assert_array_equal(loaded.confusion_, classifier.confusion_)
    np.testing.assert_array_equal(loaded.digests_, classifier.digests_)
    with pytest.raises(ConfigError, match="a classifier that was loaded is not fitted again; start anew"):
        loaded.fit(images, np.arange(20) % 2)


def test_there_is_no_pickle_in_it_and_saved_again_it_has_the_same_bytes(classifier, folder, tmp_path):
    assert {path.name for path in folder.iterdir()} == {*FILES, CHECKSUMS}
    Classifier.load(folder).save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_damage_is_refused(folder, name, damage):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "lose":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=f"{name} is (not what was written|missing: this is no classifier)"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("finetune", {"head_width": 3}, "its parts do not fit together .*; make the classifier again"),
        ("finetune", {"hat": 3}, "classifier.toml does not suit this version"),
        ("detector", {"model": {"name": "from-the-future"}}, "unknown model 'from-the-future'"),
        ("fitted", {"classes": ["a"]}, "its parts do not fit together"),
    ],
)
def test_parts_that_do_not_fit_are_refused(folder, section, change, message):
    facts = tomllib.loads((folder / "classifier.toml").read_text())
    facts[section] |= change
    (folder / "classifier.toml").write_text(tomli_w.dumps(facts))
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES]
    (folder / CHECKSUMS).write_text("".join(lines))
    with pytest.raises(ArtifactError, match=message):
        Classifier.load(folder)


def test_a_detector_and_a_classifier_are_never_taken_for_each_other(detector, classifier, folder, tmp_path):
    detector.save(tmp_path / "d.unlike")
    with pytest.raises(ArtifactError, match="is a detector; expected a classifier, which `unlike finetune"):
        Classifier.load(tmp_path / "d.unlike")
    with pytest.raises(ArtifactError, match="is a classifier; expected a detector, which `unlike fit IMAGES` makes"):
        Detector.load(folder)
    with pytest.raises(OutputError, match="is there already and is no classifier"):
        classifier.save(tmp_path / "d.unlike")
    with pytest.raises(OutputError, match="is there already and is no detector"):
        detector.save(folder)
    with pytest.raises(ArtifactError, match="no classifier here; `unlike finetune DETECTOR LABELLED -o"):
        Classifier.load(tmp_path / "nothing")


def test_what_is_to_be_saved_is_written_whoever_started_the_process(classifier, tmp_path, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    classifier.save(tmp_path / "c")
    assert Classifier.load(tmp_path / "c").classes_ == classifier.classes_


def test_what_cannot_be_learned_from_is_refused(detector):
    images, _ = digits(300, 310)
    with pytest.raises(DataError, match="classes to tell apart are needed, two or more; came one, '0'"):
        make(detector).fit(images, np.zeros(10, int))
    with pytest.raises(DataError, match="every class needs 2 different images or more; True has 1"):
        make(detector).fit(images, np.arange(10) == 3)
    with pytest.raises(DataError, match="10 images need as many labels, came 9"):
        make(detector).fit(images, np.zeros(9, int))
    with pytest.raises(DataError, match="every class needs 2 different images"):  # two, but the same
        make(detector).fit(images[[0, 0, 1, 2]], [1, 1, 2, 2])


def test_what_cannot_be_chosen_is_refused(detector):
    with pytest.raises(ConfigError, match="unknown section 'model'; known: augment, corruption, finetune, training"):
        Classifier.from_detector(detector, settings={"model": {"widths": [3]}})
    with pytest.raises(ConfigError, match=r"unknown setting 'finetune\.dropuot'; did you mean 'finetune\.dropout'"):
        Classifier.from_detector(detector, settings={"finetune": {"dropuot": 0.1}})
    with pytest.raises(ConfigError, match="seed: expected a whole number"):
        Classifier.from_detector(detector, seed=-1)
    with pytest.raises(NotFittedError, match="this detector has not been fitted yet"):
        Classifier.from_detector(Detector())


def test_before_it_is_fine_tuned_it_says_so(detector):
    untaught = make(detector)
    assert "not fine-tuned" in repr(untaught)
    assert "fitted" not in untaught.describe()
    for use in (lambda: untaught.predict(digits(0, 2)[0]), lambda: untaught.save("x"), lambda: untaught.history_):
        with pytest.raises(NotFittedError, match="has not been fine-tuned yet"):
            use()


def test_images_that_cannot_be_read_are_named_and_where_none_can_it_says_so(detector, classifier, tmp_path):
    import cv2

    images, _ = digits(300, 310)
    for number, image in enumerate(images):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{number % 2}/{number}.png"), image)
    (tmp_path / "1/broken.png").write_bytes(b"")
    found = make(detector, epochs=1).fit(tmp_path)
    assert [item.id for item in found.unreadable_] == ["1/broken.png"]
    assert found.describe()["fitted"]["images"]["unreadable"] == 1
    assert len(found.predict(tmp_path).samples) == 10
    with pytest.raises(DataError, match=r"no image of 1 can be classified: broken\.png is empty"):
        classifier.predict(tmp_path / "1/broken.png")
