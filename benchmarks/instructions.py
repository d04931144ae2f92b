"""Instructions of one turn of the hottest loops, counted by callgrind: instructions.py [--loops N]

Each loop runs N and 2N times in processes of their own; the difference is what the loop takes,
start and end of the process left out. Counts hardly vary, so a change of a few instructions shows.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys

OWN_LOOP = "--loop"


def plain_calls(loops):
    from itertools import repeat

    def f(x):
        return x

    for _ in repeat(None, loops):
        f(1)


def effects(loops):
    from rows import ask_loop, run

    run(ask_loop(loops))


def nested(loops):
    from rows import nested_loop, run

    run(nested_loop(loops))


def handler(loops):
    from rows import WithHandler, answer, ping_loop, run

    run(WithHandler(handler=answer, program=ping_loop(loops)))


LOOPS = {
    "a plain call, for comparison": plain_calls,
    "Ask": effects,
    "nested program": nested,
    "Python handler answers an effect": handler,
}


def instructions(name: str, loops: int) -> int:
    done = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            sys.executable,
            __file__,
            OWN_LOOP,
            name,
            str(loops),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    counted = re.search(r"Collected\s*:\s*(\d+)", done.stderr)
    if done.returncode != 0 or counted is None:
        sys.exit(f"error: valgrind failed:\n{done.stderr}")
    return int(counted[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", type=int, default=20_000)
    loops = parser.parse_args().loops
    if shutil.which("valgrind") is None:
        sys.exit("error: valgrind is not installed")
    print(f"Python {platform.python_version()}, instructions for one turn of the loop")
    for name in LOOPS:
        each = (instructions(name, 2 * loops) - instructions(name, loops)) / loops
        print(f"{name:40} {each:8.0f}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [OWN_LOOP]:
        LOOPS[sys.argv[2]](int(sys.argv[3]))
    else:
        main()
