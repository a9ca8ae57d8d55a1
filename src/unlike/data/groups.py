"""Which images belong together, as the user says it: by the folder they lie in, by a part of their names, or one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from unlike.data.layouts.wording import plural
from unlike.data.source import Source
from unlike.errors import ConfigError, DataError
from unlike.records import Sample

FOLDER = "folder"  # in the place of a pattern: who lies in one folder belongs together


def group_samples(source: Source, group_by: str | Sequence[str]) -> Source:
    """The same images, each told its group: by FOLDER, by a regular expression over its id, or one name for each image.

    Of a pattern with brackets, what the first ones hold names the group, or else all that it matches. An image that it does
    not match, or whose name of a group is empty, belongs to itself.

    >>> import numpy as np
    >>> from unlike.data.source import open_source
    >>> source = open_source(np.zeros((3, 8, 8), np.uint8))
    >>> [sample.group for sample in group_samples(source, ["a", "", "a"]).samples]
    ['a', '', 'a']
    """
    names = _names_by(source.samples, group_by) if isinstance(group_by, str) else [str(name) for name in group_by]
    if len(names) != len(source):
        raise DataError(
            f"{source.name}: expected the name of a group for each of {plural(len(source), 'image')}, came {len(names):,}"
        )
    if not any(names):
        example = source.samples[0].id
        raise DataError(
            f"{source.name}: no image has a group by {group_by!r}, such as {example}; expected 'folder', or a regular expression "
            "that finds the group in what images are called"
        )
    return source.with_samples(
        [replace(sample, group=name) for sample, name in zip(source.samples, names, strict=True)]
    )


def _names_by(samples: Sequence[Sample], group_by: str) -> list[str]:
    if group_by == FOLDER:
        return [sample.id.rpartition("/")[0] for sample in samples]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ConfigError(
            f"decision.group_by: expected 'folder', or a regular expression such as 'part([0-9]+)', came {group_by!r} ({error})"
        ) from None
    found = [pattern.search(sample.id) for sample in samples]
    return ["" if one is None else (one.group(1) or "") if pattern.groups else one.group(0) for one in found]
