"""Names that can be chosen, and the classes or functions behind them: ours, and those of other installed packages."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, cast

from unlike.errors import ConfigError

OURS = "unlike"  # the package of a built-in
Kind_co = TypeVar("Kind_co", covariant=True)


class Registry(Mapping[str, Kind_co]):
    """Classes, or functions, by name, in the order of their names; each is imported when it is asked for, and not before.

    `places` says where ours are, as "module:Class". Another package, a plug-in, adds its own by entry points of `group`.
    Nothing of it is imported to know its names. A name that two packages claim is nobody's: asking for it is an error.

    >>> colours = Registry("colour", "example.colours", {"red": "fractions:Fraction", "blue": "no.such.module:Blue"})
    >>> list(colours), "blue" in colours
    (['blue', 'red'], True)
    >>> colours["red"].__name__
    'Fraction'
    """

    def __init__(self, what: str, group: str, places: Mapping[str, str]) -> None:
        self.what = what  # what a name is called in messages: "model"
        self.group = group  # the entry points that join
        self._places = dict(places)

    def __getitem__(self, name: str) -> Kind_co:
        plug_ins = self._plug_ins.get(name, ())
        if name in self._places and not plug_ins:
            return cast("Kind_co", EntryPoint(name, self._places[name], self.group).load())
        if not plug_ins:
            raise KeyError(name)
        self._check_unclaimed(name)
        (plug_in,) = plug_ins
        try:
            return cast("Kind_co", plug_in.load())
        except Exception as error:  # importing a stranger's module can fail in any way
            raise ConfigError(
                f"{self.what} {name!r} of package {_package(plug_in)} cannot be imported from {plug_in.value} "
                f"({type(error).__name__}: {' '.join(str(error).split())}); repair or remove that package, or choose another {self.what}"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._places, *self._plug_ins}))

    def __len__(self) -> int:
        return len({*self._places, *self._plug_ins})

    def __contains__(self, name: object) -> bool:  # Mapping's own would import
        return name in self._places or name in self._plug_ins

    def __repr__(self) -> str:
        return f"Registry({self.what!r}, {self.group!r}: {', '.join(self)})"

    def package(self, name: str) -> str:
        """The package that brings a name; a ConfigError where there is more than one.

        >>> Registry("colour", "example.colours", {"red": "fractions:Fraction"}).package("red")
        'unlike'
        """
        self._check_unclaimed(name)
        return next(iter(self._packages(name)))

    def _packages(self, name: str) -> list[str]:
        return [OURS] * (name in self._places) + [_package(plug_in) for plug_in in self._plug_ins.get(name, ())]

    def _check_unclaimed(self, name: str) -> None:
        packages = self._packages(name)
        if not packages:
            raise KeyError(name)
        if len(packages) > 1:
            raise ConfigError(
                f"{self.what} {name!r}: expected one package that brings it, came {' and '.join(packages)}; "
                "remove a package, or have it choose another name"
            )

    @property
    def _plug_ins(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _find_plug_ins(self.group)


@functools.cache
def _find_plug_ins(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name; one for each package that has it. Read once: installing needs a new start."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(entry_points(group=group), key=_package):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def _package(plug_in: EntryPoint) -> str:
    return plug_in.dist.name if plug_in.dist is not None else plug_in.value
