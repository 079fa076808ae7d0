"""Names of Keras 3.15 that a config may hold beside layers. Tests compare them with Keras.

Pairs are exact: Keras looks up `module.class_name` among all that it exports, and what it
exports includes downloaders, file editors and setters of global state.
"""

from collections.abc import Mapping
from types import MappingProxyType

from app.intake.known import KNOWN_LAYERS, PYTHON_NAMES


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name for line in lines for name in line.split())


INITIALIZERS = _names(
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer",
    "LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform",
    "STFT STFTInitializer TruncatedNormal VarianceScaling Zeros",
    "constant glorot_normal glorot_uniform he_normal he_uniform identity lecun_normal",
    "lecun_uniform ones orthogonal random_normal random_uniform stft truncated_normal",
    "variance_scaling zeros",
)
REGULARIZERS = _names(
    "L1 L1L2 L2 OrthogonalRegularizer l1 l1_l2 l2 orthogonal_regularizer",
)
CONSTRAINTS = _names(
    "MaxNorm MinMaxNorm NonNeg UnitNorm max_norm min_max_norm non_neg unit_norm",
)
POLICIES = _names(
    "AWQDTypePolicy DTypePolicy DTypePolicyMap FloatDTypePolicy GPTQDTypePolicy Int4DTypePolicy",
    "QuantizedDTypePolicy QuantizedFloat8DTypePolicy",
)
"""The quantised ones are refused later, in words of their own."""
DTYPES = _names(
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64",
    "complex64 complex128 string mixed_float16 mixed_bfloat16",
)
VALUES = _names("__keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__")
"""How Keras writes tensors, arrays and slices; none of them is looked up anywhere."""

CALLING = _names(
    "AssociativeScan Cond ForiLoop Function JVP Map Operation Scan Switch VectorizedMap WhileLoop",
)
"""Operations that call functions given to them."""
_CORE = _names(
    "Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient",
    "Unstack",
)
_IMAGE = _names(
    "AffineTransform CropImages ElasticTransform ExtractPatches GaussianBlur HSVToRGB",
    "MapCoordinates PadImages PerspectiveTransform RGBToGrayscale RGBToHSV Resize SSIM",
    "ScaleAndTranslate SobelEdges",
)
_LINALG = _names(
    "Cholesky CholeskyInverse Det Eig Eigh Inv Lstsq LuFactor MatrixRank Norm Pinv Qr SVD Solve",
    "SolveTriangular",
)
_MATH = _names(
    "CDist Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logdet Logsumexp",
    "RFFT Rsqrt STFT SegmentMax SegmentMin SegmentProd SegmentReduction SegmentSum TopK",
    "ViewAsComplex ViewAsReal",
)
_NN = _names(
    "AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm BinaryCrossentropy CTCDecode",
    "CTCLoss CategoricalCrossentropy Celu Conv ConvTranspose DepthToSpace DepthwiseConv",
    "DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm",
    "LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot Normalize OneHot PSNR Polar RMSNorm",
    "Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign SpaceToDepth",
    "SparseCategoricalCrossentropy SparsePlus SparseSigmoid Sparsemax Squareplus TanhShrink",
    "Threshold Unfold",
)
_NUMPY = _names(
    "Abs Absolute Add All AllClose Amax Amin Angle Any Append Arange Arccos Arccosh Arcsin Arcsinh",
    "Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit Average Bincount",
    "BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor",
    "BroadcastTo Cbrt Ceil Clip Concatenate Conj Conjugate Copy Corrcoef Correlate Cos Cosh",
    "CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagflat Diagonal Diff Digitize Divide",
    "DivideNoNan Dot Dsplit Dstack Einsum EmptyLike Equal Exp Exp2 ExpandDims Expm1 Fabs Flip",
    "Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Full FullLike Gcd Geomspace GetItem Greater",
    "GreaterEqual Heaviside Histogram Hsplit Hstack Hypot I0 Imag Inner IsIn Isclose Isfinite",
    "Isinf Isnan Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Less LessEqual Linspace Log",
    "Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor Logspace",
    "Matmul Max Maximum Mean Median Meshgrid Min Minimum Mod Moveaxis Multiply NanToNum Nanargmax",
    "Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod",
    "Nanquantile Nanstd Nansum Nanvar Ndim Negative Nextafter Nonzero NotEqual OnesLike Outer Pad",
    "Percentile Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape RightShift",
    "Roll Rot90 Round SearchSorted Select Sign Signbit Sin Sinc Sinh Size Slogdet Sort Split Sqrt",
    "Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile",
    "Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unique UnravelIndex Vander Var Vdot View",
    "Vsplit Vstack Where ZerosLike",
)
OPERATIONS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "keras.src.ops.core": _CORE,
        "keras.src.ops.einops": _names("Rearrange"),
        "keras.src.ops.image": _IMAGE,
        "keras.src.ops.linalg": _LINALG,
        "keras.src.ops.math": _MATH,
        "keras.src.ops.nn": _NN,
        "keras.src.ops.numpy": _NUMPY,
    }
)
CLASSES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **OPERATIONS,
        "keras": _names("Sequential DTypePolicy FloatDTypePolicy QuantizedDTypePolicy"),
        "keras.models": _names("Sequential"),
        "keras.src.models.functional": _names("Functional"),
        "keras.src.models.sequential": _names("Sequential"),
        "keras.layers": KNOWN_LAYERS | frozenset(PYTHON_NAMES.values()),
        "keras.initializers": INITIALIZERS,
        "keras.regularizers": REGULARIZERS,
        "keras.constraints": CONSTRAINTS,
        "keras.dtype_policies": POLICIES,
        # Two layers of keras.applications without a public name.
        "keras.src.applications.convnext": _names("LayerScale"),
        "keras.src.applications.inception_resnet_v2": _names("CustomScaleLayer"),
    }
)
"""Classes by the module that Keras writes beside them."""
FUNCTION_MODULES = _names("builtins keras.activations keras.src.activations.activations")
BARE = KNOWN_LAYERS | frozenset(PYTHON_NAMES.values()) | INITIALIZERS | REGULARIZERS
BARE_CLASSES = BARE | CONSTRAINTS | POLICIES | VALUES
"""Classes that `.h5` files name without a module."""
