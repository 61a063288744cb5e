"""Short SIMD vectors for compiled kernels: load, store, widen from half, transpose.

LLVM keeps a `Vector` in registers across a loop; a slice of an array would be loaded and stored at every step. LLVM
splits a long vector into the machine's registers, so one kernel serves SSE, AVX2, AVX-512 and NEON. Importing this
module imports numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core import cgutils as numba_cgutils
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.registry import cpu_target
from numba.extending import intrinsic as numba_intrinsic
from numba.extending import register_model

__all__ = [
    "PAIR",
    "PANEL",
    "WIDE",
    "accumulate",
    "element",
    "fill",
    "lanes",
    "load",
    "load_as",
    "load_line",
    "place",
    "prefetch",
    "prefetch_cell",
    "prefetch_far",
    "store",
    "transpose8",
    "word32",
]

cgutils: Any = numba_cgutils
ir = cgutils.ir


def intrinsic(*, prefer_literal: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """numba's decorator, typed: the function it returns takes other arguments than the decorated one."""
    made: Callable[[Callable[..., Any]], Any] = numba_intrinsic(prefer_literal=prefer_literal)
    return made


WIDTH = 8  # of a transposed tile
# Bytes of a vector: eight sums of them stay in registers. AVX-512 has 32 registers of 64 bytes, AVX2 16 of 32.
WIDE = 64 if "+avx512f" in cpu_target.target_context.codegen().magic_tuple()[2] else 32
PAIR = 2 * WIDE  # four sums of so many bytes stay in registers, beside what is added
PANEL = 4 * WIDE  # two sums
LARGEST_HALF = 65504.0


class Vector(types.Type):
    """A vector of `lanes` floats of one type."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class VectorModel(PrimitiveModel):
    """A numba `Vector` is LLVM's `<lanes x float>`."""

    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, llvm_type(fe_type.dtype, fe_type.lanes))  # type: ignore[no-untyped-call]  # numba


def llvm_type(dtype: Any, lanes: int) -> Any:
    element = ir.HalfType() if dtype == types.uint16 else ir.DoubleType() if dtype == types.float64 else ir.FloatType()
    return ir.VectorType(element, lanes)


def address_of(context: Any, builder: Any, array_type: Any, array: Any, row: Any, column: Any) -> Any:
    """The address of array[row, column]. Rows are C-contiguous and lie `strides[0]` bytes apart."""
    struct = context.make_array(array_type)(context, builder, array)
    row_bytes = cgutils.unpack_tuple(builder, struct.strides, 2)[0]
    base = builder.bitcast(struct.data, cgutils.voidptr_t)
    size = context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
    offset = builder.add(builder.mul(row, row_bytes), builder.mul(column, size))
    return builder.gep(base, [offset])


def _float_of(array_type: Any) -> Any:
    return types.float32 if array_type.dtype == types.uint16 else array_type.dtype


def _vector(dtype: Any, size: Any) -> Vector:
    """The vector type of `size` bytes, a constant: a kernel uses as many registers in float32 as in float64."""
    if not isinstance(size, types.IntegerLiteral):
        raise numba.errors.RequireLiteralValue("size must be a constant")
    return Vector(dtype, int(size.literal_value) * 8 // dtype.bitwidth)


@intrinsic(prefer_literal=True)
def lanes(typingctx: Any, array: Any, size: Any) -> Any:
    """The number of the array's elements in `size` bytes, known at compile time; `itemsize` is not."""
    count = int(size.literal_value) * 8 // array.dtype.bitwidth

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array, size), codegen


@intrinsic(prefer_literal=True)
def load(typingctx: Any, array: Any, row: Any, column: Any, size: Any) -> Any:
    """A vector of `size` bytes of floats, from array[row, column] on; half floats (uint16) are widened."""
    kind = _vector(_float_of(array), size)
    n = kind.lanes

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = address_of(context, builder, array, args[0], args[1], args[2])
        stored = llvm_type(array.dtype, n)
        value = builder.load(builder.bitcast(address, stored.as_pointer()), align=array.dtype.bitwidth // 8)
        return builder.fpext(value, llvm_type(kind.dtype, n)) if array.dtype == types.uint16 else value

    return kind(array, types.intp, types.intp, size), codegen


@intrinsic()
def load_as(typingctx: Any, array: Any, row: Any, column: Any, like: Any) -> Any:
    """A vector of the type of `like`, from array[row, column] on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = address_of(context, builder, array, args[0], args[1], args[2])
        stored = llvm_type(like.dtype, like.lanes)
        return builder.load(builder.bitcast(address, stored.as_pointer()), align=array.dtype.bitwidth // 8)

    return like(array, types.intp, types.intp, like), codegen


@intrinsic(prefer_literal=True)
def load_line(typingctx: Any, array: Any, index: Any, size: Any) -> Any:
    """A vector of `size` bytes of floats, from array[index] on; the array has one dimension."""
    kind = _vector(array.dtype, size)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        struct = context.make_array(array)(context, builder, args[0])
        address = builder.bitcast(builder.gep(struct.data, [args[1]]), llvm_type(kind.dtype, kind.lanes).as_pointer())
        return builder.load(address, align=array.dtype.bitwidth // 8)

    return kind(array, types.intp, size), codegen


@intrinsic(prefer_literal=True)
def store(typingctx: Any, array: Any, row: Any, column: Any, vector: Any) -> Any:
    """array[row, column : column + lanes] = vector, rounded to half (and held under its largest) for uint16 arrays."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = address_of(context, builder, array, args[0], args[1], args[2])
        stored = llvm_type(array.dtype, vector.lanes)
        value = args[3]
        if array.dtype == types.uint16:
            largest = ir.Constant(llvm_type(vector.dtype, vector.lanes), [LARGEST_HALF] * vector.lanes)
            value = builder.select(builder.fcmp_ordered(">", value, largest), largest, value)
            value = builder.fptrunc(value, stored)
        builder.store(value, builder.bitcast(address, stored.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


@intrinsic()
def element(typingctx: Any, array: Any, row: Any, column: Any) -> Any:
    """array[row, column]. numba would test the index for a sign, which costs two instructions per load."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = address_of(context, builder, array, args[0], args[1], args[2])
        scalar = ir.DoubleType() if array.dtype == types.float64 else ir.FloatType()
        return builder.load(builder.bitcast(address, scalar.as_pointer()), align=array.dtype.bitwidth // 8)

    return array.dtype(array, types.intp, types.intp), codegen


@intrinsic()
def place(typingctx: Any, array: Any, index: Any) -> Any:
    """array[index] as intp; the array has one dimension and holds integers. No test of the sign, as in `element`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        struct = context.make_array(array)(context, builder, args[0])
        value = builder.load(builder.gep(struct.data, [args[1]]), align=array.dtype.bitwidth // 8)
        return context.cast(builder, value, array.dtype, types.intp)

    return types.intp(array, types.intp), codegen


@intrinsic()
def word32(typingctx: Any, octets: Any, index: Any) -> Any:
    """The int32 that begins at octets[4·index].

    It may lie at any address of a mapped file. numba would compile the kernel again for an unaligned array.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        struct = context.make_array(octets)(context, builder, args[0])
        word = ir.IntType(32)
        start = builder.bitcast(struct.data, word.as_pointer())
        return builder.load(builder.gep(start, [args[1]]), align=1)

    return types.int32(octets, types.intp), codegen


def spread_lanes(builder: Any, scalar: Any, vector: Any) -> Any:
    first_lane = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return builder.shuffle_vector(first_lane, ir.Constant(vector, ir.Undefined), zeros)


@intrinsic(prefer_literal=True)
def fill(typingctx: Any, array: Any, scalar: Any, size: Any) -> Any:
    """A vector of `size` bytes of the array's floats, with `scalar` in every lane."""
    kind = _vector(_float_of(array), size)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return spread_lanes(builder, args[1], llvm_type(kind.dtype, kind.lanes))

    return kind(array, kind.dtype, size), codegen


def _ask_for(builder: Any, address: Any, nearest: int = 1) -> None:
    """Fetch the line of an address into the caches from the `nearest` on: 1 is the smallest."""
    word = ir.IntType(32)
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word]),
        "llvm.prefetch.p0i8",
    )
    # read, how near, data
    builder.call(function, [address, word(0), word(4 - nearest), word(1)])


@intrinsic()
def prefetch(typingctx: Any, array: Any, row: Any, column: Any) -> Any:
    """Ask for the cache line of array[row, column]; reads nothing."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _ask_for(builder, address_of(context, builder, array, args[0], args[1], args[2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


@intrinsic()
def prefetch_far(typingctx: Any, array: Any, row: Any, column: Any) -> Any:
    """As `prefetch`, but not into the first cache: more lines can be on their way to the second."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _ask_for(builder, address_of(context, builder, array, args[0], args[1], args[2]), nearest=2)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


@intrinsic()
def prefetch_cell(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index], of a contiguous array; an index past its end does no harm."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        struct = context.make_array(array)(context, builder, args[0])
        _ask_for(builder, builder.bitcast(builder.gep(struct.data, [args[1]]), cgutils.voidptr_t))
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic()
def accumulate(typingctx: Any, array: Any, row: Any, column: Any, vector: Any) -> Any:
    """array[row, column : column + lanes] += vector, in the array's own (wider) type."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = llvm_type(array.dtype, vector.lanes)
        address = builder.bitcast(address_of(context, builder, array, args[0], args[1], args[2]), wide.as_pointer())
        value = args[3] if array.dtype == vector.dtype else builder.fpext(args[3], wide)
        align = array.dtype.bitwidth // 8
        builder.store(builder.fadd(builder.load(address, align=align), value), address, align=align)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


def butterfly(builder: Any, rows: list[Any]) -> None:
    """Transpose eight LLVM vectors of eight lanes in place: rounds of shuffles of rows 1, 2 and 4 apart."""
    word = ir.VectorType(ir.IntType(32), WIDTH)
    for step in (1, 2, 4):
        # Rows i and i + step swap the blocks of `step` columns that lie across the diagonal.
        low = [j if not j & step else WIDTH + j - step for j in range(WIDTH)]
        high = [j + step if not j & step else WIDTH + j for j in range(WIDTH)]
        for i in range(WIDTH):
            if not i & step:
                a, b = rows[i], rows[i + step]
                rows[i] = builder.shuffle_vector(a, b, ir.Constant(word, low))
                rows[i + step] = builder.shuffle_vector(a, b, ir.Constant(word, high))


@intrinsic()
def transpose8(typingctx: Any, source: Any, row: Any, column: Any, target: Any, to_row: Any, to_column: Any) -> Any:
    """target[to_row + j, to_column + i] = source[row + i, column + j] for i, j < 8."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile = llvm_type(source.dtype, WIDTH)
        align = source.dtype.bitwidth // 8
        rows = []
        for i in range(WIDTH):
            line = builder.add(args[1], context.get_constant(types.intp, i))
            address = address_of(context, builder, source, args[0], line, args[2])
            rows.append(builder.load(builder.bitcast(address, tile.as_pointer()), align=align))
        butterfly(builder, rows)
        for j in range(WIDTH):
            line = builder.add(args[4], context.get_constant(types.intp, j))
            address = address_of(context, builder, target, args[3], line, args[5])
            builder.store(rows[j], builder.bitcast(address, tile.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen
