"""What a tired person writes: the sentence says what is there, what is allowed, and what was probably meant."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from resources import fields, net, quantity
from resources.words import got, quoted
from tests.fast.manifests import KEY


def told(type_: Any, value: object) -> str:
    """Why the value is refused."""
    with pytest.raises(ValidationError) as error:
        TypeAdapter(type_).validate_python(value)
    return str(error.value.errors()[0].get("ctx", {}).get("error"))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2GB", "'2G' or '2Gi'"),
        ("2 GiB", "'2Gi'"),
        ("2gb", "'2G' or '2Gi'"),
        (" 512 mb ", "'512M' or '512Mi'"),
        ("2K", "'2k' or '2Ki'"),
        ("1.5G", "'1500M' or '1536Mi'"),
        ("1,5Gi", "'1536Mi'"),
        ("3 bytes", None),
        ("-1", None),
        ("", None),
        ("lots", None),
        (4096, None),
        (None, None),
        (["2Gi"], None),
    ],
)
def test_sizes(written: object, meant: str | None) -> None:
    message = told(quantity.Bytes, written)
    assert message.startswith(f"must be a size, but {got(written)}; write a whole number with a unit: k, M, G, T, Ki,")
    assert message.endswith(f"did you mean {meant}?" if meant else "as in 2Gi")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5 min", "5m"),
        ("1.5h", "1h30m"),
        ("1h 30min", "1h30m"),
        ("2 days", "2d"),
        ("30S", "30s"),
        ("30", "30s"),
        (10, "10s"),
        ("500ms", None),
        ("-1s", None),
        (-1, None),
        (True, None),
        ("", None),
        ("soon", None),
        (None, None),
        (["5m"], None),
    ],
)
def test_durations(written: object, meant: str | None) -> None:
    message = told(quantity.Seconds, written)
    assert message.startswith(f"must be a duration, but {got(written)}; write days, hours, minutes and seconds, as in ")
    assert message.endswith(f"did you mean {meant!r}?" if meant else "30s, 1h30m or 2d")


@pytest.mark.parametrize(
    ("type_", "written", "end"),
    [
        (net.InterfaceAddress, "10.0.0.300/24", "; 300 is more than 255"),
        (net.InterfaceAddress, "10.0.0.1/33", "; a prefix length is at most 32"),
        (net.InterfaceAddress, "fd00::1/200", "; a prefix length is at most 128"),
        (net.InterfaceAddress, "10.0.0.010/24", "; write 010 without leading zeros"),
        (net.InterfaceAddress, "10.0.0.1 /24", "; did you mean '10.0.0.1/24'?"),
        (net.InterfaceAddress, "10.0.0.255/24", "; choose one from 10.0.0.1 to 10.0.0.254"),
        (net.InterfaceAddress, "10.0.0.1", ", as in 10.1.1.2/24"),
        (net.Ip, "10.0.0.1/24", "; did you mean '10.0.0.1'?"),
        (net.Ip, "10.0.0.256", "; 256 is more than 255"),
        (net.Ip, "router", ", as in 10.1.1.2 or fd00::2"),
        (net.HostAddress, "ssh://root@host1:22/", "; did you mean 'host1'?"),
        (net.HostAddress, "root@10.0.0.1", "; did you mean '10.0.0.1'?"),
        (net.HostAddress, "10.0.0.1:22", "; did you mean '10.0.0.1'?"),
        (net.HostAddress, "host 1", "nor a DNS name"),
        (net.Mac, "52-54-00-AB-34-56", "; did you mean '52:54:00:ab:34:56'?"),
        (net.Mac, "5254.0012.3456", "; did you mean '52:54:00:12:34:56'?"),
        (net.Mac, "52:54:0:12:34:56", "; did you mean '52:54:00:12:34:56'?"),
        (net.Mac, "525400123456", "; did you mean '52:54:00:12:34:56'?"),
        (net.Mac, "52:54:00:12:34:5g", ", as in 52:54:00:12:34:56"),
        (fields.Mode, 644, 'but it is the number 644; write "0644"'),
        (fields.Mode, 0o755, 'but it is the number 493; write "0755"'),
        (fields.Mode, 0o644, 'but it is the number 420; write "0420" or "0644"'),
        (fields.Mode, -1, 'but it is the number -1; write "0644"'),
        (fields.Mode, "644", "; did you mean '0644'?"),
        (fields.Mode, "0o644", "; did you mean '0644'?"),
        (fields.Mode, "u=rw", 'as in "0644"'),
        (fields.UnitName, "nginx", "; did you mean 'nginx.service'?"),
        (fields.UnitName, "nginx.serv", "or backup.timer"),
        (fields.User, "Debian", "; did you mean 'debian'?"),
        (fields.DebianPackage, "nginx light", "; did you mean 'nginx-light'?"),
        (fields.DeviceName, "0eth", "the first a letter"),
        (fields.Sha256, "sha256:" + "A" * 64, f"; did you mean '{'a' * 64}'?"),
        (fields.Sha256, "a" * 64 + "  disk.qcow2", f"; did you mean '{'a' * 64}'?"),
        (fields.AbsolutePath, "/etc//x/", "; did you mean '/etc/x'?"),
        (fields.AbsolutePath, "/etc/../x", "or .. parts"),
        (fields.AbsolutePath, "etc/x", "or .. parts"),
        (quantity.Timeout, "0s", "must be at least 1s"),
    ],
)
def test_what_was_meant(type_: Any, written: object, end: str) -> None:
    message = told(type_, written)
    assert message.endswith(end)
    assert isinstance(written, int) or quoted(written) in message or "1s" in message


def test_a_file_is_no_public_key() -> None:
    assert "'~/.ssh/id.pub' is not a public key line" in told(fields.PublicKey, "~/.ssh/id.pub")
    assert "write the line that is in the file" in told(fields.PublicKey, "~/.ssh/id.pub")
    assert KEY not in told(fields.PublicKey, "x " + KEY), "long values are cut"


TYPES = {
    "Bytes": quantity.Bytes,
    "Seconds": quantity.Seconds,
    "Ip": net.Ip,
    "InterfaceAddress": net.InterfaceAddress,
    "HostAddress": net.HostAddress,
    "Mac": net.Mac,
    "AbsolutePath": fields.AbsolutePath,
    "User": fields.User,
    "UnitName": fields.UnitName,
    "Mode": fields.Mode,
    "Sha256": fields.Sha256,
}
TIRED = st.text("0123456789abcdefgGiIkKmMbBsh.,:/-_@ \n", max_size=20) | st.text(max_size=8)


@given(name=st.sampled_from(sorted(TYPES)), text=TIRED)
def test_what_is_proposed_is_allowed(name: str, text: str) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(TYPES[name])
    try:
        adapter.validate_python(text)
    except ValidationError as error:
        proposed = re.search(r"did you mean (.*)\?$", str(error.errors()[0]["ctx"]["error"]))
        for word in re.findall(r"'([^']+)'", proposed[1]) if proposed else ():
            adapter.validate_python(word)
