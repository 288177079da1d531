"""Print the command that README.md shows under the comment `<!-- NAME -->`: CI runs it as a reader would."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests"))
sys.dont_write_bytecode = True

from doc_blocks import parse  # noqa: E402  (the parser of the tests, not a second one)


def main(name: str) -> None:
    """Print the one block of this name, or end with status 1 and the reason."""
    found = [block for block in parse((REPOSITORY / "README.md").read_text()) if block.run_by_ci == name]
    if len(found) != 1:
        sys.exit(f"README.md must hold exactly one block after <!-- {name} -->, it holds {len(found)}")
    sys.stdout.write(found[0].commands())


if __name__ == "__main__":
    main(sys.argv[1])
