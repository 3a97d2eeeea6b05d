import pytest

from conformance.catalog import MUST, READS, requirement, requirement_of


def make(id="PRIO-03", sources=("guide part 5",), remedy="Raise it."):
    @requirement(id, "Training preempts", level=MUST, sources=sources, remedy=remedy)
    def test_training_preempts():
        pass

    return test_training_preempts


def test_a_decorated_function_knows_its_requirement():
    rule = requirement_of(make())

    assert (rule.id, rule.profile, rule.effect, rule.feature) == ("PRIO-03", "priorities", READS, "core")


@pytest.mark.parametrize("id", ["PRIO-3", "prio-03", "NOPE-01", "PRIO03", "PRIO-003"])
def test_an_id_that_no_profile_has_is_refused(id):
    with pytest.raises(ValueError, match="PREFIX-NN"):
        make(id)


@pytest.mark.parametrize("lack", [{"sources": ()}, {"remedy": ""}])
def test_a_requirement_nobody_could_act_on_is_refused(lack):
    with pytest.raises(ValueError, match="source and a remedy"):
        make(**lack)
