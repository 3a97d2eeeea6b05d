import pytest
from fleet import Drafted


@pytest.fixture
def drafted(tmp_path):
    """The draft of some objects, written and loaded again."""
    return lambda *objects: Drafted(tmp_path / "draft", *objects)
