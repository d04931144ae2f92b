"""Run the Python samples of Markdown pages: run-samples.py FILE_OR_FOLDER ...

The ```python blocks of one page run in order in one process and share their names. A block whose
fence says ```python norun is shown only.
"""

import re
import subprocess
import sys
from pathlib import Path

FENCE = re.compile(r"^```python[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def pages(names):
    for name in map(Path, names):
        yield from sorted(name.rglob("*.md")) if name.is_dir() else [name]


def code_of(page):
    """The blocks as one module whose line numbers are those of the page."""
    text = page.read_text("utf-8")
    lines = [""] * len(text.splitlines())
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for offset, line in enumerate(block[1].splitlines()):
            lines[first + offset] = line
    return "\n".join(lines) + "\n"


def main():
    failed = []
    for page in pages(sys.argv[1:]):
        code = code_of(page)
        if not code.strip():
            continue
        runner = "import sys; exec(compile(sys.stdin.read(), sys.argv[1], 'exec'))"
        done = subprocess.run(
            [sys.executable, "-P", "-c", runner, str(page)],
            input=code,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        print(f"{page}: {'ok' if done.returncode == 0 else 'FAILED'}")
        if done.returncode != 0:
            failed.append(page)
            print(done.stdout + done.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
