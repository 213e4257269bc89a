"""The other processes of a run on several: started from its configuration, watched, and ended with it.

The first process starts the others as `python -m penstock train TASK --config FILE`, whatever it was itself
started by: the command line, a script, a notebook or a test. Environment variables tell Lightning of them.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from penstock.errors import InputError
from penstock.training.config import TrainingOptions

_DATA = "PENSTOCK_DATA"  # where the first process of the machine has put the encoded data


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def global_rank(config: TrainingOptions) -> int:
    """The number of this process among all."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", "0")) * config.processes + local_rank()


def prepared_data() -> Path | None:
    """The folder of encoded data that the process which started this one has prepared."""
    folder = os.environ.get(_DATA)
    return Path(folder) if folder else None


@contextlib.contextmanager
def other_processes(config: TrainingOptions, task: str, config_file: Path, data: Path) -> Iterator[None]:
    """Run the other processes of this machine while the block runs in this one.

    Nothing is done if there are none to start: a single process, or one that was itself started.
    """
    if config.processes * config.nodes == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    shared = {**_address(config), "WORLD_SIZE": str(config.processes * config.nodes), _DATA: str(data)}
    command = [sys.executable, "-m", "penstock", "train", task, "--config", str(config_file)]
    command += ["--resume"] if config.resume else []
    before = dict(os.environ)
    os.environ.update(shared, LOCAL_RANK="0")
    others = [
        subprocess.Popen(
            command,
            env={**os.environ, "LOCAL_RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the first process alone, which tells the others
        )
        for rank in range(1, config.processes)
    ]
    done = threading.Event()
    threading.Thread(target=_watch, args=(others, done), daemon=True).start()
    try:
        yield
        for process in others:
            process.wait(timeout=60)
    except Exception as error:
        done.set()
        if not isinstance(error, InputError) and (sentence := _failure(others)):
            raise InputError(sentence) from error
        raise
    finally:
        done.set()
        for process in others:
            process.kill()
            process.wait()
        os.environ.clear()
        os.environ.update(before)


def _address(config: TrainingOptions) -> dict[str, str]:
    """Where the processes find each other."""
    names = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if config.nodes > 1:
        for name in names:
            if name not in os.environ:
                raise InputError(f"--nodes {config.nodes} needs {name} in the environment of every machine")
        return {name: os.environ[name] for name in names}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return dict(zip(names, ("127.0.0.1", str(free.getsockname()[1]), "0"), strict=True))


def _watch(others: list[subprocess.Popen], done: threading.Event) -> None:
    """End this process when another has failed and it does not notice: it would wait for it forever."""
    while not done.wait(1.0):
        sentence = _failure(others)
        if sentence and not done.wait(10.0):
            print(f"penstock: error: {sentence}", file=sys.stderr, flush=True)
            for other in others:
                other.kill()
            os._exit(2)


def _failure(others: list[subprocess.Popen]) -> str | None:
    """A sentence about the first process that failed, if one has, or does within a second."""
    for _ in range(10):
        for rank, process in enumerate(others, start=1):
            if process.poll():
                end = f"training process {rank} ended with code {process.returncode}"
                return f"{end}; --resume goes on from the last checkpoint"
        time.sleep(0.1)
    return None
