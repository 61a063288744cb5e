"""SIMD vectors for sparse rows: gathering eight rows by index into columns, and sums across lanes.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from pipeline.kernels import simd
from pipeline.kernels.simd import WIDTH, butterfly, intrinsic, ir

__all__ = ["gather8", "spread", "sums8"]


@intrinsic()
def gather8(
    typingctx: Any, source: Any, index: Any, first: Any, column: Any, target: Any, to_column: Any, stride: Any
) -> Any:
    """target[0, to_column + j·stride + i] = source[index[0, first + i], column + j] for i, j < 8."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile = simd.llvm_type(source.dtype, WIDTH)
        align = source.dtype.bitwidth // 8
        zero = context.get_constant(types.intp, 0)
        rows = []
        for i in range(WIDTH):
            place = builder.add(args[2], context.get_constant(types.intp, i))
            pointer = simd.address_of(context, builder, index, args[1], zero, place)
            kind = ir.IntType(index.dtype.bitwidth)
            row = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            line = builder.sext(row, ir.IntType(64)) if index.dtype.bitwidth < 64 else row
            start = simd.address_of(context, builder, source, args[0], line, args[3])
            rows.append(builder.load(builder.bitcast(start, tile.as_pointer()), align=align))
        butterfly(builder, rows)
        for j in range(WIDTH):
            past = builder.mul(args[6], context.get_constant(types.intp, j))
            to = simd.address_of(context, builder, target, args[4], zero, builder.add(args[5], past))
            builder.store(rows[j], builder.bitcast(to, tile.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(source, index, types.intp, types.intp, target, types.intp, types.intp), codegen


@intrinsic()
def sums8(typingctx: Any, a0: Any, a1: Any, a2: Any, a3: Any, a4: Any, a5: Any, a6: Any, a7: Any) -> Any:
    """A vector of eight lanes: lane i is the sum of the 8 or 16 lanes of a_i."""
    eight = simd.Vector(a0.dtype, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = [_halved(builder, row) if a0.lanes == 2 * WIDTH else row for row in args]
        # Neighbouring lanes within each half, as the machine's own horizontal add does.
        even, odd = [0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15]
        while len(rows) > 2:
            rows = [_added(builder, rows[i], rows[i + 1], even, odd) for i in range(0, len(rows), 2)]
        return _added(builder, rows[0], rows[1], [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])

    return eight(*[a0] * WIDTH), codegen


def _shuffled(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _added(builder: Any, a: Any, b: Any, left: list[int], right: list[int]) -> Any:
    return builder.fadd(_shuffled(builder, a, b, left), _shuffled(builder, a, b, right))


def _halved(builder: Any, a: Any) -> Any:
    return _added(builder, a, a, list(range(WIDTH)), list(range(WIDTH, 2 * WIDTH)))


@intrinsic(prefer_literal=True)
def spread(typingctx: Any, a: Any, lane: Any, like: Any) -> Any:
    """A vector of the type of `like`, with lane `lane` (a constant) of `a` in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffled(builder, args[0], args[0], [int(lane.literal_value)] * like.lanes)

    return like(a, lane, like), codegen
