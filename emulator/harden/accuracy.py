"""How often a network is right."""

from __future__ import annotations

from emulator.campaign.inputs import Samples
from emulator.graph.golden import Golden
from emulator.graph.load import Network
from emulator.sampling.estimate import Estimate
from emulator.sampling.estimators import proportion


def accuracy(network: Network, samples: Samples) -> Estimate | None:
    """The share of samples whose largest logit, the first of several, is that of the label, with Wilson's interval;
    None without labels."""
    if samples.labels is None:
        return None
    golden = Golden(network.graph)
    answers = golden.answers(map(golden.run, samples.inputs))
    return proportion(answers == samples.labels)
