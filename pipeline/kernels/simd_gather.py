"""SIMD vectors for sparse rows: some of a row's elements by index, and sums across lanes.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from pipeline.kernels import simd
from pipeline.kernels.simd import WIDTH, cgutils, intrinsic, ir

__all__ = ["pick", "spread", "sums8"]


@intrinsic()
def pick(typingctx: Any, source: Any, row: Any, places: Any, first: Any, like: Any) -> Any:
    """A vector of the type of `like`: lane i is source[row, places[0, first + i]]; places is int32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        n, word = like.lanes, ir.IntType(64)
        zero = context.get_constant(types.intp, 0)
        at = simd.address_of(context, builder, places, args[2], zero, args[3])
        narrow = ir.VectorType(ir.IntType(32), n)
        index = builder.sext(builder.load(builder.bitcast(at, narrow.as_pointer()), align=4), ir.VectorType(word, n))
        start = builder.ptrtoint(simd.address_of(context, builder, source, args[0], args[1], zero), word)
        base = simd.spread_lanes(builder, start, ir.VectorType(word, n))
        size = ir.Constant(ir.VectorType(word, n), [source.dtype.bitwidth // 8] * n)
        scalar = ir.DoubleType() if source.dtype == types.float64 else ir.FloatType()
        addresses = builder.inttoptr(builder.add(base, builder.mul(index, size)), ir.VectorType(scalar.as_pointer(), n))
        vector = simd.llvm_type(like.dtype, n)
        mask = ir.VectorType(ir.IntType(1), n)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [addresses.type, ir.IntType(32), mask, vector]),
            f"llvm.masked.gather.v{n}f{like.dtype.bitwidth}.v{n}p0",
        )
        every = ir.Constant(mask, [True] * n)
        return builder.call(
            function, [addresses, ir.IntType(32)(source.dtype.bitwidth // 8), every, ir.Constant(vector, ir.Undefined)]
        )

    return like(source, types.intp, places, types.intp, like), codegen


@intrinsic()
def sums8(typingctx: Any, a0: Any, a1: Any, a2: Any, a3: Any, a4: Any, a5: Any, a6: Any, a7: Any) -> Any:
    """A vector of eight lanes: lane i is the sum of the 4, 8 or 16 lanes of a_i."""
    eight = simd.Vector(a0.dtype, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, step = list(args), 1
        while len(rows) > 1 and step < a0.lanes:
            rows = [_merged(builder, rows[i], rows[i + 1], step) for i in range(0, len(rows), 2)]
            step *= 2
        low = list(range(WIDTH))
        if len(rows) == 2:
            return _shuffled(builder, rows[0], rows[1], low)
        if a0.lanes == WIDTH:
            return rows[0]
        high = list(range(WIDTH, 2 * WIDTH))
        return builder.fadd(_shuffled(builder, rows[0], rows[0], low), _shuffled(builder, rows[0], rows[0], high))

    return eight(*[a0] * WIDTH), codegen


def _shuffled(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _merged(builder: Any, a: Any, b: Any, step: int) -> Any:
    """Lanes i and i + step added: of `a` where i & step is 0, of `b` elsewhere. A blend and a shuffle."""
    n = a.type.count
    own = [i + n if i & step else i for i in range(n)]
    return builder.fadd(_shuffled(builder, a, b, own), _shuffled(builder, a, b, [i ^ step for i in own]))


@intrinsic(prefer_literal=True)
def spread(typingctx: Any, a: Any, lane: Any, like: Any) -> Any:
    """A vector of the type of `like`, with lane `lane` (a constant) of `a` in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffled(builder, args[0], args[0], [int(lane.literal_value)] * like.lanes)

    return like(a, lane, like), codegen
