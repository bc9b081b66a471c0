"""What the samplers were to reach, and what they reach: rows of docs/sampling_study.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BASELINES = ("uniform", "bit-only", "isimdl", "gradient", "bfa")
OURS = "lookahead"


@dataclass(frozen=True, kw_only=True)
class Target:
    """what: of which network and register; wanted: at least so much, or at most; found: None while it is not
    measured."""

    what: str
    wanted: float
    found: float | None
    at_most: bool = False

    @property
    def verdict(self) -> str:
        if self.found is None:
            return "not measured"
        reached = self.found <= self.wanted if self.at_most else self.found >= self.wanted
        return "reached" if reached else "missed"


def targets_of(
    ranks: dict[str, Any], campaigns: dict[str, Any], replays: dict[str, Any], truth_seconds: dict[str, float]
) -> list[Target]:
    """ranks, campaigns: by the name of the study, as in ranks-NAME.json and campaigns-NAME-REGISTER.json;
    replays: by register; truth_seconds: of an image, likewise."""

    def score(study: str, register: str, name: str) -> dict[str, Any] | None:
        if study not in ranks:
            return None
        found: dict[str, Any] = ranks[study]["registers"][register]["classes"]["scores"][name]
        return found

    def ranked(what: str, study: str, register: str, name: str, figure: Any, wanted: float) -> Target:
        found = score(study, register, name)
        return Target(what=what, wanted=wanted, found=figure(found) if found else None)

    def drawn(what: str, register: str, figure: Any, wanted: float) -> Target:
        study = campaigns.get(f"resnet20-{register}")
        return Target(what=what, wanted=wanted, found=figure(study["samplers"]) if study else None)

    replayed = [found for one in replays.values() for found in one["samplers"].values()]
    large = [found["10000"]["coverage"] for found in replayed]
    # The other alphas are there to show what they cost.
    usual = [
        found["10000"]["coverage"]
        for one in replays.values()
        for name, found in one["samplers"].items()
        if "alpha=" not in name
    ]
    return [
        Target(
            what="ResNet-20: seconds for the truth of an image, accumulators and partial sums",
            wanted=60, found=truth_seconds.get("resnet20"), at_most=True,
        ),
        ranked(
            "ResNet-20, accumulators: P@1000 as a share of its ceiling", "resnet20", "accumulator", OURS,
            lambda s: s["precision_1000"] / s["ceiling"], 0.85,
        ),
        ranked("... AUPRC from gradients alone", "resnet20", "accumulator", "gradients", auprc, 0.40),
        ranked("... AUPRC with lookahead (stretch .65)", "resnet20", "accumulator", OURS, auprc, 0.55),
        ranked("... AUPRC, fitted on other images", "resnet20", "accumulator", "fitted", auprc, 0.55),
        ranked(
            "... recall within 5 % of the flips", "resnet20", "accumulator", OURS, lambda s: s["recall"][8], 0.98
        ),
        ranked("ResNet-20, partial sums: AUPRC", "resnet20", "pe_b", OURS, auprc, 0.65),
        ranked("digits, accumulators: AUPRC", "digits", "accumulator", OURS, auprc, 0.95),
        drawn("ResNet-20, accumulators: VRF a trial (stretch 25)", "accumulator", a_trial, 15),
        Target(
            what="... beside Neyman's allocation with the true rates (stretch 10)",
            wanted=7, found=beside_neyman(ranks, campaigns),
        ),
        drawn("... VRF a second, 100,000 trials", "accumulator", a_second, 2),
        drawn("ResNet-20, partial sums: VRF a trial", "pe_b", a_trial, 15),
        Target(
            what="2,000 replays: the largest bias of all, in standard errors",
            wanted=3, found=max(abs(found["bias_z"]) for found in replayed), at_most=True,
        ),
        Target(
            what="coverage at 1,000 trials, the lowest of all",
            wanted=0.93,
            found=min(found["1000"]["coverage"] for found in replayed),
        ),
        Target(what="coverage at 10,000 trials, the lowest of all", wanted=0.94, found=min(large)),
        Target(what="... the mean of samplers as they are", wanted=0.94, found=sum(usual) / len(usual)),
        Target(what="... the same", wanted=0.965, found=sum(usual) / len(usual), at_most=True),
        Target(
            what="share of networks and registers where our AUPRC is above every baseline's",
            wanted=0.9,
            found=share_won(ranks, lambda s: s["auprc"]),
        ),
        Target(
            what="... where our VRF is",
            wanted=0.9,
            found=share_won(ranks, lambda s: s["variance_reduction"]["0.5"]),
        ),
    ]  # fmt: skip


def auprc(score: dict[str, Any]) -> float:
    return float(score["auprc"])


def a_trial(samplers: dict[str, Any]) -> float:
    return float(samplers["importance"]["reduction_a_trial"])


def a_second(samplers: dict[str, Any]) -> float:
    return float(samplers["importance"]["reduction_a_second"])


def beside_neyman(ranks: dict[str, Any], campaigns: dict[str, Any]) -> float | None:
    """What a draw of `importance` is worth in draws of an allocation that nobody has before the campaign."""
    study, ranked = campaigns.get("resnet20-accumulator"), ranks.get("resnet20")
    if study is None or ranked is None:
        return None
    neyman = float(ranked["registers"]["accumulator"]["flips"]["neyman"])
    return a_trial(study["samplers"]) / neyman


def share_won(ranks: dict[str, Any], figure: Any) -> float:
    """Of all networks and registers."""
    cells = [found["flips"]["scores"] for study in ranks.values() for found in study["registers"].values()]
    won = [all(figure(scores[OURS]) > figure(scores[name]) for name in BASELINES) for scores in cells]
    return sum(won) / len(won)
