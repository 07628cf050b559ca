"""Runs commands and scripts in forks of a process that has everything imported already.

A run then costs no start-up, and a kill at a random moment falls on its work instead of its imports.
One JSON task a line on standard input, one JSON answer a line on standard output.
"""

import fcntl
import importlib
import json
import os
import resource
import select
import signal
import sys
import traceback
from typing import Any

from conformergen.cli import app

#: What the commands import when they run. Not above: worker processes import this file, and need little of it.
_WARM = (
    "conformergen.commands.evaluate",
    "conformergen.commands.preprocess",
    "conformergen.commands.reference",
    "conformergen.commands.train",
    "conformergen.generation.output",
    "conformergen.generation.rounds",
    "torch_geometric",
)
#: Seconds of wall time that a process has to follow a signal; far above its need, for a machine that is busy.
_GRACE = 600.0
#: Bytes of stderr.
_LONGEST = 1 << 20


def _child(task: dict[str, Any], said: int) -> None:
    """Become the process that the task describes; never returns."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        os.environ.pop("CG_FAULT", None)
        if task["fault"]:
            os.environ["CG_FAULT"] = task["fault"]
        if task["cwd"]:
            os.chdir(task["cwd"])
        if task["file_limit"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_limit"], task["file_limit"]))
        sys.argv = ["conformergen", *task["arguments"]]
        if task["script"]:
            exec(compile(task["script"], "<script>", "exec"), {"__name__": "__script__"})  # noqa: S102  ours
        else:
            app()
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001  the child must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer tasks until standard input ends."""
    for name in _WARM:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        task = json.loads(line)
        # Not a file: the limit on the size of files is for the child's own. Nobody writes a megabyte there.
        listening, said = os.pipe2(os.O_NONBLOCK)
        os.set_blocking(said, True)
        fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, _LONGEST)
        pid = os.fork()
        if not pid:
            _child(task, said)
        watched = os.pidfd_open(pid)
        alive = not select.select([watched], [], [], task["seconds"])[0]
        if alive:
            os.kill(pid, task["signal"])
            if not select.select([watched], [], [], _GRACE)[0]:
                os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        text = os.read(listening, _LONGEST).decode(errors="replace") if select.select([listening], [], [], 0)[0] else ""
        for descriptor in (watched, listening, said):
            os.close(descriptor)
        print(json.dumps({"code": code, "interrupted": alive, "stderr": text}), file=answers, flush=True)


if __name__ == "__main__":
    serve()
