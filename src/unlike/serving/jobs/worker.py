"""The process of one job: `python -m unlike.serving.jobs.worker`, which the service starts and which ends when the service does."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import traceback
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from unlike.errors import UnlikeError
from unlike.serving.database.engine import Database, open_database
from unlike.serving.jobs import store
from unlike.serving.jobs.orders import Order, clear_shop
from unlike.serving.jobs.work import KINDS, CancelledError, read_work

NICE = 10  # a fit takes what scoring leaves
ORPHANED = 3  # exit code of a process whose service is gone


def run(order: Order) -> None:
    """Do a job, and write down how it ended."""
    database = open_database(order.url)
    folder = Path(order.folder)
    try:
        state, message, result = _do(database, folder, order)
        with database.sessions.begin() as session:
            store.end(session, order.job_id, state, message, **result)
        clear_shop(folder, order.job_id)
    finally:
        database.close()


def _do(database: Database, folder: Path, order: Order) -> tuple[str, str, dict[str, object]]:
    """State, sentence and other columns of a job that has ended."""
    result: dict[str, object] = {}
    try:
        work, kind = read_work(database, folder, None if order.images is None else Path(order.images), order.job_id)
        try:
            message = KINDS[kind](work)
        finally:
            result = {"result": work.result}
    except CancelledError:
        return store.INTERRUPTED, "cancelled", result
    except UnlikeError as error:
        return store.FAILED, str(error).replace(f"{folder}/", ""), result
    except MemoryError:
        return store.FAILED, "there is not enough memory; fit on fewer images, or at a smaller size", result
    except SQLAlchemyError:
        raise  # it cannot be written down either; the service sees that the process ended
    except Exception as error:  # noqa: BLE001 - told in a word; the log of the service has the rest
        traceback.print_exc()
        return (
            store.FAILED,
            f"an error that nobody expected ({type(error).__name__}); the log of the service says where",
            result,
        )
    return store.DONE, message, {**result, "progress": 1.0}


def _watch_service() -> None:
    """End when the pipe from the service does, however that came to its end."""
    while sys.stdin.buffer.read(65_536):
        pass
    os._exit(ORPHANED)


def main() -> None:
    """Take the order from the pipe, and do it."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    order = Order(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_watch_service, daemon=True).start()
    run(order)


if __name__ == "__main__":
    main()
