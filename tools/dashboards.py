"""The Grafana dashboard and the Prometheus rules, from one table each: ``python -m tools.dashboards`` writes them.

The committed files are what this makes; a test compares them, and checks every metric against ``controller.metrics``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent.parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, COLUMNS = 8, 8, 3


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: its title, what it is for, its kind in Grafana, its unit, and (expression, legend) pairs."""

    title: str
    description: str
    queries: tuple[tuple[str, str], ...]
    type: str = "timeseries"
    unit: str = "short"


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule; ``wait`` is how long it must hold. The sentences say what it means and what helps."""

    name: str
    expression: str
    wait: str
    severity: str
    summary: str
    description: str


MEAN = "sum by (result) (rate(salvus_pass_seconds_sum[5m])) / sum by (result) (rate(salvus_pass_seconds_count[5m]))"


def _answers(label: str) -> str:
    """The machines that answer, under another label."""
    return f'label_replace(max by (machine) (salvus_machine_reachable) == 1, "{label}", "$1", "machine", "(.*)")'


PANELS = (
    Panel(
        "Machines that answer",
        "By their last pass.",
        (("sum(salvus_machine_reachable)", "answer"), ("count(salvus_machine_reachable == 0) or vector(0)", "do not")),
        "stat",
    ),
    Panel(
        "Items not in sync",
        "Drifted ones are mended at the next pass; held ones wait for a human or for another item.",
        (('sum by (state) (salvus_items{state!="in_sync"})', "{{state}}"),),
    ),
    Panel(
        "Resources not ready",
        "By kind and condition.",
        (('sum by (kind, condition) (salvus_resources{status!="True"})', "{{kind}} {{condition}}"),),
    ),
    Panel(
        "Paused",
        "Machines and resources that are not to be changed for a while.",
        (("max by (what) (salvus_paused)", "{{what}}"),),
    ),
    Panel(
        "Pinned",
        "Sources of manifests that stay at an earlier revision.",
        (("max by (source) (salvus_pinned)", "{{source}}"),),
    ),
    Panel(
        "Passes",
        "By result.",
        (("sum by (result) (rate(salvus_pass_seconds_count[5m]))", "{{result}}"),),
        unit="ops",
    ),
    Panel(
        "Duration of passes",
        "Half of them, and all but one in twenty, are done within.",
        tuple(
            (f"histogram_quantile({q}, sum by (le) (rate(salvus_pass_seconds_bucket[5m])))", f"{q:.0%}")
            for q in (0.5, 0.95)
        ),
        unit="s",
    ),
    Panel(
        "Mean duration of passes",
        "By result.",
        ((MEAN, "{{result}}"),),
        unit="s",
    ),
    Panel(
        "Changes",
        "Carried out, by grade and result.",
        (("sum by (grade, result) (increase(salvus_changes_total[5m]))", "{{grade}} {{result}}"),),
    ),
    Panel(
        "Writes to machines",
        "None while everything is in sync.",
        (("topk(10, increase(salvus_driver_writes_total[5m]) > 0)", "{{machine}}"),),
    ),
    Panel(
        "Queue",
        "Machines that are due and not worked on.",
        (("sum by (instance) (salvus_queue_depth)", "{{instance}}"),),
    ),
    Panel(
        "Oldest in the queue",
        "How long it has waited.",
        (("max by (instance) (salvus_queue_oldest_seconds)", "{{instance}}"),),
        unit="s",
    ),
    Panel(
        "Leases",
        "How many each controller holds, and how many controllers there are.",
        (
            ("count by (instance) (salvus_lease_epoch)", "{{instance}}"),
            ("max(salvus_controllers)", "controllers"),
        ),
    ),
    Panel(
        "Cassandra nodes",
        "1 for a node that every controller sees up.",
        (("min by (node) (salvus_store_node_up)", "{{node}}"),),
    ),
    Panel(
        "VPNs",
        "Machines by what is known of their key, and how old the oldest key is, in days.",
        (
            ("max by (vpn, state) (salvus_vpn_nodes)", "{{vpn}} {{state}}"),
            ("max by (vpn) (salvus_vpn_key_age_seconds) / 86400", "{{vpn}} days"),
        ),
    ),
    Panel(
        "VPNs: not reached",
        "Machines of its VPN from which a node has no answer, and peers out of the fleet as well.",
        (
            (
                "max by (vpn, node) (salvus_vpn_node_peers) - max by (vpn, node) (salvus_vpn_node_peers_reached) > 0",
                "{{vpn}} {{node}} machines",
            ),
            ("max by (vpn, node, peer) (salvus_vpn_peer_reachable) == 0", "{{vpn}} {{node}} not {{peer}}"),
        ),
    ),
    Panel(
        "VPNs: round trips",
        "Of each node, through the tunnel, with the peer that is farthest, and the median of all pairs.",
        (
            ("max by (vpn, node) (salvus_vpn_peer_round_trip_seconds)", "{{vpn}} {{node}}"),
            ("quantile by (vpn) (0.5, salvus_vpn_peer_round_trip_seconds)", "{{vpn}} median"),
        ),
        unit="s",
    ),
    Panel(
        "VPNs: last handshakes",
        "How long ago, of each node the one that is longest ago; of idle tunnels that says nothing. WireGuard alone.",
        (("time() - min by (vpn, node) (salvus_vpn_peer_last_handshake_timestamp_seconds)", "{{vpn}} {{node}}"),),
        unit="s",
    ),
    Panel(
        "Manifests and versions",
        "Errors in the source, fleet passes, and what runs.",
        (
            ("sum by (instance) (salvus_manifest_errors)", "errors {{instance}}"),
            ("sum by (instance) (salvus_held_by_budget)", "held by budget {{instance}}"),
            ("sum by (result) (increase(salvus_fleet_passes_total[5m]))", "fleet passes {{result}}"),
            ("count by (version) (salvus_build_info)", "salvus {{version}}"),
        ),
    ),
)

ALERTS = (
    Alert(
        "SalvusMachineUnreachable",
        "max by (machine) (salvus_machine_reachable) == 0",
        "10m",
        "critical",
        "{{ $labels.machine }} does not answer",
        "Nothing is planned there until it does. salvusctl why {{ $labels.machine }} says what was tried.",
    ),
    Alert(
        "SalvusItemsDrifted",
        'sum by (machine) (salvus_items{state="drifted"}) > 0',
        "15m",
        "warning",
        "{{ $labels.machine }} has {{ $value }} items that stay different",
        "They should have been mended by now. salvusctl diff shows what is different.",
    ),
    Alert(
        "SalvusItemsHeld",
        'sum by (machine) (salvus_items{state="held"}) > 0',
        "1h",
        "warning",
        "{{ $labels.machine }} has {{ $value }} changes that wait",
        "They are above the ceiling, paused, or behind something else. salvusctl diff says what each waits for.",
    ),
    Alert(
        "SalvusWorldStopped",
        'max(salvus_paused{what="world"}) > 0',
        "30m",
        "warning",
        "The world has been stopped for half an hour",
        "No controller writes anything. salvusctl pause --list says who wanted it and why.",
    ),
    Alert(
        "SalvusPinned",
        "max by (source) (salvus_pinned) > 0",
        "24h",
        "warning",
        "{{ $labels.source }} has been pinned for a day",
        "What is pushed there is held. salvusctl revisions says who pinned it and why; salvusctl unpin ends it.",
    ),
    Alert(
        "SalvusVpnKeyTurning",
        'max by (vpn) (salvus_vpn_nodes{state="turning"}) > 0',
        "1h",
        "warning",
        "{{ $value }} machines of VPN {{ $labels.vpn }} have been turning to another key for an hour",
        "One of them is away, or one that lets them in. salvusctl why VPN {{ $labels.vpn }} says who.",
    ),
    Alert(
        "SalvusVpnRevocationOpen",
        'max by (vpn) (salvus_vpn_nodes{state="revoked"}) > 0',
        "15m",
        "critical",
        "{{ $value }} machines that are revoked may still be let into VPN {{ $labels.vpn }}",
        "salvusctl vpn status {{ $labels.vpn }} says by whom; salvusctl vpn revoke NODE goes on.",
    ),
    Alert(
        "SalvusVpnPeerUnreachable",
        f"max by (vpn, node, peer) (salvus_vpn_peer_reachable) == 0 and on (node) {_answers('node')}"
        f" and on (peer) {_answers('peer')}",
        "10m",
        "warning",
        "{{ $labels.node }} does not reach {{ $labels.peer }} in VPN {{ $labels.vpn }}",
        "Both answer their controllers. salvusctl vpn status {{ $labels.vpn }} says who else does not reach whom.",
    ),
    Alert(
        "SalvusPassesFailing",
        'sum(increase(salvus_pass_seconds_count{result="failed"}[10m])) > 0',
        "20m",
        "warning",
        "Passes have been failing for 20 minutes",
        "salvusctl get shows which resources are not in sync, salvusctl events what machines said.",
    ),
    Alert(
        "SalvusFleetPassesFailing",
        'increase(salvus_fleet_passes_total{result="failed"}[5m]) > 0',
        "5m",
        "critical",
        "{{ $labels.instance }} cannot use its store",
        "It writes to no machine until it can. Its log says what the store answers.",
    ),
    Alert(
        "SalvusStoreNodeDown",
        "min by (node) (salvus_store_node_up) == 0",
        "5m",
        "warning",
        "The Cassandra node {{ $labels.node }} is down",
        "With two of three up nothing is lost and all goes on; one more, and nothing is written. Start it.",
    ),
    Alert(
        "SalvusManifestErrors",
        "max by (instance) (salvus_manifest_errors) > 0",
        "5m",
        "warning",
        "The manifests have {{ $value }} errors",
        "Or they cannot be read; the last good state is kept. salvusctl get says why, validate where the errors are.",
    ),
    Alert(
        "SalvusHeldByBudget",
        "max by (instance) (salvus_held_by_budget) > 0",
        "5m",
        "warning",
        "The source would delete or disturb {{ $value }} at once, more than the budgets allow",
        "It waits. salvusctl approve shows what it would do, and how it is let through.",
    ),
    Alert(
        "SalvusNoLeaseHolder",
        'absent(salvus_lease_epoch{lease="fleet"})',
        "2m",
        "critical",
        "No controller holds the fleet lease",
        "Nothing is decided. Is a controller running, and can it write to its store?",
    ),
    Alert(
        "SalvusQueueOld",
        "max by (instance) (salvus_queue_oldest_seconds) > 120",
        "5m",
        "warning",
        "A machine has waited {{ $value | humanizeDuration }} for its pass",
        "Machines that hang take up the workers, or there are too few of these.",
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "salvus",
        "uid": "salvus",
        "description": "Made by tools/dashboards.py: change it there.",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "title": panel.title,
        "description": panel.description,
        "type": panel.type,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }


def rules() -> dict[str, Any]:
    """The alerting rules as Prometheus reads them."""
    return {"groups": [{"name": "salvus", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.wait,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.description},
    }


def expressions() -> list[str]:
    """Everything that is asked of Prometheus."""
    return [expression for panel in PANELS for expression, _ in panel.queries] + [one.expression for one in ALERTS]


def files() -> dict[str, str]:
    """File name → text."""
    head = "# Made by tools/dashboards.py: change it there.\n"
    return {
        "salvus.json": json.dumps(dashboard(), indent=2) + "\n",
        "rules.yaml": head + yaml.safe_dump(rules(), sort_keys=False, width=120),
    }


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
