"""Every rule, lowest layer first. A rule stands in the module of its layer, and its module's RULES names it."""

from mlship.doctor.rules import builds, devices, driver, framework, image, kernel, libraries, loading, tags, toolkit
from mlship.doctor.rules.base import Rule

RULES: tuple[Rule, ...] = (
    *(*kernel.RULES, *driver.RULES, *devices.RULES, *toolkit.RULES),
    *(*image.RULES, *loading.RULES, *tags.RULES),
    *(*framework.RULES, *libraries.RULES, *builds.RULES),
)
