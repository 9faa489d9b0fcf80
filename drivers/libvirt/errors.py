"""libvirt's errors as ours: one table over all of ``virErrorNumber`` (rule: an unknown error is never "absent").

https://libvirt.org/html/libvirt-virterror.html
"""

from __future__ import annotations

from collections.abc import Mapping

import libvirt

from drivers.base import DriverError, Failed, Rejected, Unreachable

# The daemon, or the way to it, did not answer.
_UNREACHABLE = """
    NO_CONNECT INVALID_CONN UNKNOWN_HOST RPC GNUTLS_ERROR AUTH_FAILED AUTH_CANCELLED
    AUTH_UNAVAILABLE SSH LIBSSH HTTP_ERROR GET_FAILED POST_FAILED NO_SERVER NO_CLIENT NO_HOSTNAME
"""
# What was asked for is wrong in itself; asking again is of no use.
_REJECTED = "XML_ERROR XML_DETAIL XML_INVALID_SCHEMA INVALID_MAC OS_TYPE NO_OS NO_KERNEL NO_ROOT NO_NAME"
# It said no, and may say yes later: a busy or full host, a missing file or network, a lock that is held.
_FAILED = """
    OK INTERNAL_ERROR SYSTEM_ERROR NO_MEMORY NO_SUPPORT INVALID_DOMAIN INVALID_ARG OPERATION_FAILED SEXPR_SERIAL
    NO_XEN XEN_CALL NO_SOURCE NO_TARGET NO_DEVICE NO_XENSTORE DRIVER_FULL CALL_FAILED DOM_EXIST OPERATION_DENIED
    OPEN_FAILED READ_FAILED PARSE_FAILED CONF_SYNTAX WRITE_FAILED INVALID_NETWORK NETWORK_EXIST NO_NETWORK
    INVALID_STORAGE_POOL INVALID_STORAGE_VOL NO_STORAGE_POOL NO_STORAGE_VOL INVALID_NODE_DEVICE NO_NODE_DEVICE
    NO_SECURITY_MODEL OPERATION_INVALID NO_INTERFACE INVALID_INTERFACE MULTIPLE_INTERFACES INVALID_NWFILTER
    NO_NWFILTER BUILD_FIREWALL INVALID_SECRET NO_SECRET CONFIG_UNSUPPORTED OPERATION_TIMEOUT MIGRATE_PERSIST_FAILED
    HOOK_SCRIPT_FAILED INVALID_DOMAIN_SNAPSHOT NO_DOMAIN_SNAPSHOT INVALID_STREAM ARGUMENT_UNSUPPORTED
    STORAGE_PROBE_FAILED STORAGE_POOL_BUILT SNAPSHOT_REVERT_RISKY OPERATION_ABORTED NO_DOMAIN_METADATA
    MIGRATE_UNSAFE OVERFLOW BLOCK_COPY_ACTIVE OPERATION_UNSUPPORTED AGENT_UNRESPONSIVE RESOURCE_BUSY ACCESS_DENIED
    DBUS_SERVICE STORAGE_VOL_EXIST CPU_INCOMPATIBLE MIGRATE_FINISH_OK AGENT_UNSYNCED DEVICE_MISSING
    INVALID_NWFILTER_BINDING NO_NWFILTER_BINDING INVALID_DOMAIN_CHECKPOINT NO_DOMAIN_CHECKPOINT NO_DOMAIN_BACKUP
    INVALID_NETWORK_PORT NETWORK_PORT_EXIST NO_NETWORK_PORT CHECKPOINT_INCONSISTENT MULTIPLE_DOMAINS
    NO_NETWORK_METADATA AGENT_COMMAND_TIMEOUT AGENT_COMMAND_FAILED
"""


class NoDomain(Failed):
    """There is no domain of that name: the only error that means absent (rule 1)."""


def _table() -> Mapping[str, type[DriverError]]:
    rows = ((_UNREACHABLE, Unreachable), (_REJECTED, Rejected), (_FAILED, Failed), ("NO_DOMAIN", NoDomain))
    return {f"VIR_ERR_{word}": kind for words, kind in rows for word in words.split()}


TABLE = _table()
_BY_CODE = {getattr(libvirt, name): kind for name, kind in TABLE.items() if hasattr(libvirt, name)}
# Whatever the code: these parts of libvirt speak of the connection ("client socket is closed" is an internal error).
_CONNECTION_DOMAINS = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}

_HINTS: Mapping[type[DriverError], str] = {
    Unreachable: "is libvirtd running there? see: systemctl status libvirtd",
    Failed: "see what libvirt says on the host: journalctl -u libvirtd",
    Rejected: "correct the manifest",
}


def translate(error: libvirt.libvirtError, machine: str, doing: str) -> DriverError:
    """The error as ours, saying what was being done and where. A code that is not in the table is Failed."""
    kind = _BY_CODE.get(error.get_error_code(), Failed)
    if error.get_error_code() is None or (kind is Failed and error.get_error_domain() in _CONNECTION_DOMAINS):
        kind = Unreachable
    return kind(f"libvirt on {machine}: {doing}: {error}", machine=machine, hint=_HINTS.get(kind, ""))
