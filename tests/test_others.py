"""Updates to 99% validation accuracy that others have reported: ours are to lie near them. They were never tuned to."""

import pytest

from grok_lib import paths
from grok_lib.paper import analysis
from grok_lib.runs import results
from grok_lib.specs import RunSpec

# Another mixture of pre- and post-LN and weight decay 0.5, 3 seeds: the baseline of SakanaAI/AI-Scientist's template
# "grokking".
TEMPLATE = {("x/y", 0.5): 4200, ("x-y", 0.5): 4720, ("x+y", 0.5): 2363}
# Weight decay 1, one run a point, rounded: a course project's.
STUDENTS = {("x+y", 0.3): 3600, ("x+y", 0.5): 1300, ("x+y", 0.8): 600}


@pytest.mark.parametrize("setting, theirs", [*TEMPLATE.items(), *STUDENTS.items()], ids=str)
def test_the_median_of_what_is_shipped_is_within_a_factor_of_two_of_what_others_have(setting, theirs):
    operation, fraction = setting
    spec = RunSpec(operation=operation, train_fraction=fraction, steps=5000, stop="solved")
    ours = analysis.median_step(results.stored([spec.but(seed=seed) for seed in range(3)], paths.RESULTS)).value
    assert theirs / 2 <= ours <= 2 * theirs
