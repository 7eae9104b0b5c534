"""What is trained: experiments and profiles, read from experiments.yaml and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from differseg_med.errors import UsageError

__all__ = ["DECLARED", "Experiment", "Plan", "Profile", "read_plan"]

DECLARED = Path(__file__).with_name("experiments.yaml")


@dataclass(frozen=True)
class Experiment:
    """One network, or one way to train it.

    Attributes:
        name: its key.
        title: what stands in tables.
        group: ``ours`` or ``peer``.
        overrides: values over the bundle's train.yaml.
        rate_of: experiment whose learning rate it takes; its own name where it searches.
        shipped: whether the bundle's shipped weights are evaluated and nothing is trained.
    """

    name: str
    title: str
    group: str
    overrides: Mapping[str, Any]
    rate_of: str
    shipped: bool = False


@dataclass(frozen=True)
class Profile:
    """How much of everything.

    Attributes:
        name: its key.
        data: ``sts`` for the bundle's own datalist, ``phantom`` for made cases.
        overrides: values over train.yaml that all experiments share.
        seeds: seeds of the trainings.
        learning_rates: candidates of the search.
        search_epochs: length of a search run; no search with one candidate.
        search_overrides: values over `overrides` in search runs.
        search_margin: rates whose Dice is this close to the best are trained to full length.
        robustness_seeds: seeds whose weights the robustness curves are measured with.
        stages: lists of experiments; every list goes through all seeds before the next.
        robustness: experiments that have robustness curves.
        first: the experiment that all others are compared with.
        page: what the page of results and its files are called.
        remark: what the page says of how long these trainings are.
    """

    name: str
    data: str
    overrides: Mapping[str, Any]
    seeds: tuple[int, ...]
    learning_rates: tuple[float, ...]
    search_epochs: int
    search_overrides: Mapping[str, Any]
    search_margin: float
    robustness_seeds: tuple[int, ...]
    stages: tuple[tuple[str, ...], ...]
    robustness: tuple[str, ...]
    first: str
    page: str
    remark: str

    @property
    def experiments(self) -> tuple[str, ...]:
        """All experiments of this profile, in order."""
        return tuple(dict.fromkeys(name for stage in self.stages for name in stage))


@dataclass(frozen=True)
class Plan:
    """Everything that is declared.

    Attributes:
        bundle: name of the bundle.
        profile: the chosen profile.
        experiments: all experiments by name.
    """

    bundle: str
    profile: Profile
    experiments: Mapping[str, Experiment] = field(repr=False)

    def runs(self) -> Iterator[tuple[Experiment, int]]:
        """Experiment and seed of every training, in order."""
        for stage in self.profile.stages:
            for number, seed in enumerate(self.profile.seeds):
                for name in stage:
                    if number == 0 or not self.experiments[name].shipped:
                        yield self.experiments[name], seed


def read_plan(profile: str, path: Path = DECLARED) -> Plan:
    """Read the declaration and choose a profile.

    Raises:
        UsageError: ``E_OPTION`` when there is no such profile, or a name stands for nothing.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if profile not in content["profiles"]:
        known = ", ".join(content["profiles"])
        raise UsageError("E_OPTION", f"there is no profile {profile!r}; there are {known}")
    declared = content["experiments"]
    experiments = {name: _experiment(name, declared) for name in declared}
    values = content["profiles"][profile]
    chosen = Profile(
        name=profile,
        data=values["data"],
        overrides=_shared(values),
        seeds=tuple(values["seeds"]),
        learning_rates=tuple(values["learning_rates"]),
        search_epochs=values["search_epochs"],
        search_overrides=values["search_overrides"],
        search_margin=values["search_margin"],
        robustness_seeds=tuple(values["robustness_seeds"]),
        stages=_stages(values, content),
        robustness=tuple(values.get("robustness", content["robustness"])),
        first=values.get("first", content["first"]),
        page=values.get("page", content["page"]),
        remark=values["remark"],
    )
    for name in (*chosen.experiments, *chosen.robustness, chosen.first):
        if name not in experiments:
            raise UsageError("E_OPTION", f"{path.name} names {name!r}, which it does not declare")
    return Plan(content["bundle"], chosen, experiments)


def _shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """What every training of a profile has in common; the last epoch alone is validated."""
    places = {key: values[key] for key in ("spacing_mm", "patch_size")}
    epochs = values["overrides"]["max_epochs"]
    return {**places, **values["overrides"], "val_interval": epochs}


def _stages(values: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    if "experiments" in values:
        return (tuple(values["experiments"]),)
    return tuple(tuple(stage) for stage in content["stages"])


def _experiment(name: str, declared: Mapping[str, Any]) -> Experiment:
    own = declared[name]
    below = declared[own["like"]]["overrides"] if "like" in own else {}
    return Experiment(
        name=name,
        title=own["title"],
        group=own["group"],
        overrides={**below, **own["overrides"]},
        rate_of=own.get("rate_of", name),
        shipped=own.get("shipped", False),
    )
