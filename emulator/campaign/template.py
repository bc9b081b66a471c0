"""The commented campaign.toml that `emulator init` prints."""

TEMPLATE = """\
# A fault-injection campaign. Run it:     emulator run campaign.toml
# See what it will do, without trials:    emulator run campaign.toml --dry-run
# Paths are relative to this file.

model = "model.onnx"        # int8 ONNX, QDQ or QOperator
inputs = "test.npz"         # array named like the model's input, or `inputs`; optional `labels`
# shape = ["x=1,3,224,224"] # where an input has free dimensions other than the batch
# answer = "logits"         # output that is the answer; default: the first of several real numbers
output = "runs/campaign"    # rerun with the same output to resume

array = "gemmini-16"        # a preset, or a .toml file with ArraySpec fields
# registers = ["pe_a", "pe_b", "pe_d", "pe_c1", "pe_c2", "accumulator"]   # default: all
# layers = ["conv1", 3]     # by name or index; default: all
kind = "flip"               # transient single-bit flip

sampler = "importance"      # or "uniform", "stratified", "adaptive", "sweep": by classes; "exhaustive": every site
# alpha = 0.5               # share of plain uniform draws; bounds every weight by 1 / alpha
# candidates = 16           # importance: sites scored for each trial
# lookahead = 2             # importance: layers propagated exactly before gradients take over
# learn = false             # importance: learn from the first 28,000 trials
# sensitivity = "gradient"  # importance: or "finite-difference", slower, where an operator has no gradient
# unsolved = 0.001          # importance, sweep: chance given to sites that only the cycle engine can judge
# floor = 1e-4              # importance, sweep: preference for sites predicted harmless; stratified: 25 trials
# prior = 20                # adaptive: what was known before weighs as much as so many critical faults

trials = 10000              # stop after so many trials ...
# until_ci = 0.001          # ... or when the 95 % interval of SDC-1 has this half-width ...
# max_time = 3600           # ... or so many seconds; a run that resumes has them again ...
# min_critical = 100        # ... or when so many distinct faults changed the answer. Without `trials`: no limit of them
# limit = 100               # use only the first images of `inputs`
seed = 0
workers = "auto"            # processes, dask://HOST:PORT or dask-local; results do not depend on it
# memory = "4GB"            # all processes together, on a cluster each worker; default: half of what is free, 4 GB
"""
