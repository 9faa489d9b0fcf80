"""Public keys of VPNs: what is one. Whoever has root on a machine decides what it tells. Pure."""

from __future__ import annotations

import base64
import binascii
import re

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
