"""Who runs which run of a study, and what came of it: an Optuna study as a book that many hands write at once.

A run is one trial of the book, and the trial that stands for it is the first that was not given up. Optuna numbers
trials in the order in which they were committed, in any database, so a claim needs no lock: enter a trial, read the
book again, and go only if yours is the one that stands.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unlike.config import need_package
from unlike.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

    Distributions = Mapping[str, BaseDistribution]

RUN, CLAIM, WORKER, BEAT, OUTCOME = "run", "claim", "worker", "beat", "outcome"  # what is noted of a trial
RETRIED = "retried before"  # of the study: failures of trials with a lower number count no more
OPENINGS, PAUSE_SECONDS = 5, 0.5  # two processes that make the same tables at once get in each other's way
LOCK_SECONDS = 60  # that a writer waits for another one, of a SQLite file


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What the book says of a run."""

    run: int
    trial: int
    state: str  # running, done, failed
    worker: str
    beat: int  # rises while its worker lives
    params: Mapping[str, Any]
    outcome: Mapping[str, Any]


class Ledger:
    """The book of one study in a database: read by everybody, written a trial at a time."""

    def __init__(self, url: str, name: str, *, minimise: bool = False) -> None:
        optuna = need_optuna()
        self._trials = optuna.trial
        self.url = url
        self.name = name
        with database_errors(url):
            self._storage = _open_storage(url)
            direction = "minimize" if minimise else "maximize"
            self._study: Study = optuna.create_study(
                storage=self._storage, study_name=name, direction=direction, load_if_exists=True
            )
            self._id = self._storage.get_study_id_from_name(name)

    def read(self) -> dict[int, Entry]:
        """The trial that stands for each run that was begun and not given up."""
        standing: dict[int, Entry] = {}
        retried = self._retried()
        for trial in self._all():
            entry = _read_entry(trial, retried)
            if entry is not None:
                standing.setdefault(entry.run, entry)
        return standing

    def first_params(self) -> dict[int, Mapping[str, Any]]:
        """The settings that were drawn for each run when it was first entered, given up or not."""
        drawn: dict[int, Mapping[str, Any]] = {}
        for trial in self._all():
            drawn.setdefault(int(trial.user_attrs[RUN]), trial.params)
        return drawn

    def interruptions(self, run: int, workers: str) -> int:
        """How often a run was given up whose worker's name begins so."""
        return sum(
            trial.user_attrs[RUN] == run
            and trial.user_attrs[WORKER].startswith(workers)
            and trial.state == self._trials.TrialState.FAIL
            and _read_entry(trial, 0) is None
            for trial in self._all()
        )

    def claim(self, run: int, worker: str, params: Mapping[str, Any], distributions: Distributions) -> Entry | None:
        """Enter a trial for a run; None where another worker was first."""
        claim = secrets.token_hex(8)
        notes = {RUN: run, CLAIM: claim, WORKER: worker, BEAT: 0}
        with database_errors(self.url):
            running = self._trials.TrialState.RUNNING
            trial = self._trials.create_trial(
                state=running, params=dict(params), distributions=dict(distributions), user_attrs=notes
            )
            self._study.add_trial(trial)
            mine = next(trial.number for trial in reversed(self._all()) if trial.user_attrs[CLAIM] == claim)
        entry = self.read()[run]
        if entry.trial == mine:
            return entry
        self._tell(mine)
        return None

    def beat(self, entry: Entry, count: int) -> None:
        """Note that the worker of a run lives."""
        self._storage.set_trial_user_attr(self._trial_id(entry.trial), BEAT, count)

    def finish(self, entry: Entry, outcome: Mapping[str, Any], value: float | None) -> bool:
        """Write down what came of a run; `value` None is a failure. False where it was taken from us meanwhile."""
        plain = json.loads(json.dumps(outcome))
        with database_errors(self.url):
            try:
                self._storage.set_trial_user_attr(self._trial_id(entry.trial), OUTCOME, plain)
            except RuntimeError:  # Optuna's, of a trial that is finished: somebody took us for dead
                return False
        return self._tell(entry.trial, value)

    def give_up(self, entry: Entry) -> None:
        """Strike out a run whose worker is gone, so that another can take it."""
        self._tell(entry.trial)

    def retry(self) -> None:
        """Let the failures so far count no more."""
        with database_errors(self.url):
            self._study.set_user_attr(RETRIED, len(self._all()))

    def _retried(self) -> int:
        with database_errors(self.url):
            return int(self._study.user_attrs.get(RETRIED, 0))

    def _all(self) -> list[FrozenTrial]:
        with database_errors(self.url):
            found = self._study.get_trials(deepcopy=False)
        return sorted((trial for trial in found if RUN in trial.user_attrs), key=lambda trial: trial.number)

    def _tell(self, trial: int, value: float | None = None) -> bool:
        state = self._trials.TrialState.FAIL if value is None else self._trials.TrialState.COMPLETE
        with database_errors(self.url):
            try:
                self._study.tell(trial, value, state=state)
            except (ValueError, RuntimeError):  # it was finished by another hand
                return False
        return True

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)


@contextlib.contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what a database or its driver refuses into one sentence that names the database, without its password."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError(
            f"{hide_password(url)}: is no database URL; expected for instance sqlite:///study.db or postgresql://user@host/name"
        ) from None
    except ImportError as error:
        reason = getattr(error.__cause__, "name", None) or "its driver"
        raise ConfigError(
            f"{hide_password(url)}: the driver of this database is not installed ({reason}); install it with pip"
        ) from None
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
        reason = " ".join(str(cause).split())
        raise OutputError(
            f"{hide_password(url)}: this database cannot be reached or written ({reason}); what is finished is kept in it"
        ) from None


def hide_password(url: str) -> str:
    """A database URL for people to read.

    >>> hide_password("postgresql://me:secret@host/name")
    'postgresql://me:***@host/name'
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)


def need_optuna() -> Any:
    """Optuna, or a ConfigError that says how to get it."""
    need_package("optuna", "study", "studies need Optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_storage(url: str) -> RDBStorage:
    """The database with its tables, which another process may be making at the same moment."""
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import DBAPIError

    options = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {}
    for attempt in range(OPENINGS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what a driver deprecates is no concern of the user's
                return RDBStorage(url, engine_kwargs=options)
        except DBAPIError:  # of the many errors of many databases, none says alone that another process was first
            if attempt == OPENINGS - 1:
                raise
            time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def _read_entry(trial: FrozenTrial, retried: int) -> Entry | None:
    """What a trial says of its run; None where it was given up, or failed before all failures were to be retried."""
    notes = trial.user_attrs
    outcome = notes.get(OUTCOME, {})
    state = {"RUNNING": "running", "COMPLETE": "done", "FAIL": "failed"}.get(trial.state.name)
    if state == "failed" and (not outcome.get("error") or trial.number < retried):
        return None
    if state is None:
        return None
    return Entry(int(notes[RUN]), trial.number, state, str(notes[WORKER]), int(notes[BEAT]), trial.params, outcome)
