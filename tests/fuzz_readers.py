"""The readers of `test_fuzz` under a fuzzer that is guided by what code an input reaches.

    python -m tests.fuzz_readers READER [CORPUS]… [libFuzzer's options]

Needs atheris, which `make fuzz` installs. READER is one of `test_fuzz.READERS`.
"""

from __future__ import annotations

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["wgpy"]), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tests import test_fuzz


def main() -> None:
    name = sys.argv.pop(1)
    reader = {reader.__name__: reader for reader, _ in test_fuzz.READERS}[name]
    atheris.Setup(sys.argv, lambda data: test_fuzz.read_octets(reader, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
