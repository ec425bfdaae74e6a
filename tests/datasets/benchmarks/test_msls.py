"""MSLS. Per city, database: places 0, 1, 2 (d0 d1 d2) and a panorama (d3); queries: place 1 (q0), a panorama (q1),
place 3 that is in no database (q2), place 0 outside the subtask `all` (q3), place 2 (q4)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cricavpr.datasets.base import EvalDataset
from cricavpr.datasets.benchmarks import find_split, open_split
from cricavpr.datasets.benchmarks.msls import TRAIN_CITIES, unknown_files
from cricavpr.datasets.benchmarks.msls_tables import read_side
from cricavpr.errors import InputError
from cricavpr.geo import Positions
from cricavpr.town import Town
from tests.datasets.benchmarks.faults import Fault, cut, refused
from tests.miniatures import msls

Folder = Callable[[str], Path]
Table = list[dict[str, str]]


def keys(names: tuple[str, ...]) -> list[str]:
    """cph_q0 for train_val/cph/query/images/cph_q0----------------.jpg."""
    return [Path(name).stem.rstrip("-") for name in names]


def answers(dataset: EvalDataset) -> dict[str, list[str]]:
    """Which database images answer which query."""
    database = keys(dataset.database.names)
    queries = keys(dataset.queries.names)
    return {query: [database[row] for row in found] for query, found in zip(queries, dataset.positives, strict=True)}


def read(path: Path) -> Table:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Table) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def edit(path: Path, change: Callable[[Table], object]) -> None:
    """Change the rows of a table."""
    rows = read(path)
    change(rows)
    write(path, rows)


# --- the two validation sets

OFFICIAL = {"cph_q0": ["cph_d1"], "cph_q4": ["cph_d2"], "sf_q0": ["sf_d1"], "sf_q4": ["sf_d2"]}
WHOLE = {
    **{"cph_q0": ["cph_d1"], "cph_q2": [], "cph_q3": ["cph_d0"], "cph_q4": ["cph_d2"]},
    **{"sf_q0": ["sf_d1"], "sf_q2": [], "sf_q3": ["sf_d0"], "sf_q4": ["sf_d2"]},
}
DATABASE = ["cph_d0", "cph_d1", "cph_d2", "sf_d0", "sf_d1", "sf_d2"]


def test_the_official_set_is_the_subtask_all_without_panoramas_and_without_unanswerable_queries(
    miniature: Folder,
) -> None:
    dataset = open_split("msls-val", miniature("msls-raw"))
    assert answers(dataset) == OFFICIAL and dataset.rule == "within 25 m"
    assert keys(dataset.database.names) == DATABASE  # cph before sf, panoramas out of the database too
    assert dataset.queries.names[0] == "train_val/cph/query/images/cph_q0----------------.jpg"
    assert all(dataset.queries.path(row).is_file() for row in range(4))


def test_the_downloader_s_set_has_every_query_that_is_no_panorama_even_without_an_answer(miniature: Folder) -> None:
    dataset = open_split("msls-val-11k", miniature("msls-raw"))
    assert answers(dataset) == WHOLE and keys(dataset.database.names) == DATABASE
    assert find_split("msls-val-11k")[1].unanswered == "miss"


def test_the_published_counts_are_recorded() -> None:
    official, whole = find_split("msls-val")[1], find_split("msls-val-11k")[1]
    assert (official.queries, official.database, official.without_positives) == (740, 18871, 0)
    assert (whole.queries, whole.database) == (None, 18871)  # nobody counted exactly


def test_positions_keep_the_metres_of_the_table_and_the_zone_of_each_city(miniature: Folder, four_places: Town) -> None:
    positions = open_split("msls-val", miniature("msls-raw")).database.positions
    assert positions is not None and positions.zones == ("33N",) * 3 + ("10N",) * 3
    drawn = [row.shot.metres for city in ("cph", "sf") for row in msls.rows_of(four_places, city, "database")[:3]]
    assert positions.metres.tolist() == [list(metres) for metres in drawn]


def test_cities_with_equal_metres_in_two_zones_do_not_answer_for_one_another(copy_of: Folder) -> None:
    """Copenhagen's columns put under San Francisco's keys, in another zone: eastings and northings are the same."""
    root = copy_of("msls-raw")
    for side in ("query", "database"):
        for name in ("raw.csv", "postprocessed.csv"):
            source, target = (root / "train_val" / city / side / name for city in ("cph", "sf"))
            held = read(target)
            write(target, [{**moved, "key": row["key"]} for row, moved in zip(held, read(source), strict=True)])
        edit(target.with_name("raw.csv"), lambda rows: [row.update(lon=str(float(row["lon"]) + 6)) for row in rows])
    dataset = open_split("msls-val", root)
    positions = dataset.database.positions
    assert positions is not None and positions.zones == ("33N",) * 3 + ("34N",) * 3
    assert positions.metres[0].tolist() == positions.metres[3].tolist()
    assert answers(dataset) == OFFICIAL


def test_sequences_frames_and_night_are_kept(miniature: Folder) -> None:
    queries = open_split("msls-val-11k", miniature("msls-raw")).queries
    assert queries.keys is not None and queries.keys[:2] == ("cph-query-sequence0", "cph-query-sequence1")
    assert queries.frames is not None and queries.frames.tolist()[:4] == [0, 0, 1, 0]
    assert queries.conditions is not None and queries.conditions[:4] == ("day", "day", "night", "day")


def test_the_description_s_name_of_the_sequence_column_is_read_too(copy_of: Folder) -> None:
    root = copy_of("msls-raw")
    for path in root.glob("train_val/*/*/seq_info.csv"):
        path.write_text(path.read_text().replace("sequence_key", "sequence_id"))
    keys_of = open_split("msls-val", root).queries.keys
    assert keys_of is not None and keys_of[0] == "cph-query-sequence0"


def test_columns_are_found_by_name_whatever_their_order(copy_of: Folder) -> None:
    root = copy_of("msls-raw")
    before = open_split("msls-val", root).split_hash()
    for path in root.glob("train_val/*/*/*.csv"):
        with path.open(newline="") as file:
            rows = [row[::-1] for row in csv.reader(file)]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    assert open_split("msls-val", root).split_hash() == before


def test_the_heading_is_not_looked_at(copy_of: Folder) -> None:
    """Papers say 25 m and 40 degrees; the data set's own evaluation and its lists know 25 m alone."""
    root = copy_of("msls-raw")
    before = open_split("msls-val", root).split_hash()
    for path in root.glob("train_val/*/query/raw.csv"):
        edit(path, lambda rows: [row.update(ca="270.5") for row in rows])
    assert open_split("msls-val", root).split_hash() == before


# --- lists of numpy


@pytest.mark.parametrize(("form", "first"), [("msls-lists", "train_val/cph/"), ("msls-lists-in-one", "cph/")])
def test_both_packagings_of_the_lists_give_the_official_set(miniature: Folder, form: str, first: str) -> None:
    dataset = open_split("msls-val", miniature(form))
    assert answers(dataset) == OFFICIAL and keys(dataset.database.names) == DATABASE
    assert dataset.database.names[0].startswith(first) and dataset.database.path(5).is_file()


def test_answers_belong_to_the_picked_queries_and_not_to_the_first_names(miniature: Folder) -> None:
    """Row 1 of msls_val_pIdx is for cph_q4, whose name is the third: qIdx leaves out the second."""
    root = miniature("msls-lists")
    assert np.load(root / "msls_val_qIdx.npy").tolist() == [0, 2, 3, 5]
    assert keys(tuple(np.load(root / "msls_val_qImages.npy")))[:3] == ["cph_q0", "cph_q2", "cph_q4"]
    assert answers(open_split("msls-val", root))["cph_q4"] == ["cph_d2"]


def test_lists_may_lie_in_a_folder_of_their_own(copy_of: Folder) -> None:
    root = copy_of("msls-lists")
    (root / "msls_val").mkdir()
    for path in list(root.glob("*.npy")):
        path.rename(root / "msls_val" / path.name)
    assert answers(open_split("msls-val", root)) == OFFICIAL


# --- the tree of @ names


def tree_answers(dataset: EvalDataset) -> dict[str, list[str]]:
    database, queries = (dataset.database.keys or (), dataset.queries.keys or ())
    found = zip(queries, dataset.positives, strict=True)
    return {key.rstrip("-"): [database[row].rstrip("-") for row in rows] for key, rows in found}


def test_the_tree_as_it_is_has_the_downloader_s_queries(miniature: Folder) -> None:
    dataset = open_split("msls-val-11k", miniature("msls-tree"))
    assert tree_answers(dataset) == WHOLE


@pytest.mark.parametrize("beside", ["keys", "tables", "lists"])
def test_a_tree_is_cut_down_to_the_official_queries_by_what_lies_beside(
    miniature: Folder, copy_of: Folder, beside: str
) -> None:
    root = copy_of("msls-tree")
    if beside == "keys":  # one line, separated by spaces
        official = [row.ljust(22, "-") for row in OFFICIAL]
        (root / "key_mslsval.txt").write_text("\ufeff" + " ".join(official) + "\r\n")
    elif beside == "tables":  # the downloader has moved the photos away and left the tables
        for path in miniature("msls-raw").glob("train_val/*/query/*.csv"):
            target = root / path.relative_to(miniature("msls-raw"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            (target.parent / "images").mkdir(exist_ok=True)
    else:
        for name in ("msls_val_qImages.npy", "msls_val_qIdx.npy"):
            (root / name).write_bytes((miniature("msls-lists") / name).read_bytes())
    assert tree_answers(open_split("msls-val", root)) == OFFICIAL


# --- training cities


def test_each_training_city_can_be_evaluated(miniature: Folder) -> None:
    dataset = open_split("msls-train-london", miniature("msls-train"))
    assert keys(dataset.database.names) == ["london_d0", "london_d1", "london_d2"]
    assert answers(dataset)["london_q3"] == ["london_d0"] and answers(dataset)["london_q2"] == []
    assert len(TRAIN_CITIES) == len(set(TRAIN_CITIES)) == 22
    assert all(find_split(f"msls-train-{city}") for city in TRAIN_CITIES)


def test_metres_beside_a_border_of_zones_are_understood_in_the_zone_that_was_used(copy_of: Folder) -> None:
    """A place just east of Greenwich, whose degrees alone say zone 31, with its metres in zone 30."""
    root = copy_of("msls-train")
    base = root / "train_val/london/query"
    (east, north), *_ = Positions.from_latlon([(51.5051, -2.0), (51.5051, 0.001)]).metres[::-1].tolist()
    edit(base / "raw.csv", lambda rows: [row.update(lon="0.001", lat="51.5051") for row in rows])
    edit(base / "postprocessed.csv", lambda rows: [row.update(easting=str(east), northing=str(north)) for row in rows])
    positions = read_side(root, "train_val/london", "query", posed=True, subtask=False).positions
    assert positions is not None and set(positions.zones or ()) == {"30N"}
    assert abs(positions.latlon()[0] - (51.5051, 0.001)).max() < 1e-6


# --- the challenge


def test_the_challenge_pools_all_cities_keeps_the_subtask_all_and_has_no_answers(miniature: Folder) -> None:
    dataset = open_split("msls-challenge", miniature("msls-test"))
    assert keys(dataset.queries.names)[:5] == ["miami_q0", "miami_q1", "miami_q2", "miami_q4", "athens_q0"]
    assert len(dataset.queries) == 24 and len(dataset.database) == 24  # panoramas stay: nobody knows which they are
    assert all(found.size == 0 for found in dataset.positives)
    assert dataset.rule == "none: the ground truth is not in this folder" and dataset.database.positions is None


def test_each_test_city_can_be_searched_by_itself(miniature: Folder) -> None:
    dataset = open_split("msls-challenge-athens", miniature("msls-test"))
    assert keys(dataset.database.names) == ["athens_d0", "athens_d1", "athens_d2", "athens_d3"]


def test_released_answers_beside_the_images_are_used_and_the_images_stay_the_same(miniature: Folder) -> None:
    dataset = open_split("msls-challenge", miniature("msls-test-answered"))
    without = open_split("msls-challenge", miniature("msls-test"))
    assert dataset.queries.names == without.queries.names and dataset.database.names == without.database.names
    assert answers(dataset)["kampala_q0"] == ["kampala_d1"] and answers(dataset)["kampala_q2"] == []
    assert answers(dataset)["miami_q1"] == ["miami_d0", "miami_d3"]
    assert dataset.rule == "within 25 m" and find_split("msls-challenge")[1].unanswered == "skip"


def test_answers_without_degrees_are_used_city_by_city(copy_of: Folder, miniature: Folder) -> None:
    root = copy_of("msls-test-answered")
    for path in root.glob("test/*/*/raw.csv"):
        path.unlink()
    dataset = open_split("msls-challenge", root)
    assert answers(dataset) == answers(open_split("msls-challenge", miniature("msls-test-answered")))
    assert dataset.database.positions is None  # metres of six cities without zones would collide


def test_answers_in_a_form_that_is_not_known_are_named(copy_of: Folder) -> None:
    root = copy_of("msls-test")
    (root / "test/athens/query/groundtruth.json").write_text("{}")
    (root / "test/answers.csv").write_text("")
    assert unknown_files(root) == ("test/answers.csv", "test/athens/query/groundtruth.json")
    assert open_split("msls-challenge", root).rule == (
        "none: the ground truth is not in this folder; "
        "unknown files: test/answers.csv, test/athens/query/groundtruth.json"
    )


def test_the_counts_of_the_scored_subtask_are_recorded() -> None:
    pooled = find_split("msls-challenge")[1]
    assert (pooled.queries, pooled.database) == (1135, 36565)
    stockholm = find_split("msls-challenge-stockholm")[1]
    assert (stockholm.queries, stockholm.database) == (379, 11965)


# --- faults


def table(path: str, change: Callable[[Table], object]) -> Callable[[Path], object]:
    return lambda root: edit(root / path, change)


def swap(first: str, second: str) -> Callable[[Table], object]:
    return lambda rows: [row.update({first: row[second], second: row[first]}) for row in rows]


def without_column(path: str, column: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_text((root / path).read_text().replace(column, "renamed", 1))


def save(name: str, value: object) -> Callable[[Path], object]:
    return lambda root: np.save(root / name, value)  # type: ignore[arg-type]


CPH, SF = "train_val/cph/query/", "train_val/sf/database/"
RAW, VAL = "msls-raw", "msls-val"
FAULTS = [
    Fault(
        "a table is missing",
        RAW,
        VAL,
        lambda r: (r / CPH / "subtask_index.csv").unlink(),
        "subtask_index.csv is missing",
    ),
    Fault("a table is empty", RAW, VAL, lambda r: (r / CPH / "raw.csv").write_text(""), "raw.csv has no column 'key'"),
    Fault(
        "a column is missing", RAW, VAL, without_column(CPH + "postprocessed.csv", "northing"), "no column 'northing'"
    ),
    Fault("a table cut short", RAW, VAL, lambda r: cut(r / CPH / "seq_info.csv", 0.6), "seq_info.csv"),
    Fault(
        "a row is missing",
        RAW,
        VAL,
        table(SF + "raw.csv", lambda rows: rows.pop(1)),
        "raw.csv has 3 rows, but .* has 4",
    ),
    Fault(
        "rows do not correspond",
        RAW,
        VAL,
        table(SF + "postprocessed.csv", lambda rows: rows.reverse()),
        "row 0 has key 'sf_d3-* ?' in .*postprocessed.csv",
    ),
    Fault(
        "easting is NaN",
        RAW,
        VAL,
        table(CPH + "postprocessed.csv", lambda rows: rows[2].update(easting="nan")),
        "row 2 .* easting 'nan'",
    ),
    Fault(
        "easting is empty",
        RAW,
        VAL,
        table(CPH + "postprocessed.csv", lambda rows: rows[2].update(easting="")),
        "row 2 .* easting ''",
    ),
    Fault(
        "lat and lon swapped",
        RAW,
        VAL,
        table(CPH + "raw.csv", swap("lat", "lon")),
        "row 0 .* at another place in .* Two columns may be swapped",
    ),
    Fault(
        "lat and lon swapped off the map",
        RAW,
        VAL,
        table(SF + "raw.csv", swap("lat", "lon")),
        "lat and lon may be swapped",
    ),
    Fault(
        "metres swapped",
        RAW,
        VAL,
        table(SF + "postprocessed.csv", swap("easting", "northing")),
        "Two columns may be swapped",
    ),
    Fault(
        "a key twice",
        RAW,
        VAL,
        table(SF + "seq_info.csv", lambda rows: rows[1].update(key=rows[0]["key"])),
        "1 keys twice .*sf_d0",
    ),
    Fault(
        "pano is no boolean",
        RAW,
        VAL,
        table(SF + "raw.csv", lambda rows: rows[1].update(pano="perhaps")),
        "row 1 .* pano 'perhaps'",
    ),
    Fault(
        "frame is no number",
        RAW,
        VAL,
        table(SF + "seq_info.csv", lambda rows: rows[1].update(frame_number="x")),
        "frame_number that is not a whole number",
    ),
    Fault("lists of other length", "msls-lists", VAL, save("msls_val_qIdx.npy", [0, 2, 3]), "4 rows, expected 3 "),
    Fault(
        "picks what is not there",
        "msls-lists",
        VAL,
        save("msls_val_qIdx.npy", [0, 2, 3, 6]),
        "selects query 6, but .* has 6 queries",
    ),
    Fault(
        "answers beyond the database",
        "msls-lists",
        VAL,
        save("msls_val_pIdx.npy", [[0], [1], [2], [6]]),
        "row 3 .* index 6, expected 0 or more and below 6,",
    ),
    Fault(
        "a list cut short",
        "msls-lists",
        VAL,
        lambda r: cut(r / "msls_val_pIdx.npy", 0.9),
        "msls_val_pIdx.npy is not a list of indices",
    ),
    Fault(
        "a list is missing", "msls-lists", VAL, lambda r: (r / "msls_val_qIdx.npy").unlink(), "has no msls_val_qIdx.npy"
    ),
    Fault(
        "answers of one side",
        "msls-test-answered",
        "msls-challenge",
        lambda r: (r / "test/athens/query/postprocessed.csv").unlink(),
        "athens/query/postprocessed.csv is missing. Give these tables",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_damage_is_one_clear_line(fault: Fault, copy_of: Folder) -> None:
    refused(fault, copy_of(fault.miniature))


def test_official_queries_that_a_tree_does_not_have_are_counted(copy_of: Folder) -> None:
    root = copy_of("msls-tree")
    (root / "key_mslsval.txt").write_text(" ".join([*(key.ljust(22, "-") for key in OFFICIAL), "elsewhere"]))
    with pytest.raises(
        InputError, match=r"does not contain 1 of the 5 queries of .*key_mslsval.txt \(first: elsewhere\)"
    ):
        open_split("msls-val", root)
