"""The pruning engine: keras and numpy only.

Walk a model (`analyse`, `count`), choose what goes (`begin`, `choose`), foresee it (`predict`),
carry it out on a copy (`apply`), prove it (`prove`), hold masks while training (`constrain`), and
remove what the zeros have made superfluous (`shrink`). Layers of KerasHub are first replaced by
the layers they are made of (`inlined`).
Criteria that look at data choose by `Evidence`, which `observe` collects.
"""

from workers.engine.analysis import Analysis, LayerAnalysis, analyse
from workers.engine.counting import Counts, LayerCounts
from workers.engine.cut import Cut, DepthCut, LayerCut, Progress, UnitCut, WeightCut
from workers.engine.equality import Equality, prove, prove_same
from workers.engine.evidence import Evidence, observe
from workers.engine.inlining import Inlined, inlined
from workers.engine.masks import constrain, masks_by_variable, unconstrain
from workers.engine.prediction import Prediction, count, predict
from workers.engine.schedules import shares
from workers.engine.selection import begin, choose
from workers.engine.shrink import Shrunk, shrink
from workers.engine.surgery import apply

__all__ = [
    "Analysis",
    "Counts",
    "Cut",
    "DepthCut",
    "Equality",
    "Evidence",
    "Inlined",
    "LayerAnalysis",
    "LayerCounts",
    "LayerCut",
    "Prediction",
    "Progress",
    "Shrunk",
    "UnitCut",
    "WeightCut",
    "analyse",
    "apply",
    "begin",
    "choose",
    "constrain",
    "count",
    "inlined",
    "masks_by_variable",
    "observe",
    "predict",
    "prove",
    "prove_same",
    "shares",
    "shrink",
    "unconstrain",
]
