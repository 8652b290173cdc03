"""Django projects: their settings name modules and apps by strings, so the whole project is served.

https://docs.djangoproject.com/en/5.2/howto/deployment/
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from mlship.init.sources import Module, is_served, reachable
from mlship.init.working_folder import WorkingFolder

DJANGO_ROUTES = (
    "routes of Django are not read: the route that takes the sample must need no CSRF token and no login "
    "(`@csrf_exempt`), and `ALLOWED_HOSTS` must allow `localhost` and `127.0.0.1`"
)


def is_django(entry: Module) -> bool:
    """Whether a module has the application of a Django project."""
    return any(app.kind.startswith("django") for app in entry.apps)


def project_modules(entry: Module, modules: Mapping[str, Module]) -> tuple[Module, ...]:
    """The packages beside that of the settings, which may be apps, and what they import."""
    inside = (name for name, module in modules.items() if is_served(module.path) and _is_package(module, entry))
    return reachable(inside, modules)


def django_folder(entry: Module) -> WorkingFolder | None:
    """Where the server runs: modules have their names below the project's folder."""
    folder = _project(entry)
    return WorkingFolder(folder, "which Django's settings name modules from") if folder != "." else None


def _project(entry: Module) -> str:
    return PurePosixPath(entry.path).parent.parent.as_posix()


def _is_package(module: Module, entry: Module) -> bool:
    """Whether a file is in a folder of the project."""
    folders = {parent.as_posix() for parent in PurePosixPath(module.path).parent.parents}
    return _project(entry) in folders
