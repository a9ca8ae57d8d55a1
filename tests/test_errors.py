"""The tree of errors is what its docstring draws, and a suggestion is made where one is near."""

import inspect
import re

import pytest

from unlike import errors
from unlike.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    ExportError,
    ImageError,
    NotFittedError,
    OutputError,
    ServiceError,
    UnknownSettingError,
    UnlikeError,
)

STANDARD = {
    ConfigError: ValueError,
    UnknownSettingError: ValueError,
    DataError: ValueError,
    ImageError: ValueError,
    ArtifactError: ValueError,
    ExportError: ValueError,
    OutputError: OSError,
    ServiceError: RuntimeError,
    NotFittedError: AttributeError,
}


@pytest.mark.parametrize(("error", "standard"), STANDARD.items())
def test_each_error_is_ours_and_a_standard_one(error, standard):
    with pytest.raises(UnlikeError, match=r"^a sentence$"):
        raise error("a sentence")
    assert issubclass(error, standard)


def test_the_drawn_tree_is_the_tree():
    drawn = dict(re.findall(r"(\w+Error) .*\(also an? (\w+)\)", errors.__doc__))
    ours = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, UnlikeError) and kind is not UnlikeError
    }
    assert drawn == {name: STANDARD[kind].__name__ for name, kind in ours.items()}
    assert set(ours.values()) == set(STANDARD)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conv_vae", "unknown model 'conv_vae'; did you mean 'conv'? known: conv, fcn, vae"),
        ("FCN", "unknown model 'FCN'; did you mean 'fcn'? known: conv, fcn, vae"),
        ("xyzzy", "unknown model 'xyzzy'; known: conv, fcn, vae"),
    ],
)
def test_an_unknown_name_comes_with_what_is_known(name, message):
    error = errors.unknown("model", name, ["vae", "fcn", "conv"])
    assert isinstance(error, ConfigError)
    assert str(error) == message
