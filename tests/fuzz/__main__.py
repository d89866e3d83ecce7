"""`make fuzz`: hostile messages to every RPC of a real server, until something is wrong or not.

    make fuzz
    make fuzz MESSAGES=100000 SEED=7
    make fuzz SEED=7 COURSE=123 SCENE='with callers'

The messages follow from the seed, which is printed: by courses, of which each can be sent
again alone.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import sys
import tempfile

from fuzz import run


def main() -> int:
    """Runs what the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", default="")
    parser.add_argument("--course", type=int, help="send this one alone")
    parser.add_argument("--scene", choices=run.SCENES, help="one of the two servers alone")
    told = parser.parse_args()
    seed = told.seed or str(random.SystemRandom().randrange(10**6))
    scenes = [told.scene] if told.scene else [*run.SCENES]
    for scene in scenes:
        print(f"{scene}, seed {seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="tickcell-fuzz-") as directory:
            outcome = run.fuzz(
                scene, pathlib.Path(directory), seed, told.messages // len(scenes), told.course
            )
        print(outcome)
        faults = outcome.faults()
        for fault in faults:
            print(f"FAULT: {fault}")
        if faults:
            print(f"send a course N again alone: make fuzz SEED={seed} SCENE='{scene}' COURSE=N")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
