"""Random graphs pruned at random ratios: equality, prediction, shapes and reload always hold."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workers.engine import graphs


@settings(
    max_examples=25,  # `make bench` takes 500.
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.data())
def test_random_graphs_keep_the_laws(data: st.DataObject) -> None:
    def draw(below: int) -> int:
        return data.draw(st.integers(0, below - 1))

    model = graphs.build(draw)
    with TemporaryDirectory() as folder:
        graphs.check(model, graphs.spec(draw), Path(folder))
