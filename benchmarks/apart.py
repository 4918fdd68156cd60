"""Calls in processes of their own, as their users make them: an allocator goes on as it learnt to from all before."""

import multiprocessing
import os
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch

# What has glibc keep freed memory, and not ask the system for it anew; as environment, for it is read at the start.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


@contextmanager
def apart(make, names, environments):
    """By name: a call made in a process that did nothing before. It returns what is asked for with ``result=True``.

    `make` is a function of a module, or a partial of one, that gives the calls by name; `environments` are those of
    some processes, beside this one's.
    """
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = {}
        for name in names:
            pipes[name], end = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(make, name, end), daemon=True)
            with patch.dict(os.environ, environments.get(name, {})):
                process.start()
            end.close()
            stack.callback(process.join)
            stack.callback(pipes[name].close)
        yield {name: _Call(name, pipe) for name, pipe in pipes.items()}


class _Call:
    def __init__(self, name, pipe):
        self.name, self.pipe = name, pipe

    def __call__(self, result=False):
        try:
            self.pipe.send(result)
            found = self.pipe.recv()
        except (EOFError, BrokenPipeError):
            raise SystemExit(f"bench: {self.name} failed, as said above") from None
        return None if found is None else torch.from_numpy(found)


def _serve(make, name, pipe):
    call = make()[name]
    while True:
        try:
            result = pipe.recv()
        except EOFError:
            return
        found = call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        pipe.send(found.cpu().numpy() if result else None)
