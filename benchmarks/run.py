"""Prints the table of costs: run.py [-p PROCESSES] [--only TEXT ...] [--list]

Every row is read in several processes of its own; the median stands beside the bound. A ratio to
plain Python in the same process moves little with the machine, but a loaded one still disturbs it:
the spread of the readings is printed too. Exit code 1 when a row misses its bound.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from statistics import median

OWN_READING = "--reading"


def one_reading(index: int) -> None:
    """In the process of the reading."""
    from rows import ROWS

    print(ROWS[index].reading())


def readings(index: int, processes: int) -> list[float]:
    command = [sys.executable, __file__, OWN_READING, str(index)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    found = []
    for _ in range(processes):
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found.append(float(done.stdout))
    return sorted(found)


def machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            name = next(
                line.split(":", 1)[1].strip() for line in info if "model name" in line
            )
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-p", "--processes", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="rows whose name holds a text"
    )
    parser.add_argument("--list", action="store_true", help="names only")
    options = parser.parse_args()

    from rows import ROWS

    print(
        f"Python {platform.python_version()}, {platform.python_compiler()}; {machine()}"
    )
    late = sys.version_info >= (3, 12)
    missed = 0
    print(f"{'work':40} {'measured':>9} {'bound':>7}  {'unit':18} {'spread':>15}")
    for index, row in enumerate(ROWS):
        if options.only and not any(text in row.name for text in options.only):
            continue
        if options.list:
            print(row.name)
            continue
        try:
            found = readings(index, options.processes)
        except subprocess.CalledProcessError as error:
            missed += 1
            print(f"{row.name:40} FAILED, exit code {error.returncode}", flush=True)
            continue
        value = median(found)
        bound = row.bound[late] if row.bound else None
        verdict = "" if bound is None else "ok" if value <= bound else "MISS"
        missed += verdict == "MISS"
        limit = "" if bound is None else f"{bound:g}"
        spread = f"{found[0]:.2f}..{found[-1]:.2f}"
        print(
            f"{row.name:40} {value:9.2f} {limit:>7}  {row.unit:18} {spread:>15}  {verdict}",
            flush=True,
        )
    if missed:
        print(f"{missed} rows miss their bound")
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == [OWN_READING]:
        one_reading(int(sys.argv[2]))
    else:
        sys.exit(main())
