"""``salvusctl`` and ``python -m salvusctl``."""

from salvusctl.app import app


def main() -> None:
    """Runs the command line, and exits with its code."""
    app(prog_name="salvusctl")


if __name__ == "__main__":
    main()
