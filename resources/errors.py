"""What is wrong in a manifest, as an exception and as a sentence."""

from __future__ import annotations

from drivers.base import SalvusError
from resources.base import Path


def field_name(path: Path) -> str:
    """``("spec", "interfaces", 0, "mac")`` → ``spec.interfaces[0].mac``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


class ManifestError(SalvusError):
    """Something a user wrote is wrong: exit 2, never stored.

    Attributes:
        file: as the user named it; empty for what comes from no file.
        line, column: from 1; 0 when it is about the whole file.
        field: ``spec.interfaces[0].mac``; empty when it is about no field.
        what: what is wrong, what is allowed.
    """

    def __init__(
        self, what: str, *, file: str = "", line: int = 0, column: int = 0, field: str = "", hint: str = ""
    ) -> None:
        # Names of files are bytes (PEP 383); what is told must be text.
        file = file.encode(errors="backslashreplace").decode()
        self.file, self.line, self.column, self.field, self.what = file, line, column, field, what
        place = ":".join([file, *([str(line), str(column)] if line else [])] if file else [])
        super().__init__(": ".join(part for part in (place, field, what) if part), hint=hint)

    @property
    def order(self) -> tuple[str, int, int, str]:
        """By what errors are sorted: file, line, column, then text."""
        return (self.file, self.line, self.column, str(self))
