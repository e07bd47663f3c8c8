"""The rows of the paper as experiments: one file for each section of the paper.

A row's section is in `advlearn.reproduce.paper`, and each file names its rows in its first lines.
Why a row is not reproduced is said there too: in its measure, and in its `remark`.
"""

from __future__ import annotations

from collections.abc import Mapping

from advlearn.reproduce import paper
from advlearn.reproduce.rows import (
    section4_nonlinear_models,
    section5_linear_models,
    section6_adversarial_training,
    section7_model_capacity,
    section8_why_examples_generalise,
    section9_alternative_hypotheses,
    section_a_rubbish_examples,
)
from advlearn.reproduce.rows.experiment import Experiment

SECTIONS = (
    section4_nonlinear_models,
    section5_linear_models,
    section6_adversarial_training,
    section7_model_capacity,
    section8_why_examples_generalise,
    section9_alternative_hypotheses,
    section_a_rubbish_examples,
)
"""The files, in the paper's order."""

_EXPERIMENTS = {one.id: one for section in SECTIONS for one in section.EXPERIMENTS}
EXPERIMENTS: Mapping[str, Experiment] = {id: _EXPERIMENTS[id] for id in paper.ROWS}
"""The rows by id, as `advlearn.reproduce.paper` lists them."""
