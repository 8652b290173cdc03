"""Rules about an engine that does not start, or cannot start GPU containers, recognized by its own messages."""

import re
from shlex import quote

from mlship.doctor import commands
from mlship.doctor.container import is_rootless, is_snap
from mlship.doctor.facts.fact import each, is_absent, known, looked_up
from mlship.doctor.facts.facts import Facts
from mlship.doctor.finding import Decider, Evidence, Finding, Step
from mlship.doctor.queries import line_of
from mlship.doctor.rules.base import Rule
from mlship.doctor.versions import version_numbers

_NO_BINARY = re.compile(
    r"nvidia-container-(runtime|toolkit|runtime-hook)\S*:? (executable file not found|no such file)"
    r"|(fork/exec|exec:|stat) \S*nvidia-container-\S+.*(not found|no such file)|nvidia-container-\S+ did not terminate"
)
_BAD_JSON = r"unable to configure the Docker daemon with file|invalid character .*(daemon\.json|object key)"
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
            certain=bool(error or logged),
            decides=(Decider("host.docker.daemon_json", f"python3 -m json.tool {quote(path)}"),),
            cause=f"{path} is not valid JSON{f': {error}' if error else ''}. dockerd does not start with it.",
            fix=(
                Step("Fix the file where this command reports an error:", (f"python3 -m json.tool {quote(path)}",)),
                Step("Then start Docker:", (commands.restart_engine(facts),)),
            ),
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
            certain=gone,
            decides=(Decider("host.toolkit.binaries", "command -v nvidia-container-runtime"),),
            cause="The engine is configured with the nvidia runtime, but nvidia-container-runtime is not on its PATH.",
            fix=(
                Step(
                    "Install the toolkit (from NVIDIA's repository), and restart the engine:",
                    (commands.install_command(facts, "nvidia-container-toolkit"), commands.restart_engine(facts)),
                ),
                Step("Or, if no GPU is needed, remove the runtime and default-runtime from daemon.json.", instead=True),
            ),
            evidence=(Evidence("host.toolkit.version", "not installed") if is_absent(toolkit.version) else None, line),
        )


class SocketPermission(Rule, id="docker-socket-permission"):
    def look(self, facts: Facts) -> Finding | None:
        line = line_of(facts, _NO_SOCKET)
        if line is None or is_rootless(facts) or known(facts.host.docker.version) is not None:
            return None
        return self.found(
            certain=False,
            decides=(Decider("host.docker.version", "id -nG; docker info"),),
            cause="The user is not in the group that may use Docker's socket.",
            fix=(
                Step("Join the group, then log out and in again:", ("sudo usermod -aG docker $USER",)),
                Step("Or start the container as root, with sudo docker run ...", instead=True),
            ),
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
        upgrade = "nvidia-container-toolkit libnvidia-container-tools libnvidia-container1"
        return self.found(
            certain=certain,
            decides=(
                Decider("host.toolkit.cli_version", "nvidia-container-cli --version; stat -fc %T /sys/fs/cgroup"),
            ),
            cause=f"libnvidia-container{f' {version}' if version else ''} supports only cgroup v1; this host uses v2.",
            fix=(
                Step(
                    "Upgrade the toolkit (from NVIDIA's repository):",
                    (commands.install_command(facts, upgrade), commands.restart_engine(facts)),
                ),
            ),
            evidence=(Evidence("host.toolkit.cli_version", version) if version else None, line),
        )
