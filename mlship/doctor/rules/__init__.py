"""Every rule, lowest layer first. A rule is in the module of its layer, listed in that module's RULES."""

from mlship.doctor.rules import (
    access,
    builds,
    capabilities,
    cdi,
    container,
    devices,
    docker,
    driver,
    driver_fit,
    engine_start,
    faults,
    framework,
    given,
    hardware,
    image,
    kernel,
    kernel_install,
    kubernetes,
    libraries,
    loading,
    mig,
    modes,
    require,
    runtimes,
    startup,
    tags,
    toolkit_config,
    wsl,
)
from mlship.doctor.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *(*hardware.RULES, *startup.RULES, *faults.RULES, *mig.RULES, *modes.RULES),
    *(*kernel.RULES, *kernel_install.RULES, *driver_fit.RULES),
    *(*driver.RULES, *devices.RULES, *wsl.RULES),
    *(*toolkit_config.RULES, *cdi.RULES, *runtimes.RULES),
    *(*docker.RULES, *engine_start.RULES, *access.RULES, *given.RULES, *capabilities.RULES, *container.RULES),
    *(*image.RULES, *loading.RULES, *tags.RULES, *require.RULES),
    *(*framework.RULES, *libraries.RULES, *builds.RULES),
    *kubernetes.RULES,
)
