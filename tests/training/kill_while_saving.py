"""Kills runs while they save a checkpoint, each at another moment, and continues them; run in a process of its own.

Called with recipe, data root, folder for the runs, and number of moments; prints the moments as JSON. The process
imports everything once and forks for each run; it trains nothing itself, so that its children have it clean.
"""

import json
import os
import signal
import sys
from pathlib import Path

from training.loop import ROMTrainer
from training.recipe import load_recipe
from training.trainer import train

STEP = 3
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVENTS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


class Moments:
    """Counts what is done to files in a folder while the checkpoint of a step is saved, and kills at one of them."""

    def __init__(self, folder, last=None):
        self.folder, self.last, self.count, self.armed = str(folder), last, 0, False
        sys.addaudithook(self)
        save = ROMTrainer._save_checkpoint

        def watched(trainer, *args):
            self.armed = trainer.state.global_step == STEP
            save(trainer, *args)
            self.armed = False

        ROMTrainer._save_checkpoint = watched

    def __call__(self, event, arguments):
        if not self.armed or not (event in EVENTS or (event == "open" and (arguments[2] or 0) & WRITES)):
            return
        if isinstance(arguments[0], str | Path) and self.folder in str(arguments[0]):
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def forked(work):
    """Do something in a child; return how it ended."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def main():
    recipe, data, root, count = load_recipe(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

    def run(name, last=None):
        def work():
            moments = Moments(root / name, last)
            train(recipe, data, root / name)
            (root / f"{name}.count").write_text(str(moments.count))

        return work

    ended = [forked(run("whole"))]
    total = int((root / "whole.count").read_text())
    moments = sorted({1 + (total - 1) * i // (count - 1) for i in range(count)})
    for moment in moments:
        ended += [forked(run(f"killed-{moment}", moment)), forked(run(f"killed-{moment}"))]
    print(json.dumps({"total": total, "moments": moments, "ended": ended}))


if __name__ == "__main__":
    main()
