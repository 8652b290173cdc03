"""Rules about an engine that does not start, or cannot start GPU containers, recognized by its own messages."""

import re

from mlship.doctor.container import is_rootless, is_snap
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Evidence, Finding
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import version_numbers

_NO_BINARY = re.compile(
    r"nvidia-container-(runtime|toolkit|runtime-hook)\S*:? (executable file not found|no such file)"
    r"|(fork/exec|exec:|stat) \S*nvidia-container-\S+.*(not found|no such file)|nvidia-container-\S+ did not terminate"
)
_BAD_JSON = r"unable to configure the Docker daemon with file|invalid character .*(daemon\.json|object key)"
_NO_CLI = (
    r"couldn't find binary nvidia-container-cli|stat [^ ]*nvidia-container-cli: no such file"
    r"|exec: [\\\"']*[^ \\\"']*nvidia-container-cli[\\\"']*: (executable file not found|stat|no such file)"
)
_NO_SOCKET = (
    r"permission denied while trying to connect to the Docker (daemon|API)|dial unix \S*docker\.sock.*permission"
)
_OLD_CGROUPS = r"cgroup subsystem devices not found|failed to get device cgroup mount path"
_KNOWS_CGROUP_2 = (1, 8)


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


class RuntimeBinaryMissing(Rule, id="nvidia-runtime-binary-missing"):
    def look(self, facts: Facts) -> Finding | None:
        line, toolkit = line_of(facts, _NO_BINARY.pattern), facts.host.toolkit
        if line is None or is_snap(facts):
            return None
        gone = is_absent(toolkit.version) or is_absent(looked_up(toolkit.binaries, "nvidia-container-runtime"))
        return self.found(
            facts,
            certain=gone,
            evidence=(Evidence("host.toolkit.version", "not installed") if is_absent(toolkit.version) else None, line),
        )


class ContainerCliMissing(Rule, id="container-cli-missing"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, _NO_CLI)
        if line is None:
            return None
        gone = is_absent(looked_up(facts.host.toolkit.binaries, "nvidia-container-cli"))
        return self.found(
            facts,
            {"gone": gone},
            evidence=(Evidence("host.toolkit.binaries", "nvidia-container-cli: missing") if gone else None, line),
        )


class SocketPermission(Rule, id="docker-socket-permission"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, _NO_SOCKET)
        if line is None or is_rootless(facts) or known(facts.host.docker.version) is not None:
            return None
        return self.found(
            facts,
            certain=False,
            evidence=(line,),
        )


class OldToolkitWithCgroup2(Rule, id="toolkit-older-than-cgroup-v2"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, _OLD_CGROUPS)
        version = known(facts.host.toolkit.cli_version) or known(facts.host.toolkit.version)
        if (
            line is None
            or known(facts.kernel.cgroup_version) == 1
            or (version and version_numbers(version) >= _KNOWS_CGROUP_2)
        ):
            return None
        certain = version is not None and known(facts.kernel.cgroup_version) is not None
        return self.found(
            facts,
            {"version": version},
            certain=certain,
            evidence=(Evidence("host.toolkit.cli_version", version) if version else None, line),
        )
