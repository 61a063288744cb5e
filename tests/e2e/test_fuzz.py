"""Every parser of outside input, on input that was spoilt: the right answer, or an error in one line.

Bytes of good files are flipped, cut and moved, which reaches deeper than random bytes do. By default a few dozen
examples each, the same every time; ``HYPOTHESIS_PROFILE=long pytest tests/e2e/test_fuzz.py`` takes minutes
and finds new ones.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support import hostile
from support.fuzzing import COLUMNS, TOKENS, outcome, spoilt, tables

from pipeline.data.id_map import IdMap
from pipeline.data.sources.builder import InteractionsBuilder
from pipeline.data.sources.files import read_file
from pipeline.errors import InputError, UsageError
from pipeline.evaluation.negatives_file import read_negatives
from pipeline.evaluation.storage import read_evaluation
from pipeline.models.factor_model import FILES, FactorModel
from pipeline.ranking.scorer import Scorer
from pipeline.runtime.redact import address_of_store
from pipeline.warehouse import address_of, sql

LONG = settings.default is not None and settings.default.max_examples > 1000
W, H, SEEN, METADATA = FILES


def examples(n: int) -> settings:
    """So many by default; as many as the profile says for a long run."""
    few = settings.default.max_examples if LONG else n
    return settings(max_examples=few, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder() -> Path:
    with tempfile.TemporaryDirectory(prefix="rankline-fuzz-") as path:
        yield Path(path)


# ---- files -----------------------------------------------------------------------------------------

CSV = b"""user_id,item_id,rating,timestamp
1,10,4.5,1381620027
1,20,3,1381620028
"2",10,0.5,2013-10-13T00:00:00Z
3,"3\n0",5,1381620030
"""
SEMICOLONS = b"\xef\xbb\xbfuserId;movieId;score\r\na;b;1\r\nc;d;2\r\na;d;3\r\n"
TABS = b"user\titem\n1\t2\n1\t3\n2\t2\n"
LINES = b"""{"user_id": 1, "item_id": 10, "rating": 4.5, "timestamp": 1381620027}
{"user_id": 1, "item_id": 20, "rating": null, "x": {"y": [1, "z"]}}
{"user_id": 2, "item_id": 10, "rating": 3}
"""
ARRAY = b'[{"user_id": "a", "item_id": "b", "at": "2021-01-01"},\n {"user_id": "c", "item_id": "d", "at": 5}]\n'
TABLE = pa.table(
    {
        "user_id": pa.array(["a", "b", "c"]).dictionary_encode(),
        "item_id": [1, 2, 3],
        "rating": pa.array([1.5, None, 3]),
        "timestamp": pa.array([1, 2, 3], pa.timestamp("ms")),
    }
)


def parquet(**options: object) -> bytes:
    made = io.BytesIO()
    pq.write_table(TABLE, made, **options)
    return made.getvalue()


KINDS = {
    "csv": (".csv", CSV),
    "semicolons": (".csv", SEMICOLONS),
    "tabs": (".tsv", TABS),
    "lines": (".jsonl", LINES),
    "array": (".json", ARRAY),
    "parquet": (".parquet", parquet()),
    "parquet, plain": (".parquet", parquet(compression="none", use_dictionary=False, write_page_checksum=True)),
}


def check_read(read) -> None:
    """What was read holds together."""
    if read is None:
        return
    x = read.interactions
    assert 0 <= read.n_bad <= read.n_rows
    assert len(x) + read.n_bad == read.n_rows
    assert len(read.bad_rows) <= read.n_bad
    json.dumps(read.bad_rows, ensure_ascii=False, allow_nan=False).encode()
    if len(x):
        assert np.isfinite(x.scores).all()
        assert set(np.unique(x.users)) == set(range(len(x.user_ids)))
        assert set(np.unique(x.items)) == set(range(len(x.item_ids)))


def read_both(path: Path, **options: object) -> None:
    check_read(outcome(lambda: read_file(path, on_bad_rows="drop", **options)))
    strict = outcome(lambda: read_file(path, **options))
    check_read(strict)
    assert strict is None or strict.n_bad == 0


def test_the_files_are_good_until_they_are_spoilt(folder):
    for name, (suffix, data) in KINDS.items():
        path = folder / f"good{suffix}"
        path.write_bytes(data)
        read = read_file(path, on_bad_rows="drop")
        check_read(read)
        assert len(read.interactions) > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_files(folder, kind):
    suffix, good = KINDS[kind]
    path = folder / f"file{suffix}"

    @examples(60)
    @given(spoilt(good))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        read_both(path)

    check()


@examples(60)
@given(
    st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=12).map(b"".join),
    st.sampled_from(["csv", "json", "parquet"]),
)
def test_files_of_anything(folder, data, kind):
    path = folder / "anything"
    path.write_bytes(data)
    read_both(path, format=kind)


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [300, 100_000])
def test_a_deep_line_after_many_flat_ones(folder, opened, closed, depth):
    """Of a hundred thousand levels Arrow's parser, which reads such blocks, ends the process."""
    good = b'{"user_id": 1, "item_id": 2, "rating": 3}\n'
    deep = good.replace(b"3}", b'3, "x": ' + opened * depth + b"1" + closed * depth + b"}")
    path = folder / "deep.jsonl"
    path.write_bytes(good * 200 + deep + good)
    result = outcome(lambda: read_file(path))
    assert (result is None) == (depth > 1000)
    assert result is None or result.n_rows == 202


def test_a_file_with_everything_in_its_first_line(folder):
    path = folder / "wide.csv"
    path.write_bytes(b",".join(b"c%d" % i for i in range(90_000)) + b"\n1,2\n")
    assert outcome(lambda: read_file(path)) is None
    path.write_bytes(b"user_id,item_id" + b"," * 200_000 + b"\n1,2\n")
    with pytest.raises(InputError, match="200,002 columns"):
        read_file(path)


@examples(50)
@given(st.data(), st.sampled_from(["csv", "lines", "array"]))
def test_gzip(folder, data, kind):
    suffix, good = KINDS[kind]
    path = folder / f"file{suffix}.gz"
    path.write_bytes(data.draw(spoilt(gzip.compress(good, mtime=0))))
    read_both(path)


@examples(40)
@given(st.data())
def test_protocol_files(folder, data):
    path = folder / "train.rating"
    path.write_bytes(data.draw(spoilt(b"1\t10\t5\t978300000\n1\t20\t3\t978300001\n2\t10\t4\t978300002\n")))
    for options in ({}, {"format": "csv"}):
        check_read(outcome(lambda options=options: read_file(path, on_bad_rows="drop", **options)))


@examples(60)
@given(spoilt(b"(1,10)\t20\t30\t40\n(2,20)\t10\t30\t50\n(3,a)\tb\tc\td\n"))
def test_negatives(folder, data):
    path = folder / "negatives"
    path.write_bytes(data)
    result = outcome(lambda: read_negatives(path))
    if result is not None:
        assert result.users.size == result.items.size == result.start.size - 1
        assert result.start[-1] == result.negatives.size


# ---- query results ---------------------------------------------------------------------------------


@examples(250)
@given(st.lists(tables(), min_size=1, max_size=3), st.sampled_from(["error", "drop"]), st.booleans())
def test_query_results(blocks, on_bad_rows, infer):
    def read():
        builder = InteractionsBuilder(on_bad_rows=on_bad_rows, where="my.sql", infer_ids=infer)
        for block in blocks:
            builder.add(block)
        return builder.finish()

    check_read(outcome(read))


@examples(200)
@given(st.lists(COLUMNS, min_size=4, max_size=4))
def test_query_results_with_every_column(columns):
    n = min(len(column) for column in columns)
    block = pa.Table.from_arrays([c.slice(0, n) for c in columns], ["user_id", "item_id", "score", "at"])

    def read():
        builder = InteractionsBuilder(on_bad_rows="drop")
        builder.add(block)
        return builder.finish()

    check_read(outcome(read))


@examples(100)
@given(spoilt(b"-- mine\nSELECT user_id, 'a;b' AS item_id /* ; */ FROM t WHERE x = \"y\" FORMAT CSV;\n"))
def test_query_files(folder, data):
    path = folder / "my.sql"
    path.write_bytes(data)
    result = outcome(lambda: sql.read_query(path))
    if result is not None:
        assert result.text.strip()
        assert result.text in sql.count_of(result).text


# ---- addresses -------------------------------------------------------------------------------------

SECRET = "s3cretsecret"
DSN = f"clickhouse://anna:{SECRET}@host.example:8123/default?verify=0"


@examples(300)
@given(spoilt(DSN.encode()))
def test_addresses_of_warehouses(data):
    dsn = data.decode("utf-8", errors="replace")
    shown = outcome(lambda: _refused_without(dsn, address_of))
    # What stands where a host stands is one: a password that was put there is shown.
    assume(shown is None or (f":{SECRET}@" in dsn and dsn.count(SECRET) == 1))
    assert shown is None or SECRET not in shown


@examples(200)
@given(spoilt(f"https://anna:{SECRET}@mlflow.example:5000/path".encode()))
def test_addresses_of_stores(data):
    uri = data.decode("utf-8", errors="replace")
    shown = outcome(lambda: _refused_without(uri, address_of_store))
    assume(shown is None or (f":{SECRET}@" in uri and uri.count(SECRET) == 1))
    assert shown is None or SECRET not in shown


def _refused_without(text, parse):
    try:
        return parse(text)
    except UsageError as error:
        refusal = error
    assert SECRET not in str(refusal)
    raise refusal


# ---- artifacts -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(make_model, folder) -> dict[str, bytes]:
    saved = make_model(np.random.default_rng(7), 6, 5, 2, text_ids=True, density=0.4).save(folder / "model")
    return {name: (saved / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("signed", [False, True])
def test_artifacts(folder, model, name, signed):
    place = folder / "model"

    @examples(40)
    @given(spoilt(model[name]))
    def check(data: bytes) -> None:
        for other, good in model.items():
            (place / other).write_bytes(good)
        (place / name).write_bytes(data)
        if signed and name != METADATA:
            hostile.sign(place)
        for mapped in (False, True):
            loaded = outcome(lambda mapped=mapped: Scorer(FactorModel.load(place, mapped=mapped), compiled=False))
            if loaded is None:
                continue
            assert signed or data == model[name] or name == METADATA
            recommended = loaded.recommend_rows(np.arange(len(loaded.users)), 3)
            assert recommended.items.max(initial=-1) < len(loaded.items)
            outcome(lambda loaded=loaded: loaded.fold_in(loaded.items.values[:1]))

    check()


@examples(40)
@given(st.data())
def test_metadata_of_other_values(folder, model, data):
    """JSON that is well formed, with a value of another kind in some place."""
    values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    place = folder / "model"
    for other, good in model.items():
        (place / other).write_bytes(good)
    metadata = json.loads(model[METADATA])
    holder = metadata
    key = data.draw(st.sampled_from(sorted(metadata)))
    if isinstance(metadata[key], dict) and metadata[key] and data.draw(st.booleans()):
        holder = metadata[key]
        key = data.draw(st.sampled_from(sorted(holder)))
    holder[key] = data.draw(values)
    (place / METADATA).write_text(json.dumps(metadata))
    loaded = outcome(lambda: Scorer(FactorModel.load(place), compiled=False))
    if loaded is not None:
        loaded.recommend_rows(np.arange(6), 3)
        outcome(lambda: loaded.fold_in(loaded.items.values[:1]))


@examples(100)
@given(st.text(max_size=30) | st.integers(), st.booleans())
@example("0\x1f", True)
@example("9" * 5000, True)
@example("x" * 5000, True)
def test_typed_ids(text, integers):
    ids = IdMap([1, 5, 2**62]) if integers else IdMap(["1", "a", "é"])
    outcome(lambda: ids.rows([ids.parse(text)]))


# ---- evaluations -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluation(folder) -> dict[str, bytes]:
    from support.stored_evaluations import stored_evaluation, write

    place = write(stored_evaluation([0.1, 0.5, 0.9], users=["a", "b", "c"]), folder / "evaluation")
    return {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.parametrize("name", ["summary.json", "per_user.parquet"])
def test_evaluations(folder, evaluation, name):
    place = folder / "evaluation"

    @examples(60)
    @given(spoilt(evaluation[name]))
    def check(data: bytes) -> None:
        for other, good in evaluation.items():
            (place / other).write_bytes(good)
        (place / name).write_bytes(data)
        result = outcome(lambda: read_evaluation(place, "rankline/2"))
        if result is not None:
            assert len(result) == result.n_train.size == result.segment.size == result.ends.size
            assert result.items.size == (result.ends[-1] if result.ends.size else 0)

    check()


@examples(60)
@given(st.dictionaries(st.sampled_from(["user_id", "n_train", "segment", "items", "ndcg_at_10"]), COLUMNS, min_size=4))
def test_evaluations_of_other_types(folder, evaluation, columns):
    place = folder / "evaluation"
    for other, good in evaluation.items():
        (place / other).write_bytes(good)
    n = min(len(column) for column in columns.values())
    table = pa.table({name: column.slice(0, n) for name, column in columns.items()})
    try:
        table.validate(full=True)  # what writes a file would read past a broken column's end
        pq.write_table(table, place / "per_user.parquet")
    except (pa.ArrowException, OverflowError):
        return  # and Parquet has not every type of Arrow
    result = outcome(lambda: read_evaluation(place, "rankline/2"))
    assert result is None or len(result) == result.n_train.size
