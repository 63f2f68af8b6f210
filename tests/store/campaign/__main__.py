"""The campaign's command line; see the package's docstring."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run what the arguments say; 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.store.campaign")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kills", type=int, default=0, help="processes to kill")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after so long at the latest")
    parser.add_argument("--s3", action="store_true", help="on a real S3 server instead of a local disk")
    parser.add_argument("--damage", type=int, default=0, help="files to damage, one at a time")
    parser.add_argument(
        "--whole-looks", action="store_true", help="a reader must see one state in all tables"
    )
    parser.add_argument("--keep", type=Path, help="where stores with a failure are copied to")
    parser.add_argument("--journal", type=Path, help="where the journal goes (default: a temporary file)")
    arguments = parser.parse_args()

    from tests.store.campaign.disturbances import disk

    os.umask(0o022)
    journal = arguments.journal or Path(tempfile.mkdtemp(prefix="campaign-journal-")) / "journal"
    good = True
    with disk() as place, contextlib.ExitStack() as stack:
        if arguments.kills:
            from tests.store.campaign.remote import remote
            from tests.store.campaign.rounds import Campaign, report

            server = stack.enter_context(remote()) if arguments.s3 else None
            campaign = Campaign(
                arguments.seed, place, journal, server, arguments.whole_looks, arguments.keep, _say
            )
            result = campaign.run(arguments.kills, arguments.seconds)
            _say(report(result))
            if result.failures:
                good = False
                _say(
                    f"again: python -m tests.store.campaign --seed {arguments.seed} --kills {arguments.kills}"
                )
                _say(f"journal: {journal}\n{journal.read_text()[-6000:]}")
        if arguments.damage:
            from tests.store.campaign.damage import campaign as damage_campaign

            good = (
                damage_campaign(arguments.seed, arguments.damage, place.folder, _say, arguments.seconds)
                and good
            )
    return 0 if good else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
