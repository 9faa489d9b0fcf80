"""Keys of VPNs: what is a public one, and under which names of facts and allocations all about them is kept. Pure.

Whoever has root on a machine decides what it tells.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Literal

# An allocation: which generation of its key a node is to have, and of which one at least whatever it tells
# (``GENERATION FIRST``; none: the first).
KEY = "key"
# An allocation: since when a node was seen to use its key (seconds since 1970), and which (``SECONDS DIGEST``).
SEEN = "key_seen"
# An allocation: the node is let in nowhere, until it is admitted, and its keys never again (``STATE SECONDS
# DIGEST...``: see ``revoked_value``).
REVOKED = "revoked"
# Facts: the public half of a generation; the generation that the daemon has read; whom the daemon lets in.
PUBLIC_KEY = "public_key"
IN_USE = "key_in_use"
TRUSTED = "trusted"

# RFC 8017, A.1.1, in PEM (RFC 7468), as tincd writes it: at most 8192 bits.
_PEM = re.compile("-----BEGIN RSA PUBLIC KEY-----\n([A-Za-z0-9+/=]{1,76}\n){1,30}-----END RSA PUBLIC KEY-----")


def no_key(driver: str, text: str) -> str:
    """Why it is no public key of the driver; empty when it is one."""
    if driver == "tinc":
        wanted = "write the lines from -----BEGIN RSA PUBLIC KEY----- to -----END RSA PUBLIC KEY-----"
        return "" if _PEM.fullmatch(text.strip()) else f"is no public key of tinc; {wanted}"
    try:
        right = len(base64.b64decode(text.strip(), validate=True)) == 32
    except (binascii.Error, ValueError):
        right = False
    return "" if right else "is no public key of WireGuard; write what `wg pubkey` prints: 44 characters"


def key_fact(generation: int, node: str) -> str:
    """The name of the fact that is a node's public key of a generation; the first one has no number."""
    return f"{PUBLIC_KEY}/{node}" if generation == 1 else f"{PUBLIC_KEY}.{generation}/{node}"


def key_path(base: str, generation: int) -> str:
    """The file of a private key; the first one has no number."""
    return base if generation == 1 else f"{base}.{generation}"


def generation(text: str | None) -> int:
    """What a fact or an allocation says; 1 when there is none, or what a machine told is no generation."""
    first = (text or "").split(" ")[0]
    return int(first) if re.fullmatch("[1-9][0-9]{0,8}", first) else 1


def key_value(generation_: int, *, first: int) -> str:
    """The allocation of another generation; keys older than the ``first`` count no more."""
    return f"{generation_} {first}"


def oldest(value: str | None) -> int:
    """The oldest generation that counts, by the allocation."""
    return int((value or "1 1").split(" ")[-1])


def seen_value(since: float, key: str) -> str:
    """The allocation of a public key that a node is seen to use."""
    return f"{since:.0f} {digest(key)}"


def seen_since(value: str | None, key: str) -> float | None:
    """Since when that is so, by the allocation, in seconds since 1970; None when it is not noted, or of another key."""
    since, _, of = (value or "").partition(" ")
    return float(since) if of == digest(key) else None


def due(since: float, age: int, node: str) -> float:
    """When a key is as old as it may become, or up to a tenth before: always the same of one node."""
    share = int.from_bytes(hashlib.sha256(node.encode()).digest()[:4]) / 2**32
    return since + age * (1 - share / 10)


def digest(key: str) -> str:
    """What is kept of a public key that is not to come back; however its lines are broken."""
    return hashlib.sha256("".join(key.split()).encode()).hexdigest()


def revoked_value(since: float, keys: Iterable[str], before: str | None = None) -> str:
    """The allocation of a revocation: of the public keys of a node, and those of the revocation ``before``.

    Until it is proved the machine keeps what it has, so that it can be tried from there whether it is let in.
    """
    kept = {digest(key) for key in keys} | (digests(before) if before is not None else set())
    return " ".join(("open", f"{since:.0f}", *sorted(kept)))


def revoked_as(state: Literal["proved", "admitted"], revoked: str) -> str:
    """The allocation once that is proved, or once the node may come back: then it is of its keys alone."""
    return " ".join((state, *revoked.split(" ")[1:]))


def is_out(revoked: str | None) -> bool:
    """Whether a node is let in nowhere, by the allocation."""
    return revoked is not None and not revoked.startswith("admitted ")


def is_open(revoked: str) -> bool:
    """Whether a revocation is not proved yet."""
    return revoked.startswith("open ")


def revoked_since(revoked: str) -> float:
    """Since when, in seconds since 1970."""
    return float(revoked.split(" ")[1])


def has_key(revoked: str, key: str) -> bool:
    """Whether a revocation was of that public key."""
    return digest(key) in digests(revoked)


def digests(revoked: str) -> frozenset[str]:
    """Of all public keys that a revocation was of."""
    return frozenset(revoked.split(" ")[2:])


def generation_of(fact: str) -> int | None:
    """Of which generation a fact is the public key; None for other facts."""
    match = re.fullmatch(rf"{PUBLIC_KEY}(?:\.([1-9][0-9]{{0,8}}))?", fact.partition("/")[0])
    return int(match[1] or 1) if match else None


def tinc_name(name: str, generation: int = 1) -> str:
    """A node's name for tinc, which has letters, digits and _ only. No two are alike: names of resources have no _.

    tincd knows one key of a name. So with each later key a node has a name of its own (no resource has a K in its),
    and can be let in under both for a while.
    """
    return name.replace("-", "_") + (f"K{generation}" if generation > 1 else "")


def known_as(driver: str, name: str, generation: int, key: str) -> str:
    """By what daemons know a node with a key of a generation: see ``KeyUse.trusted``."""
    return tinc_name(name, generation) if driver == "tinc" else key
