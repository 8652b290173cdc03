"""Prints the plan: what will be built, and why."""

from mlship.console import out
from mlship.image.plan import BuildPlan


def show_plan(plan: BuildPlan) -> None:
    out(f"{plan.tag} for {plan.platform}, Python {plan.python}", style="bold")
    out()
    width = max(len(reason.topic) for reason in plan.reasons)
    for reason in plan.reasons:
        out(f"  {reason.topic:<{width}}  {reason.choice}")
        for line in reason.why.splitlines():
            out(f"  {'':<{width}}    {line}", style="dim")
    out()
    out(f"  runs    {' '.join(plan.command)}")
    out(f"  code    {', '.join(plan.source)}")
    out(f"  probes  {plan.health.url} within {plan.health.start_period} s of the start")
    out()
    out("`mlship dockerfile` prints the Dockerfile, `mlship build` builds and proves the image.", style="dim")
