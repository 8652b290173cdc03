"""The parts of a deployment that read metrics. Pure.

https://prometheus-operator.dev/docs/api-reference/api/
https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics
"""

from collections.abc import Mapping

from mlship.yaml_text import Yaml

_MINUTES = 5
_ERROR_SHARE = 0.01


def pod_monitor(selector: Mapping[str, Yaml], path: str) -> dict[str, Yaml]:
    """Scrapes the metrics of every pod."""
    return {"selector": {"matchLabels": dict(selector)}, "podMetricsEndpoints": [{"port": "http", "path": path}]}


def autoscaler(name: str, metric: str, target: int, least: int, most: int) -> dict[str, Yaml]:
    """Scales by requests in flight: CPU says little about a model that waits for a GPU or runs one batch at a time."""
    pods: dict[str, Yaml] = {"metric": {"name": metric}}
    pods["target"] = {"type": "AverageValue", "averageValue": str(target)}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Pods", "pods": pods}],
    }


def prometheus_rule(name: str, namespace: str | None, requests: str | None, startup_seconds: int) -> dict[str, Yaml]:
    """Alerts about a server that fails, is not ready, or restarts."""
    space = f'namespace="{namespace}",' if namespace else ""
    pods = f'{space}pod=~"{name}-[^-]+-[^-]+"'
    of = f'{space}deployment="{name}"'
    rules: list[Yaml] = []
    if requests:
        failed, every = f'{requests}{{{pods},status=~"5.."}}', f"{requests}{{{pods}}}"
        share = f"sum(rate({failed}[{_MINUTES}m])) / sum(rate({every}[{_MINUTES}m])) > {_ERROR_SHARE}"
        rules.append(_rule("ModelServerErrors", share, _MINUTES * 60, f"more than 1 % of {name}'s responses are 5xx"))
    missing = f"kube_deployment_status_replicas_available{{{of}}} < kube_deployment_spec_replicas{{{of}}}"
    wait = max(_MINUTES * 60, startup_seconds)
    rules.append(_rule("ModelServerNotReady", missing, wait, f"pods of {name} are not ready"))
    restarts = f'increase(kube_pod_container_status_restarts_total{{{pods},container="server"}}[15m]) > 0'
    rules.append(_rule("ModelServerRestarts", restarts, 0, f"a container of {name} restarted"))
    return {"groups": [{"name": name, "rules": rules}]}


def _rule(alert: str, expression: str, seconds: int, summary: str) -> dict[str, Yaml]:
    return {
        "alert": alert,
        "expr": expression,
        "for": f"{seconds}s",
        "labels": {"severity": "warning"},
        "annotations": {"summary": summary},
    }
