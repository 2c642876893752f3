"""Runs a program once for each environment on standard input, and imports its modules only once.

`forked_program.py IMPORTED MODULE [ARGUMENT...]` imports a module that the program imports late. It
reads a JSON object of environment variables per line. For each it forks, runs the program as
`python -m` does, and prints its exit status and standard error as a JSON array.
"""

import importlib
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path


def main() -> None:
    imported, module, *arguments = sys.argv[1:]
    sys.path[0] = str(Path.cwd())  # as `python -m` does
    importlib.import_module(imported)
    runpy.run_module(module, run_name="imported")
    for line in sys.stdin:
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(errors.fileno(), sys.stderr.fileno())
                os.environ.clear()
                os.environ.update(json.loads(line))
                sys.argv = [module, *arguments]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
                sys.exit()
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            errors.seek(0)
            print(json.dumps([status, errors.read().decode()]), flush=True)


if __name__ == "__main__":
    main()
