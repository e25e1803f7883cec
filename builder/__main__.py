"""`python -m builder worker`: run builds until a signal."""

import sys

from builder import settings, worker


def main() -> int:
    if sys.argv[1:] != ["worker"]:
        print("usage: python -m builder worker", file=sys.stderr)
        return 2
    try:
        configured = settings.load()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    worker.run(configured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
