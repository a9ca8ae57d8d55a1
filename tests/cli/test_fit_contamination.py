"""What the command line takes and says of training images that may not be normal."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.cli.console import Console
from unlike.cli.fit import parse_contamination
from unlike.detector.storage import Distrusted
from unlike.errors import ConfigError


@pytest.mark.parametrize("came", ["much", "x%"])
def test_a_share_that_is_no_number_is_refused_by_the_name_of_its_option(came):
    with pytest.raises(
        ConfigError, match=rf"--contamination: expected none, auto or a share such as 0.01, came '{came}'"
    ):
        parse_contamination(came)


def test_a_fit_names_what_it_distrusts_what_that_promises_and_the_way_out(capsys, tmp_path):
    distrusted = Distrusted(tuple(f"{n}.png" for n in range(25)), np.arange(25.0)[::-1], (), 100)
    Console()._say_distrusted(distrusted, 0.01, tmp_path)
    said = capsys.readouterr().err
    assert "Distrusted 25 of 100 images" in said
    assert "0.png (score 24)" in said
    assert f"and 5 more in {tmp_path / 'detector.toml'}" in said
    assert "up to 26 % of normal images" in said
    assert "--contamination none" in said
    Console()._say_distrusted(Distrusted((), np.empty(0), (), 100), 0.01, tmp_path)
    assert "None of 100 images is so unlike the others" in capsys.readouterr().err
