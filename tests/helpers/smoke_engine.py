"""A scripted engine for build, smoke and rebuild."""

from mlship.engine.base import RunRequest
from tests.helpers.fakes import Script
from tests.helpers.smoke_events import MODEL, SERVE
from tests.helpers.smoke_scripts import Served, lines_of


class Engine(Served):
    """Gives the same answer to every command in its containers."""

    model = Script(lines_of(*MODEL.events))

    def start(self, request: RunRequest) -> str:
        part = request.command[3] if request.command else "server"
        says = {"model": self.model, "client": Script(lines_of(*SERVE.events)), "server": Script(ends=None)}
        self.scripts = {**self.scripts, request.command: says[part]}
        return super().start(request)
