"""Operations that are left as they are, and why: what they touch stays."""

from collections.abc import Mapping
from types import MappingProxyType

from workers.engine.channels import Call, Opaque, Rule, Work
from workers.engine.ids import Tensor
from workers.engine.rules.operations.classes import CLASSES

FUNCTION = "runs a Python function, whose part in the model cannot be read"
KERNEL = "convolves with a kernel that is no weight of a layer"
POSITIONS = "takes each of its values for a position, a bin or an index"
MATRIX = "takes what it is given for matrices, of which no row or column may go"
SPECTRUM = "reads an axis as a signal in time"
COLOURS = "mixes the channels of an image by fixed weights"
WHOLE = "gives a figure of its whole input"
LOSS = "compares whole distributions, as a loss does"
FIXED = "makes a tensor whose size does not follow from units"

REASONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("Map", "Scan", "AssociativeScan", "Switch", "WhileLoop", "ForiLoop", "Cond"), FUNCTION
        ),
        **dict.fromkeys(("VectorizedMap", "JVP"), FUNCTION),
        **dict.fromkeys(("Conv", "DepthwiseConv", "SeparableConv", "ConvTranspose"), KERNEL),
        **dict.fromkeys(
            ("Bincount", "Scatter", "ScatterUpdate", "SliceUpdate", "SearchSorted", "Histogram"),
            POSITIONS,
        ),
        **dict.fromkeys(
            ("TakeAlongAxis", "UnravelIndex", "Nonzero", "Unique", "Vander"), POSITIONS
        ),
        **dict.fromkeys(("MapCoordinates", "InTopK", "MultiHot", "ExtractPatches"), POSITIONS),
        **dict.fromkeys(("Unfold", "Fold", "ScaleAndTranslate", "SobelEdges"), POSITIONS),
        **dict.fromkeys(
            ("SegmentReduction", "SegmentSum", "SegmentMax", "SegmentMin", "SegmentProd"), POSITIONS
        ),
        **dict.fromkeys(
            ("Cholesky", "CholeskyInverse", "Det", "Eig", "Eigh", "Inv", "LuFactor", "Qr"), MATRIX
        ),
        **dict.fromkeys(
            ("Solve", "SolveTriangular", "SVD", "Lstsq", "MatrixRank", "Pinv", "Logdet"), MATRIX
        ),
        **dict.fromkeys(("Slogdet", "Diag", "Diagflat", "Diagonal", "Trace", "Kron"), MATRIX),
        **dict.fromkeys(("Cross", "Corrcoef", "CDist", "Vdot"), MATRIX),
        **dict.fromkeys(
            ("FFT", "FFT2", "IFFT2", "RFFT", "IRFFT", "STFT", "ISTFT", "ExtractSequences"), SPECTRUM
        ),
        **dict.fromkeys(("Correlate", "Trapezoid"), SPECTRUM),
        **dict.fromkeys(("RGBToGrayscale", "RGBToHSV", "HSVToRGB"), COLOURS),
        **dict.fromkeys(("AllClose", "Size", "Ndim", "PSNR", "SSIM"), WHOLE),
        **dict.fromkeys(
            ("CategoricalCrossentropy", "SparseCategoricalCrossentropy", "CTCLoss", "CTCDecode"),
            LOSS,
        ),
        **dict.fromkeys(
            ("Arange", "EmptyLike", "Full", "Geomspace", "Linspace", "Logspace", "Meshgrid"), FIXED
        ),
        "View": "reads the bits of its input as another type",
        "ViewAsComplex": "reads pairs of numbers as complex ones",
        "ViewAsReal": "writes complex numbers as pairs",
        "Rearrange": "is not followed through its pattern: say it as reshape and transpose",
    }
)
"""By the name of the class."""


def _refuse(call: Call) -> Tensor:
    reason = REASONS[type(call.layer).__name__]
    if reason is KERNEL:
        # How much work is left of it is not known.
        call.walk.works.append(Work(call.key, 0, (), exact=False))
    raise Opaque(f"{call.key} {reason}")


RULES: Mapping[type, Rule] = MappingProxyType(
    {CLASSES[name]: _refuse for name in REASONS if name in CLASSES}
)
