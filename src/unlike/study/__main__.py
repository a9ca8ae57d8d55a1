"""One worker of a study, as `unlike study --workers` starts it: FOLDER FAMILY DEVICE, the database in the environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from unlike.errors import UnlikeError
from unlike.study.run import open_ledger, read_folder_plan, work
from unlike.study.workers import Worker


def main() -> int:
    """Work until nothing is left, or until whoever started us is gone."""
    folder, family, device = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    head = os.getppid()
    try:
        plan = read_folder_plan(folder)
        ledger = open_ledger(plan, os.environ["UNLIKE_STUDY_STORAGE"])
        worker = Worker(folder, family)
        try:
            work(plan, ledger, worker, device, lambda *_: None, wanted=lambda: os.getppid() == head)
        finally:
            worker.close()
    except UnlikeError as error:
        print(f"unlike: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
