"""Pydantic types for texts that end up on machines: paths, users, units, keys. What they let through needs no escaping.

Every type says what is allowed when it refuses something.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from resources.words import WORDS, got, meant, mended, quoted, spellings

# Control characters (C0, DEL, C1), line and paragraph separators, and halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")
PATH = "an absolute path: it begins with /, without //, . or .. parts"
MODE = '"0644"'
PATH_SCHEMA = {"type": "string", "pattern": "^/[^/]", WORDS: PATH}


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern that the whole text must match; ``allowed`` completes the sentence "not …".

    ``spellings`` are texts that somebody may have meant by a wrong one.
    """

    pattern: str
    allowed: str
    spellings: Callable[[str], Iterable[str]] = spellings

    def __call__(self, text: str) -> str:
        """The text unchanged. Raises ValueError with what is allowed, and what was probably meant."""
        if not self.fits(text):
            raise ValueError(f"{quoted(text)} is not {self.allowed}{mended(self.spellings(text), self.fits)}")
        return text

    def fits(self, text: str) -> bool:
        """Whether the text may be written."""
        return re.fullmatch(self.pattern, text) is not None

    def __get_pydantic_core_schema__(self, source: type[str], handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validates after the text was seen to be one."""
        return core_schema.no_info_after_validator_function(self, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Adds the pattern for ``salvusctl schema``."""
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$", WORDS: self.allowed}


def line(text: str) -> str:
    """One line of printable text. Raises ValueError for control characters."""
    if found := _UNPRINTABLE.search(text):
        raise ValueError(f"has the control character {found[0]!r}; write one line of printable text")
    return text


def text_content(text: str) -> str:
    """Text of several lines that UTF-8 can hold. Raises ValueError for NUL and halves of surrogate pairs."""
    if found := _UNWRITABLE.search(text):
        raise ValueError(f"has the character {found[0]!r}, which no text file can hold")
    return text


def absolute_path(text: str) -> str:
    """An absolute path in normal form. Raises ValueError for anything else."""
    line(text)
    normal = posixpath.normpath(text) == text == text.strip() and not text.startswith("//")
    if not text.startswith("/") or not normal or text == "/":
        raise ValueError(f"{quoted(text)} is not {PATH}{meant(*_near_paths(text))}")
    return text


def _near_paths(text: str) -> Iterator[str]:
    near = posixpath.normpath("/" + text.strip().lstrip("/"))
    if text.strip().startswith("/") and near != "/" and ".." not in text.split("/"):
        yield near


def controller_path(text: str) -> str:
    """A path on the controller: absolute, or in the home directory of who runs salvus (``~/…``)."""
    if text.startswith("~/"):
        absolute_path(text[1:])
        return text
    return absolute_path(text)


def octal_mode(value: object) -> object:
    """Refuses a mode written as a number: YAML 1.2 reads 0644 as six hundred forty-four."""
    if isinstance(value, int) and not isinstance(value, bool):
        # 0o644 is 420 here; 644 is what was written.
        modes = [f'"{value:04o}"'] if 0 <= value < 0o1000 else []
        if re.fullmatch("[0-7]{1,4}", str(value)):
            modes.insert(0, f'"{value:04d}"')
        raise ValueError(f"must be a mode in quotes, but {got(value)}; write {' or '.join(modes) or MODE}")
    return value


def _modes(text: str) -> Iterator[str]:
    """``644`` and ``0o644`` in four digits."""
    digits = text.strip().removeprefix("0o")
    if len(digits) == 3:
        yield f"0{digits}"


def _digests(text: str) -> Iterator[str]:
    """The digest alone, of a line that ``sha256sum`` printed or behind the name of the algorithm."""
    yield text.strip().lower().removeprefix("sha256:").split(" ")[0]


def _units(text: str) -> Iterator[str]:
    yield text.strip() if "." in text else f"{text.strip()}.service"


_KEY_TYPES: Mapping[str, int | None] = {
    "ssh-ed25519": 51,
    "ecdsa-sha2-nistp256": 104,
    "ecdsa-sha2-nistp384": 136,
    "ecdsa-sha2-nistp521": 172,
    "ssh-rsa": None,
    "sk-ssh-ed25519@openssh.com": None,
    "sk-ecdsa-sha2-nistp256@openssh.com": None,
}


def public_key(text: str) -> str:
    """A line of an OpenSSH public key file (sshd(8), AUTHORIZED_KEYS FILE FORMAT), without options.

    The key inside is checked against the type before it (RFC 4253, section 6.6). Raises ValueError.
    """
    type_, _, rest = line(text).strip().partition(" ")
    blob, _, _comment = rest.partition(" ")
    if type_ not in _KEY_TYPES:
        hint = "; write the line that is in the file" if type_.startswith(("/", "~")) else ""
        types = f"key types: {', '.join(_KEY_TYPES)}"
        raise ValueError(f"{quoted(text)} is not a public key line such as 'ssh-ed25519 AAAA… name'{hint}; {types}")
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the key after {type_} is not base64; copy the line from the .pub file") from None
    inner = len(type_).to_bytes(4) + type_.encode()
    size = _KEY_TYPES[type_]
    if not data.startswith(inner) or len(data) <= len(inner) or (size is not None and len(data) != size):
        raise ValueError(f"the key after {type_} is cut short or of another type; copy the line from the .pub file")
    return text.strip()


def bare_key(text: str) -> str:
    """A public key line without its comment, as known-hosts checks compare it."""
    type_, blob = text.split()[:2]
    return f"{type_} {blob}"


Line = Annotated[str, AfterValidator(line)]
Text = Annotated[str, AfterValidator(text_content)]
AbsolutePath = Annotated[str, AfterValidator(absolute_path), WithJsonSchema(PATH_SCHEMA)]
ControllerPath = Annotated[
    str,
    AfterValidator(controller_path),
    WithJsonSchema({"type": "string", "pattern": "^~?/[^/]", WORDS: "a path on the controller: absolute, or ~/…"}),
]
# Where systemd does not unquote: a blank would end it, a backslash at the end would swallow the next line.
PlainPath = Annotated[
    AbsolutePath,
    Shape("/[A-Za-z0-9._+@:,=%/-]+", "an absolute path: only letters, digits and . _ + @ : , = % -"),
]
PublicKey = Annotated[
    str,
    AfterValidator(public_key),
    WithJsonSchema({"type": "string", WORDS: "a public key: a line of a .pub file", "examples": ["ssh-ed25519 A…"]}),
]
Mode = Annotated[
    str,
    Shape("[0-7]{4}", 'a mode of four octal digits, as in "0644"', _modes),
    BeforeValidator(octal_mode),
]
Sha256 = Annotated[str, Shape("[0-9a-f]{64}", "a SHA-256 digest: 64 hexadecimal digits in lower case", _digests)]

# useradd(8) on Debian: NAME_REGEX without the trailing dollar sign.
User = Annotated[
    str,
    Shape(
        "[a-z_][a-z0-9_-]{0,31}",
        "a user or group name: at most 32 small letters, digits, _ and -, the first a letter or _",
    ),
]
# Debian Policy 5.6.1, with an optional architecture.
DebianPackage = Annotated[
    str,
    Shape("[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?", "a Debian package name, as in nginx or libc6:amd64"),
]
# systemd.unit(5), "Description": the types that can be started and stopped.
UnitName = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9:_.\\][A-Za-z0-9:_.\\-]{0,200}(@[A-Za-z0-9:_.\\-]*)?\.(service|socket|timer|target|path|mount)",
        "a systemd unit name with its ending, as in nginx.service or backup.timer",
        _units,
    ),
]
# A network device name as the kernel has them (IFNAMSIZ is 16 with the final NUL), kept to what every tool takes.
DeviceName = Annotated[
    str,
    Shape(
        "[A-Za-z][A-Za-z0-9_.-]{0,14}",
        "a network device name: at most 15 letters, digits, _ . and -, the first a letter",
    ),
]
VariableName = Annotated[
    str,
    Shape("[A-Za-z_][A-Za-z0-9_]*", "a name of an environment variable: letters, digits and _, the first no digit"),
]
