import pytest

from conformance.catalog import MUST, READS, Source, requirement, requirement_of


def make(id="PRIO-03", sources=("guide-5",), remedy="Raise it."):
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


def test_a_cited_source_is_known_with_its_title_and_place():
    [source] = requirement_of(make(sources=["guide-5"])).sources

    assert (source.id, source.url) == ("guide-5", "docs/guide.md#part-5")
    assert "RBAC" in source.title


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match="PRIO-03 cites unknown sources: guide-9"):
        make(sources=["guide-5", "guide-9"])


def test_a_requirement_of_ones_own_brings_its_own_source():
    own = Source("own", "Our own rules", "https://example.com/rules")

    assert requirement_of(make(sources=[own])).sources == (own,)


@pytest.mark.parametrize(
    "lack", [{"title": ""}, {"url": "http://example.com"}, {"url": "README.md"}, {"url": ""}, {"id": ""}]
)
def test_a_source_that_nobody_could_follow_is_refused(lack):
    with pytest.raises(ValueError, match="needs a title and a url"):
        Source(**{"id": "own", "title": "Our own rules", "url": "https://example.com/rules", **lack})
