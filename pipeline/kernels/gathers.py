"""SIMD vectors for rows of single cells: eight rows fetched by index and laid side by side, a sum across lanes.

Importing this module imports numba.
"""

from __future__ import annotations

from typing import Any

from numba.core import types

from pipeline.kernels import vectors
from pipeline.kernels.vectors import WIDTH, butterfly, intrinsic, ir

__all__ = ["across", "gather8"]


@intrinsic()
def gather8(
    typingctx: Any, source: Any, index: Any, at: Any, column: Any, target: Any, to_column: Any, stride: Any
) -> Any:
    """target[0, to_column + j·stride + i] = source[index[0, at + i], column + j] for i, j < 8."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        tile = vectors._llvm(source.dtype, WIDTH)
        align = source.dtype.bitwidth // 8
        zero = context.get_constant(types.intp, 0)
        rows = []
        for i in range(WIDTH):
            place = builder.add(args[2], context.get_constant(types.intp, i))
            pointer = vectors._address(context, builder, index, args[1], zero, place)
            kind = ir.IntType(index.dtype.bitwidth)
            found = builder.load(builder.bitcast(pointer, kind.as_pointer()))
            line = builder.sext(found, ir.IntType(64)) if index.dtype.bitwidth < 64 else found
            start = vectors._address(context, builder, source, args[0], line, args[3])
            rows.append(builder.load(builder.bitcast(start, tile.as_pointer()), align=align))
        butterfly(builder, rows)
        for j in range(WIDTH):
            past = builder.mul(args[6], context.get_constant(types.intp, j))
            to = vectors._address(context, builder, target, args[4], zero, builder.add(args[5], past))
            builder.store(rows[j], builder.bitcast(to, tile.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(source, index, types.intp, types.intp, target, types.intp, types.intp), codegen


@intrinsic()
def across(typingctx: Any, a: Any) -> Any:
    """The sum of the lanes in their own type, always in the same order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, n = args[0], a.lanes
        while n > 1:
            n //= 2
            word = ir.VectorType(ir.IntType(32), n)
            low = builder.shuffle_vector(value, value, ir.Constant(word, list(range(n))))
            high = builder.shuffle_vector(value, value, ir.Constant(word, list(range(n, 2 * n))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.IntType(32)(0))

    return a.dtype(a), codegen
