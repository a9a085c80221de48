"""Files of every kind: each is taken whole or refused in one line. FUZZ=1000 tries more."""

import contextlib
import csv
import io
import os
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import pretrain_finetune

LETTERS = st.one_of(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    st.sampled_from("\",;\n\r\t'\\ 好评👍🏽שלוםمرحبا\u200f\ufeff\u2028\x85"),
)
TEXTS = st.one_of(
    st.text(LETTERS, max_size=30),
    st.sampled_from(["", " ", "NA", "None", "null", "nan", "007", "1e5", "-0", "=1+1"]),
    st.sampled_from(["word " * 200_000]),  # a million characters
)
LABELS = st.sampled_from(
    [
        ["0", "1"],
        ["1", "2", "3"],
        ["-1", "1"],
        ["neg", "pos"],
        ["True", "False"],
        ["好", "坏"],
        ["a b", "a,b", 'a"b'],
        ["007", "7", "x"],
        ["", "0", "1"],
        [str(i) for i in range(1000)],
        ["0"] * 40 + ["1"],
        ["0.0", "1.0"],
        ["0.5", "1"],
        ["only"],
    ]
)
COLUMNS = st.sampled_from(
    [
        ["text", "label"],
        ["label", "text"],
        ["id", "text", "label"],
        ["text", "label", "__index_level_0__"],
        ["", "text", " label", "label"],
        ["text", "label", "text"],
        ["\u200btext", "text", "label", "нет"],
        ["Text", "label"],
    ]
)


def as_csv(columns, rows, ends, quoting):
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=ends, quoting=quoting)
    writer.writerow(columns)
    writer.writerows([dict(row).get(name, "x") for name in columns] for row in rows)
    return file.getvalue()


@st.composite
def files(draw):
    """Bytes of a CSV file, and the rows in it, None where it has been damaged."""
    kinds = draw(LABELS)
    if draw(st.booleans()):
        size = draw(st.sampled_from([0, 1, 5, 30, 30, 40]))
        labels = [kinds[draw(st.integers(0, len(kinds) - 1))] for _ in range(size)]
    else:
        labels = kinds  # one row a class
    texts = draw(st.lists(TEXTS, min_size=3, max_size=12))
    rows = [
        {"text": texts[i % len(texts)], "label": label}
        for i, label in enumerate(labels)
    ]
    columns = draw(COLUMNS)
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gbk", "latin-1"]))
    text = as_csv(columns, rows, ends, quoting)
    content = text.encode(encoding, errors="replace")
    if encoding in ("gbk", "latin-1"):
        return content, None
    damage = draw(
        st.sampled_from([None] * 6 + ["cut", "quote", "nul", "noise", "bytes"])
    )
    at = draw(st.integers(0, len(content)))
    if damage == "cut":
        content = content[:at]
    elif damage:
        wedge = {"quote": b'"', "nul": b"\0", "noise": b"\r", "bytes": b"\xff\xfe\x80"}
        content = content[:at] + wedge[damage] + content[at:]
    return content, None if damage else rows


@given(files())
@settings(
    max_examples=int(os.environ.get("FUZZ", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
def test_a_file_is_taken_whole_or_refused(made):
    content, rows = made
    folder = Path(tempfile.mkdtemp())
    (folder / "data.csv").write_bytes(content)
    constants = {
        "DATASET_NAME": "csv",
        "DATA_FILES": {"train": str(folder / "data.csv")},
        "TRAIN_SIZE": None,
        "VALIDATION_SIZE": None,
        "TEST_SIZE": None,
    }
    err, loaded = io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(err):
        for name, value in constants.items():
            patch.setattr(pretrain_finetune, name, value)
        pretrain_finetune.start_logging()
        try:
            loaded = pretrain_finetune.load_data()
        except SystemExit as stop:
            assert stop.code == 2
    shutil.rmtree(folder)
    errors = [
        line for line in err.getvalue().splitlines() if line.startswith("error: ")
    ]
    assert len(errors) == (loaded is None)
    word = re.sub(r"\S*/\S*|'.*?'|\d+", "…", errors[0])[:60] if errors else "taken"
    event(word)  # pytest --hypothesis-show-statistics counts them
    if loaded is not None:
        parts = [
            data
            for part in loaded.values()
            for data in zip(part["text"], part["label"], strict=True)
        ]
        assert all(text.strip() for text, _ in parts)
        if rows is not None:
            usable = [
                row["text"] for row in rows if row["text"].strip() and row["label"]
            ]
            assert Counter(text for text, _ in parts) == Counter(usable)
