"""Rules about an engine that does not start, or cannot start GPU containers, recognized by its own messages."""

import re

from mlship.doctor.facts.fact import each, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import Rule

_BAD_JSON = r"unable to configure the Docker daemon with file|invalid character .*(daemon\.json|object key)"


class DaemonJsonBroken(Rule, id="docker-daemon-json-invalid"):
    def look(self, facts: Facts) -> Finding | None:
        file, service = known(facts.host.docker.daemon_json), known(looked_up(facts.host.services, "docker"))
        error = known(file.error) if file else None
        logged = next((line for line in each(service.log) if re.search(_BAD_JSON, line)), None) if service else None
        is_down = known(facts.host.docker.version) is None or (service and known(service.active) != "active")
        line = line_of(facts, _BAD_JSON)
        if not (error or line or logged) or not is_down:
            return None
        path = (known(file.path) if file else None) or "/etc/docker/daemon.json"
        return self.found(
            facts,
            {"path": path, "error": error},
            certain=bool(error or logged),
            evidence=(
                Evidence("host.docker.daemon_json", error) if error else None,
                Evidence("host.services.docker", logged) if logged else None,
                line,
            ),
        )
