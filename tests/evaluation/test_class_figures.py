"""The figures of a classifier, against scikit-learn's, and what is said of test images that it knows."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

from unlike.errors import DataError
from unlike.evaluation.classes import classes_json, evaluate_classifier, measure_classes, validate_classifier
from unlike.evaluation.metrics import wilson
from unlike.records import Predictions, Sample, Unreadable

CLASSES = ("cat", "dog", "eel")


class Known:
    """What an evaluation asks of a classifier."""

    classes_ = CLASSES
    confusion_ = np.diag([3, 2, 1])
    digests_ = np.array([5, 7], np.uint64)


def predict(true, named, unreadable=()):
    samples = [Sample(f"{number}.png", kind=CLASSES[code]) for number, code in enumerate(true)]
    return Predictions(samples, CLASSES, np.eye(3)[named], np.arange(len(true), dtype=np.uint64), unreadable)


def test_figures_agree_with_scikit_learn(rng):
    true, named = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    found = evaluate_classifier(Known(), predict(true, named))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(true, named))
    assert found.accuracy == wilson(accuracy_score(true, named), 60)
    assert found.accuracy_largest_class.value == np.bincount(true).max() / 60
    for figures, reference in ((found.recall, recall_score), (found.precision, precision_score)):
        values = [figures[name].value for name in CLASSES]
        np.testing.assert_allclose(values, reference(true, named, average=None))
    assert found.part == "test"
    assert found.leaked == ("5.png", "7.png")


def test_a_class_without_images_or_without_mention_has_no_figure():
    found = measure_classes(CLASSES, np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]]), "test")
    assert set(found.recall) == {"cat"}
    assert set(found.precision) == {"cat", "dog"}
    written = json.loads(json.dumps(classes_json(found), allow_nan=False))
    assert written["classes"]["eel"] == {"images": 0}
    assert written["accuracy"] == {"value": 2 / 3, "low": found.accuracy.low, "high": found.accuracy.high}
    assert written["confusion"]["images"][0] == [2, 1, 0]


def test_validation_is_called_so():
    found = validate_classifier(Known())
    assert found.part == "validation"
    assert found.accuracy.value == 1
    assert classes_json(found)["part"] == "validation"


def test_unreadable_images_are_kept_apart_and_strange_classes_refused():
    found = evaluate_classifier(Known(), predict([0, 1], [0, 0], (Unreadable("x.png", "is empty"),)))
    assert classes_json(found)["unreadable"] == [{"id": "x.png", "reason": "is empty"}]
    assert found.confusion.sum() == 2
    stranger = Predictions([Sample("a", kind="fox")], CLASSES, np.eye(3)[:1], np.zeros(1, np.uint64))
    with pytest.raises(DataError, match="a: is of class 'fox'; the known classes are cat, dog, eel"):
        evaluate_classifier(Known(), stranger)
