"""What MLX's Metal backend has kernels for: operation -> types and shapes of its inputs.

Written down from MLX 0.32.4: `mlx/backend/no_gpu/primitives.cpp` (all operations with a GPU side),
`mlx/backend/metal/*.cpp` (what they ask of types and shapes) and the kernels that come with the
wheel in `mlx/include/mlx/backend/metal/kernels`. Only what our graphs use is listed: an operation
that isn't here must be looked up first. Not on Metal at all: LUF, QRF, SVD, Inverse, Cholesky,
Eigh, Eig; and float64 everywhere (`metal::type_to_name`, and `check_dtype` at the call).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.graph import DEPENDS, VIEWS, Node, Tensor

MLX_VERSION = "0.32.4"
HALVES = frozenset({"float16", "bfloat16"})
FLOATS = HALVES | {"float32"}
INDICES = frozenset({"int32", "uint32"})
BITS = frozenset({"uint8", "uint32"})
NUMBERS = FLOATS | INDICES | BITS | {"bool"}

BANNED_TYPES = {"float64", "int64", "uint64", "complex64"}


def _anything(inputs: list[Tensor]) -> bool:
    return True


@dataclass(frozen=True)
class Kernel:
    """`types`: of the inputs, in any place; `first`: of the first one; `fits`: their shapes."""

    types: frozenset[str] = NUMBERS
    first: frozenset[str] | None = None
    fits: Callable[[list[Tensor]], bool] = field(default=_anything)

    def takes(self, inputs: list[Tensor]) -> bool:
        types = [dtype for _, dtype in inputs]
        of_first = self.first is None or not types or types[0] in self.first
        return set(types) <= self.types and of_first and self.fits(inputs)


def _quantized_product(inputs: list[Tensor]) -> bool:
    """`quantized.cpp`: bits and groups that have kernels; scales of x's type, or bytes."""
    (x, x_type), (w, w_type), (scales, scales_type) = inputs[:3]
    if w_type != "uint32" or scales_type not in {x_type, "uint8"}:
        return False
    return any(
        w[-1] * 32 == width * bits and scales[-1] * group == width
        for bits, group in _QUANTIZED[len(inputs) == 4]
        for width in (x[-1], w[-1] * 32 // bits)
    )


_QUANTIZED = {  # with biases (affine): all of these; without: mxfp4, nvfp4, mxfp8
    True: [(bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)],
    False: [(4, 32), (4, 16), (8, 32)],
}


def _one_block(inputs: list[Tensor]) -> bool:
    """`sort.cpp`: up to 2,048 numbers of 4 bytes are sorted in one kernel."""
    return inputs[0][0][-1] <= 2048


def _vector_attention(inputs: list[Tensor]) -> bool:
    """`scaled_dot_product_attention.cpp`: up to 8 queries, these head widths; else composed."""
    return inputs[0][0][-2] <= 8 and inputs[0][0][-1] in (64, 80, 96, 128, 192, 256)


ELEMENTWISE = (
    *("Abs", "Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum", "Negative", "Square"),
    *("Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Select", "AsType"),
    *("BitwiseBinary", "BitwiseAnd", "LogicalAnd", "LogicalOr", "LogicalNot", "Remainder"),
    *("FloorDivide", "Floor", "Sign", "Round", "Full", "Contiguous", "Copy", "RightShift"),
)
REAL = ("Exp", "Expm1", "Erf", "ErfInv", "Log", "Log1p", "Sigmoid", "Sqrt", "Rsqrt", "Sin", "Cos")
TABLE: dict[str, Kernel] = {
    **{name: Kernel() for name in (*VIEWS, DEPENDS, *ELEMENTWISE)},
    **{name: Kernel(FLOATS) for name in (*REAL, "Tanh", "Power", "LogAddExp")},
    "AddMM": Kernel(FLOATS),
    "Matmul": Kernel(FLOATS),
    "QuantizedMatmul": Kernel(FLOATS | BITS, FLOATS, _quantized_product),
    "Quantize": Kernel(FLOATS | BITS),
    "dequantize": Kernel(FLOATS | BITS),  # codes, scales and biases are read through its stand-in
    "fast norm": Kernel(FLOATS),
    "fast rope": Kernel(FLOATS | {"int32"}, FLOATS),
    "fast attention": Kernel(FLOATS | {"bool"}, FLOATS, _vector_attention),
    "Softmax": Kernel(FLOATS),
    "LogSumExp": Kernel(FLOATS),
    "Arange": Kernel(),
    "ArgReduce": Kernel(FLOATS | INDICES),
    "Reduce": Kernel(),
    "Partition": Kernel(FLOATS, fits=_one_block),
    "Sort": Kernel(FLOATS),
    "Scan": Kernel(FLOATS | INDICES),
    "Gather": Kernel(),
    "GatherAxis": Kernel(),
    "ScatterAxis": Kernel(),
    "SliceUpdate": Kernel(),
    "Concatenate": Kernel(),
    "RandomBits": Kernel(frozenset({"uint32"})),
}


def problems(nodes: list[Node]) -> list[str]:
    """What Metal hasn't, or what must not be in a frame: one line each."""
    found = []
    for node in nodes:
        kinds = {dtype for _, dtype in (*node.inputs, *node.outputs)}
        if wrong := kinds & BANNED_TYPES:
            found.append(f"{node.name} has {', '.join(sorted(wrong))}")
        if node.name not in TABLE:
            found.append(f"{node.name} isn't in the table of Metal's kernels")
        elif not TABLE[node.name].takes(node.inputs):
            found.append(f"{node.name} doesn't take {node.inputs} on Metal")
    return found
