"""Every rule, lowest layer first. A rule stands in the module of its layer, and its module's RULES names it."""

from mlship.doctor.rules import (
    capabilities,
    cdi,
    container,
    devices,
    docker,
    driver,
    image,
    kernel,
    require,
    toolkit,
    toolkit_config,
)
from mlship.doctor.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *(*kernel.RULES, *driver.RULES, *devices.RULES),
    *(*toolkit.RULES, *toolkit_config.RULES, *cdi.RULES),
    *(*docker.RULES, *capabilities.RULES, *container.RULES),
    *(*image.RULES, *require.RULES),
)
