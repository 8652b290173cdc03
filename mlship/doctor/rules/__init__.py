"""Every rule, lowest layer first. A rule stands in the module of its layer, and its module's RULES names it."""

from mlship.doctor.rules import (
    devices,
    driver,
    hardware,
    image,
    kernel,
    kernel_install,
    kubernetes,
    mig,
    modes,
    runtimes,
    toolkit,
    wsl,
)
from mlship.doctor.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *(*hardware.RULES, *mig.RULES, *modes.RULES),
    *(*kernel.RULES, *kernel_install.RULES),
    *(*driver.RULES, *devices.RULES, *wsl.RULES),
    *(*toolkit.RULES, *runtimes.RULES),
    *image.RULES,
    *kubernetes.RULES,
)
