"""Break the program on purpose, one line at a time: do the tests notice?

    python tests/mutants.py
    python tests/mutants.py 3 14 15 --jobs 2

Each mutant is one small wrong change, such as a slip of the pen would make. It is made in a
copy of the program, and the tests that should notice it are run there. A mutant that no
test notices survives: then a test is missing. All of them together take their time, so
that `pytest` does not run this file; run it after a change to the program or to the tests.

The exit code is 1 if a mutant survived, or if one could not be tried: its line is gone or
stands twice, its tests are gone, or they fail on the program as it is.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when conftest imports it

import pytest
from conftest import ROOT

PROGRAM = "pretrain_finetune.py"
LIMIT = 600  # seconds for the tests of one mutant
# A process that is forked has all libraries imported, which saves most of the time.
FORK = multiprocessing.get_context("fork")


class Mutant(NamedTuple):
    """One small wrong change."""

    right: str  # what stands in the program, exactly once
    wrong: str  # what stands there instead
    harm: str  # what that does to a user
    tests: str  # the tests that notice it, as pytest takes them
    harmless: str = ""  # why it may survive


MUTANTS = [
    # ---- main(): the steps ----
    Mutant(
        "        set_dropout(model)\n",
        "        pass\n",
        "DROPOUT is ignored.",
        "test_recipe.py::test_dropout_is_the_constant",
    ),
    Mutant(
        '        dataset["train"] = group_by_length(',
        "        group_by_length(",
        "Batches are not grouped by length.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        'group_by_length(dataset["train"], BATCH_SIZE * device_count)',
        'group_by_length(dataset["train"], 8)',
        "With another BATCH_SIZE than the shipped one, a batch mixes lengths.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        "        start_with_averages(model, new_weights)\n",
        "        pass\n",
        "[CLS] does not start as an average: less accurate.",
        "test_recipe.py::test_the_top_layer_starts_as_an_average",
    ),
    Mutant(
        "        fit_head(trainer)\n",
        "        pass\n",
        "The output layer is not solved for: much less accurate.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "        remove_checkpoints(run_folder)\n",
        "        pass\n",
        "Gigabytes of checkpoints stay after each run.",
        "test_robust.py::test_a_finished_run_leaves_no_checkpoint_starts_afresh_and_ends_alike",
    ),
    Mutant(
        "    save(trainer, train_scores, test_scores)\n",
        "    remove_checkpoints(run_folder)\n"
        "    save(trainer, train_scores, test_scores)\n",
        "A run that dies while it saves has lost its training.",
        "test_robust.py::test_a_run_is_finished_after_its_last_screen_not_before",
    ),
    Mutant(
        'evaluate(trainer, dataset["test"])',
        'evaluate(trainer, dataset["validation"])',
        "The score that is called the test's is the validation's.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        "training_arguments(run_folder, learning_rate, bf16)\n    trainer",
        "training_arguments(run_folder, LEARNING_RATE, bf16)\n    trainer",
        "The fallback's rate is said, but not used: nothing is learnt.",
        "test_recipe.py::test_the_embedded_default_trains_as_it_says",
    ),
    # ---- Data: three parts ----
    Mutant(
        'table = parts[part][["text", "label"]].astype(str)',
        'table = parts[part.replace("validation", "test")][["text", "label"]].astype(str)',
        "The validation rows are the test rows.",
        "test_data.py::test_parts_are_disjoint_and_stratified",
    ),
    Mutant(
        'eval_dataset=dataset["validation"],',
        'eval_dataset=dataset["test"],',
        "Checkpoint, head and confidence are chosen on the test rows.",
        "test_recipe.py::test_the_labels_of_the_test_change_nothing_that_is_saved",
    ),
    Mutant(
        "    rows = rows.sample(frac=1, random_state=SEED)\n",
        "    rows = rows.sample(frac=1, random_state=0)\n",
        "Another seed draws the same rows.",
        "test_data.py::test_the_seed_decides_the_rows",
    ),
    Mutant(
        'spread_classes(rows, ["split", "label"])',
        "rows",
        "The parts have other shares of the classes than the data.",
        "test_data.py::test_parts_are_disjoint_and_stratified",
    ),
    Mutant(
        'len(parts["train"]) // 5',
        'len(parts["train"]) // 4',
        "A quarter of the rows, not a fifth, is kept back.",
        "test_data.py::test_sizes_where_all_is_cut_off_train",
    ),
    Mutant(
        "fifth = max(1, len(",
        "fifth = max(0, len(",
        "With four rows, all of them are tested on.",
        "test_data.py::test_sizes_where_all_is_cut_off_train",
    ),
    Mutant(
        "count = min(size or fifth, fifth)",
        "count = size or fifth",
        "Of a hundred rows fifty are kept back.",
        "test_data.py::test_sizes_where_all_is_cut_off_train",
    ),
    Mutant(
        '            parts["train"] = parts["train"][:-count]\n',
        "",
        "The test rows are trained on.",
        "test_data.py::test_parts_are_disjoint_and_stratified",
    ),
    Mutant(
        "        parts[part] = parts[part][:size]\n",
        "",
        "TRAIN_SIZE = 200 trains on all rows, for hours.",
        "test_data.py::test_sizes_where_all_is_cut_off_train",
    ),
    Mutant(
        '{"validation": VALIDATION_SIZE, "test": TEST_SIZE, "train"',
        '{"validation": TEST_SIZE, "test": VALIDATION_SIZE, "train"',
        "TEST_SIZE gives the size of the validation.",
        "test_data.py::test_sizes_where_all_is_cut_off_train",
    ),
    Mutant(
        "    place = (classes.cumcount() + 0.5) /",
        "    place = classes.cumcount() /",
        "Rare classes are crowded into the first rows.",
        "test_data.py::test_a_class_without_or_with_one_training_row",
    ),
    Mutant(
        "    for split in sorted(splits):\n",
        "    for split in splits:\n",
        "The order of the files decides which rows a seed draws.",
        "test_data.py::test_the_order_of_the_files_does_not_matter",
    ),
    Mutant(
        'if "test" not in set(rows["split"]):',
        "if False:",
        "A published validation split is not the test: other scores than others have.",
        "test_data.py::test_splits_without_labels_are_not_used",
    ),
    Mutant(
        'rows["text"] = rows["text"].where(rows["text"].str.strip() != "")\n',
        'rows["text"] = rows["text"]\n',
        "Rows without a text are trained on.",
        "test_data.py::test_what_is_odd_is_one_warning",
    ),
    # ---- Files ----
    Mutant(
        '"val": "validation", "dev": "validation"}',
        '"val": "validation", "dev": "test"}',
        "The rows of dev.csv are tested on, not validated.",
        "test_files.py::test_a_folder_of_three_parts",
    ),
    Mutant(
        ' or "://" in name or ',
        " or ",
        "A file cannot be read by its address.",
        "test_files.py::test_a_file_by_its_address",
    ),
    Mutant(
        'url.split("?")[0]',
        "url",
        "An address that ends in ?download=true cannot be read.",
        "test_files.py::test_a_file_by_its_address",
    ),
    Mutant(
        "datasets.load_dataset(name, DATASET_CONFIG)",
        "datasets.load_dataset(name)",
        "DATASET_CONFIG is ignored.",
        "test_files.py::test_a_configuration_is_chosen",
    ),
    Mutant(
        'elif Path(name, "state.json").exists():',
        "elif False:",
        "A data set written by save_to_disk cannot be read.",
        "test_files.py::test_nothing_is_written_beside_the_data",
    ),
    Mutant(
        "        rows = [rows]  # a single line",
        "        pass  # a single line",
        "JSON of one line cannot be read.",
        "test_files.py::test_json_of_one_row",
    ),
    Mutant(
        "table.rename(columns=lambda name: str(name).strip())",
        "table.rename(columns=str)",
        "A blank after a column's name is an error that nobody understands.",
        "test_files.py::test_a_header_of_any_words",
    ),
    Mutant(
        "        if not Path(pattern).exists():\n",
        "        if True:\n",
        "In place of a[1].csv another file, a1.csv, is read.",
        "test_files.py::test_a_name_with_brackets_is_no_pattern",
    ),
    Mutant(
        "            tables.append(table)\n",
        "            tables = [table]\n",
        "Of several files only the last is read.",
        "test_files.py::test_several_files_are_one_split",
    ),
    Mutant(
        '{"dtype": str, "keep_default_na": False, "na_values": ""}',
        '{"dtype": str}',
        "A label NA or None is a gap, and its rows are lost.",
        "test_data.py::test_texts_stay_as_they_are_written",
    ),
    Mutant(
        '{"dtype": str, "keep_default_na"',
        '{"dtype": None, "keep_default_na"',
        "A label 007 becomes 7.",
        "test_data.py::test_labels_keep_their_names_and_their_order",
    ),
    Mutant(
        "return to_table(Dataset(parquet.read_table(path)))",
        "return pd.read_parquet(path)",
        "The classes of a parquet file are called 0 and 1.",
        "test_data.py::test_a_class_labels_names_keep_their_order",
    ),
    Mutant(
        'compression="infer", encoding="utf-8-sig"',
        'compression="infer", encoding="utf-8"',
        "A JSON file with a byte order mark cannot be read.",
        "test_files.py::test_one_file_of_each_kind[mark.json]",
    ),
    Mutant(
        "table = pd.DataFrame(rows, dtype=object)",
        "table = pd.DataFrame(rows)",
        "Beside a gap, long numbers become one class.",
        "test_data.py::test_long_numbers_stay_apart_beside_gaps",
    ),
    Mutant(
        "        set_offline(True)\n",
        "        set_offline(False)\n",
        "Without a Hub, each load asks it again and again for 23 seconds.",
        "test_end_to_end.py::test_without_a_hub_the_libraries_do_not_ask_it_again",
    ),
    Mutant(
        'for separator in ("\\x1f", ";", "\\t", "|", ","):',
        'for separator in ("\\x1f", "\\t", "|", ","):',
        "A CSV of a European Excel cannot be read.",
        "test_files.py::test_one_file_of_each_kind[semicolon.csv]",
    ),
    Mutant(
        'for separator in ("\\x1f", ";", "\\t", "|", ","):',
        'for separator in ("\\x1f", ";", "\\t", ","):',
        "A table with bars cannot be read.",
        "test_files.py::test_one_file_of_each_kind[bar.csv]",
    ),
    Mutant(
        'warnings.simplefilter("error", pd.errors.ParserWarning)',
        'warnings.simplefilter("ignore", pd.errors.ParserWarning)',
        "What follows a comma in a text is dropped in silence.",
        "test_forms.py::test_the_advice_fits_the_cause",
    ),
    Mutant(
        'engine="python", index_col=False, **AS_TEXT',
        'engine="python", **AS_TEXT',
        "With a comma at the end of each line, the text is taken for an index.",
        "test_files.py::test_one_file_of_each_kind[trailing.csv]",
    ),
    Mutant(
        'sep=separator, engine="python"',
        'sep=separator, engine="c"',
        "An unclosed quotation mark swallows rows.",
        "test_forms.py::test_the_advice_fits_the_cause",
    ),
    Mutant(
        "    csv.field_size_limit(2**31 - 1)",
        "    csv.field_size_limit(2**17)",
        "A text as long as a book cannot be read.",
        "test_data.py::test_a_text_may_be_a_book",
    ),
    Mutant(
        'if set(table["label"]) == {"-1"}:',
        "if False:",
        "The kept-back labels of a test are taken for a class.",
        "test_data.py::test_splits_without_labels_are_not_used",
    ),
    Mutant(
        'if split != "train" and LABEL_COLUMN not in table:',
        "if False:",
        "A competition's test file without labels is an error.",
        "test_files.py::test_a_test_file_without_labels_is_not_used",
    ),
    Mutant(
        "[rows._fingerprint for rows in dataset.values()]",
        "[]",
        "After an edit of the file a run goes on with the old texts' weights.",
        "test_robust.py::test_another_run_starts_afresh_and_the_unfinished_one_waits",
    ),
    # ---- Warnings ----
    Mutant(
        '[["text", "label"]].drop_duplicates()',
        '[["text", "label"]]',
        "A text that stands there twice is said to have two labels.",
        "test_data.py::test_doubled_rows_leak_into_the_test",
    ),
    Mutant(
        "plain_names.duplicated(keep=False)",
        "plain_names.duplicated()",
        "Of spam and Spam only one is named.",
        "test_data.py::test_what_is_odd_is_one_warning",
    ),
    Mutant(
        'names[names.map(train["label"].value_counts()) < 2]',
        'names[names.map(train["label"].value_counts()) < 1]',
        "A class of one row, such as a misspelt one, goes unnoticed.",
        "test_data.py::test_a_class_without_or_with_one_training_row",
    ),
    Mutant(
        "    if gaps:\n",
        "    if False:\n",
        "Rows are dropped in silence.",
        "test_data.py::test_what_is_odd_is_one_warning",
    ),
    Mutant(
        '[test["text"].isin(train["text"])]',
        '[test["text"].isin([])]',
        "Texts of the test that were trained on are not reported.",
        "test_data.py::test_doubled_rows_leak_into_the_test",
    ),
    Mutant(
        "    if unknown > 0.1:\n",
        "    if unknown > 0.9:\n",
        "An English model for Chinese texts is not reported.",
        "test_recipe.py::test_tokens_that_the_model_does_not_know_are_a_warning",
    ),
    Mutant(
        "np.sum(lengths >= MAX_LENGTH)",
        "np.sum(lengths > MAX_LENGTH)",
        "No text is ever said to be cut.",
        "test_recipe.py::test_how_many_texts_are_cut_is_said",
    ),
    Mutant(
        "    if line_breaks:\n",
        "    if False:\n",
        "Rows that a quotation mark swallowed go unnoticed.",
        "test_data.py::test_a_quotation_mark_that_is_closed_lines_later",
    ),
    # ---- Labels ----
    Mutant(
        'plain = unicodedata.normalize("NFKC", name)',
        "plain = name",
        "Two spellings of one sign are two classes.",
        "test_data.py::test_labels_that_look_alike_are_one_class",
    ),
    Mutant(
        "for label in labels.value_counts().index:",
        "for label in labels.dropna().unique():",
        "A class has the name of its first row, however seldom that is.",
        "test_data.py::test_labels_that_look_alike_are_one_class",
    ),
    Mutant(
        're.sub(NO_WIDTH, "", label)',
        "label",
        "A sign that nobody sees makes a second class.",
        "test_data.py::test_labels_that_look_alike_are_one_class",
    ),
    Mutant(
        "            names.sort(key=float)\n",
        "",
        "Class 10 stands before class 9, and LABEL_NAMES hit the wrong ones.",
        "test_data.py::test_labels_keep_their_names_and_their_order",
    ),
    Mutant(
        "len(names) <= in_train.sum() / 2,",
        "len(names) <= in_train.sum(),",
        "A column of numbers that differ in each row is learnt as labels.",
        "test_forms.py::test_more_classes_than_half_the_rows",
    ),
    Mutant(
        "    names = order or names\n",
        "",
        "The order of a data set's own classes is lost.",
        "test_data.py::test_a_class_labels_names_keep_their_order",
    ),
    Mutant(
        "not (numbers % 1).any()",
        "True",
        "Ratings such as 0.5 are learnt as classes.",
        "test_forms.py::test_the_advice_fits_the_cause",
    ),
    Mutant(
        "clean_name(name)).casefold()\n",
        "clean_name(name))\n",
        'LABEL_NAMES = ["Good", "BAD"] swaps the classes good and bad.',
        "test_data.py::test_label_names_are_an_order_or_new_names",
    ),
    Mutant(
        '.strip("\\u200c\\u200d")',
        "",
        "A sign that nobody sees at the end makes a second class.",
        "test_data.py::test_labels_that_look_alike_are_one_class",
    ),
    Mutant(
        '{"neg": "NEGATIVE", "pos": "POSITIVE"}\n    names',
        '{"neg": "POSITIVE", "pos": "NEGATIVE"}\n    names',
        "Good reviews are called NEGATIVE.",
        "test_data.py::test_labels_keep_their_names_and_their_order",
    ),
    Mutant(
        'is_short = sorted(names) == ["neg", "pos"]',
        'is_short = "neg" in names',
        "Of three classes, two are renamed.",
        "test_data.py::test_labels_keep_their_names_and_their_order",
    ),
    Mutant(
        "torch.tensor(row_weights).float()",
        "1 / torch.tensor(row_weights).float()",
        "Rare classes count even less.",
        "test_recipe.py::test_a_class_counts_by_its_weight",
    ),
    Mutant(
        'reduction="none")',
        'reduction="mean")',
        "In a batch of one class the weights cancel.",
        "test_recipe.py::test_a_class_counts_by_its_weight",
    ),
    # ---- Tokenizer and model ----
    Mutant(
        "            truncation_side=TRUNCATION_SIDE,\n",
        "",
        "The end of a text is cut off, not its start.",
        "test_recipe.py::test_the_deployed_tokenizer_cuts_as_training_did",
    ),
    Mutant(
        "    trainer.save_model()",
        '    trainer.processing_class.truncation_side = "right"\n    trainer.save_model()',
        "The deployed model reads another part of a text than was tested.",
        "test_recipe.py::test_the_deployed_tokenizer_cuts_as_training_did",
    ),
    Mutant(
        "            model_max_length=MAX_LENGTH,\n",
        "",
        "MAX_LENGTH is ignored.",
        "test_recipe.py::test_the_deployed_tokenizer_cuts_as_training_did",
    ),
    Mutant(
        "            trust_remote_code=False,\n        )\n    return check_tokenizer",
        "            trust_remote_code=True,\n        )\n    return check_tokenizer",
        "Code that comes with a tokenizer is run.",
        "test_recipe.py::test_no_code_of_a_model_runs_and_nothing_is_asked",
    ),
    Mutant(
        "            output_loading_info=True,\n            trust_remote_code=False,\n",
        "            output_loading_info=True,\n            trust_remote_code=True,\n",
        "Code that comes with a model is run.",
        "test_recipe.py::test_no_code_of_a_model_runs_and_nothing_is_asked",
    ),
    Mutant(
        "        dataset[part] = dataset[part].select(longest_first)\n",
        "",
        "The batches of a test are mostly padding: it takes twice as long.",
        "test_recipe.py::test_what_is_tested_is_batched_by_length",
    ),
    Mutant(
        "id2label=dict(enumerate(label_names)),",
        "id2label=dict(enumerate(label_names[::-1])),",
        "The deployed model answers with the other class.",
        "test_recipe.py::test_what_is_deployed_answers_as_it_was_tested",
    ),
    Mutant(
        "label2id={name: i for i, name in enumerate(label_names)},",
        "label2id={name: i for i, name in enumerate(label_names[::-1])},",
        "Whoever trains the saved model further swaps its classes.",
        "test_recipe.py::test_the_body_is_the_pretrained_one",
    ),
    Mutant(
        "            dtype=torch.float32,\n",
        "",
        "A checkpoint of half precision loses small steps.",
        "test_recipe.py::test_half_precision_is_trained_in_fp32_and_old_heads_replaced",
    ),
    Mutant(
        "    transformers.set_seed(SEED)",
        "    pass",
        "The same seed gives another head each time.",
        "test_recipe.py::test_the_seed_decides_and_the_same_seed_ends_alike",
    ),
    Mutant(
        "            ignore_mismatched_sizes=True,\n",
        "",
        "A classifier of five classes cannot learn two.",
        "test_recipe.py::test_half_precision_is_trained_in_fp32_and_old_heads_replaced",
    ),
    Mutant(
        '            problem_type="single_label_classification",\n',
        "",
        "A checkpoint of several labels a row dies in the first step.",
        "test_architectures.py::test_a_multi_label_checkpoint_learns_one_label_a_row",
    ),
    Mutant(
        '    require(\n        not gaps,\n        f"the model lacks',
        '    require(\n        True,\n        f"the model lacks',
        "A body with random layers is taken for a pretrained one.",
        "test_architectures.py::test_a_checkpoint_that_lacks_a_layer_of_the_body_is_refused",
    ),
    Mutant(
        "    model.config.pad_token_id = tokenizer.pad_token_id\n",
        "",
        "GPT-2 cannot read a batch.",
        "test_recipe.py::test_every_family[gpt2]",
    ),
    Mutant(
        "        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)\n",
        "        pass\n",
        "A token that was added ends the run in the first step.",
        "test_recipe.py::test_tokens_that_were_added_get_word_vectors",
    ),
    Mutant(
        "len(tokenizer) > len(tokenizer.all_special_ids),",
        "True,",
        "Without the tokenizer's files a model learns from unknown words only.",
        "test_errors.py::test_folders_that_hold_no_whole_model",
    ),
    Mutant(
        'silent = silenced("transformers.modeling_utils")',
        'silent = silenced("nothing")',
        "A wall of warnings hides the table of new weights.",
        "test_recipe.py::test_every_family[bert]",
    ),
    Mutant(
        'text = f"{text[:99]} " * MAX_LENGTH',
        'text = f"{text} "',
        "MAX_LENGTH above what the model can read ends in a traceback.",
        "test_errors.py::test_what_else_the_user_can_mend",
    ),
    Mutant(
        "        return False\n    return True\n",
        "        return True\n    return True\n",
        "DeBERTa ends in an error in the first step.",
        "test_architectures.py::test_a_model_that_overflows_in_bf16_trains_in_fp32",
    ),
    # ---- The ideas ----
    Mutant(
        "    for parameter in query.parameters():\n",
        "    for parameter in [query.weight]:\n",
        "The query's bias is not zeroed: no average.",
        "test_recipe.py::test_the_top_layer_starts_as_an_average",
    ),
    Mutant(
        "        return queries[-1]\n",
        "        return queries[0]\n",
        "The lowest layer, not the top, loses its query.",
        "test_recipe.py::test_the_top_layer_starts_as_an_average",
    ),
    Mutant(
        "if query is None or not new_weights:",
        "if query is None:",
        "A finished classifier loses what its top layer has learnt.",
        "test_recipe.py::test_a_finished_classifier_learns_the_order_of_these_classes",
    ),
    Mutant(
        'if len(queries) == getattr(model.config, "num_hidden_layers", None):',
        "if queries:",
        "In ALBERT all layers lose their query, since they share it.",
        "test_recipe.py::test_other_architectures_keep_their_top_layer",
    ),
    Mutant(
        'endings = (".query", ".q_lin", ".query_global")',
        'endings = (".query", ".q_lin")',
        "Longformer loses a query that is not the one [CLS] has.",
        "test_architectures.py::test_every_architecture[longformer]",
    ),
    Mutant(
        "torch.nn.init.constant_(layer.bias, 0.5)",
        "torch.nn.init.constant_(layer.bias, 0)",
        "The head's hidden layer cuts off half of what it should pass on.",
        "test_recipe.py::test_the_top_layer_starts_as_an_average",
    ),
    Mutant(
        'and (name == "p" or name.endswith("dropout"))',
        'and name == "p"',
        "In BART, DROPOUT is ignored.",
        "test_recipe.py::test_without_dropout_training_reads_a_text_alike_twice",
    ),
    Mutant(
        '    table = table.sort_values("length", kind="stable")\n',
        "",
        "Batches hold short and long texts: mostly padding.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        'order = spread_classes(table, "label").index.to_numpy()',
        "order = table.index.to_numpy()",
        "Some batches hold one class only.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        "    batches = np.random.default_rng(SEED).permutation(batches)\n",
        "",
        "All short texts come first, all long ones last.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        "np.random.default_rng(SEED)",
        "np.random.default_rng()",
        "A resumed run trains on other rows than it would have.",
        "test_recipe.py::test_each_epoch_and_each_run_has_the_batches_in_the_same_order",
    ),
    Mutant(
        "np.append(batches, order[in_full_batches:])",
        "batches.flatten()",
        "Rows that fill no batch are never trained on.",
        "test_recipe.py::test_rows_that_are_few_or_fill_no_batch_are_all_trained_on",
    ),
    Mutant(
        '"sequential" if GROUP_BY_LENGTH else "random"',
        '"random"',
        "The batches by length are drawn at random again.",
        "test_recipe.py::test_batches_hold_like_lengths_and_the_same_share_of_each_class",
    ),
    Mutant(
        "count = min(10_000, len(trainer.train_dataset))",
        "count = min(100, len(trainer.train_dataset))",
        "The output layer is solved for from the first 100 rows only.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "ridge.fit(features, targets, weights)",
        "ridge.fit(features[:count], targets[:count], weights[:count])",
        "The validation rows do not help to solve for the output layer.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "confidence_scale(ridge.predict(features[count:]), labels[count:])",
        "confidence_scale(ridge.predict(features[:count]), labels[:count])",
        "The model is far too sure of itself.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "linear_model.Ridge(ridge.alpha_, fit_intercept=with_bias)",
        "linear_model.Ridge(ridge.alpha_)",
        "GPT-2's head, which has no bias, is solved as if it had one.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "compute_sample_weight(CLASS_WEIGHTS, labels)",
        "compute_sample_weight(None, labels)",
        "CLASS_WEIGHTS is forgotten where the output layer is solved for.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "random_share = 2 / (len(labels) + 2)",
        "random_share = 0",
        "Fifty rows without a mistake give confidences of 1.0000.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "scale * ridge.intercept_)",
        "ridge.intercept_)",
        "Classes are confused, because the bias does not fit the weights.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "bounds=(0, 99)",
        "bounds=(0, 2)",
        "The model is never sure, even of what is easy.",
        "test_recipe.py::test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test",
    ),
    Mutant(
        "outputs == model.config.num_labels and not name.startswith(body)",
        "outputs == model.config.num_labels",
        "A layer of the body is overwritten if it has as many outputs as classes.",
        "test_architectures.py::test_what_is_solved_for_is_the_heads_output_layer",
    ),
    # ---- Training ----
    Mutant(
        "warmup_steps=WARMUP_RATIO,",
        "warmup_steps=0,",
        "WARMUP_RATIO is ignored.",
        "test_recipe.py::test_the_constants_reach_the_trainer",
    ),
    Mutant(
        "        seed=SEED,\n",
        "",
        "SEED does not decide the dropout and the order of batches.",
        "test_recipe.py::test_the_constants_reach_the_trainer",
    ),
    Mutant(
        "        report_to=REPORT_TO,\n",
        '        report_to="none",\n',
        "There are no live curves.",
        "test_recipe.py::test_files_that_a_run_leaves",
    ),
    Mutant(
        "        bf16=bf16,\n",
        "",
        "Training takes twice as long where bf16 would do.",
        "test_recipe.py::test_a_cpu_that_multiplies_bf16_trains_in_bf16",
    ),
    Mutant(
        'device == "cpu" and bool(in_cpu)',
        'device == "cpu"',
        "A CPU that emulates bf16 takes many times as long.",
        "test_recipe.py::test_bf16_is_for_cpus_that_multiply_it",
    ),
    Mutant(
        'abilities.get("avx512_bf16") or abilities.get("amx_bf16")',
        'abilities.get("avx512_bf16")',
        "A CPU that has bf16 in its matrix unit only trains at half the speed.",
        "test_recipe.py::test_bf16_is_for_cpus_that_multiply_it",
    ),
    Mutant(
        'compute_loss_func=weighted_loss(dataset["train"]),',
        "compute_loss_func=None,",
        "CLASS_WEIGHTS is ignored in training.",
        "test_recipe.py::test_a_class_counts_by_its_weight",
    ),
    Mutant(
        "save_total_limit=2,",
        "save_total_limit=None,",
        "A long run fills the disk with checkpoints.",
        "test_robust.py::test_few_checkpoints_are_kept",
    ),
    Mutant(
        "enable_jit_checkpoint=True,",
        "enable_jit_checkpoint=False,",
        "A run that is told to end loses what it trained since the last checkpoint.",
        "test_robust.py::test_sigterm_leaves_a_checkpoint_and_ends_with_143",
    ),
    Mutant(
        'metric_for_best_model="accuracy",',
        'metric_for_best_model="loss",',
        "The best checkpoint is the one of the lowest loss.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    Mutant(
        "transformers.DataCollatorWithPadding(tokenizer)",
        'transformers.DataCollatorWithPadding(tokenizer, "max_length", MAX_LENGTH)',
        "Each text is padded to MAX_LENGTH: ten times the time for short ones.",
        "test_recipe.py::test_rows_are_padded_batch_by_batch",
    ),
    Mutant(
        "preprocess_logits_for_metrics=keep_logits,",
        "preprocess_logits_for_metrics=None,",
        "BART and T5 end in an error after training.",
        "test_architectures.py::test_every_architecture[bart]",
    ),
    Mutant(
        "trainer.args.eval_on_start = checkpoint is None",
        "trainer.args.eval_on_start = False",
        "The curve has no point before training.",
        "test_recipe.py::test_validations_stand_at_the_start_each_eval_steps_and_the_end",
    ),
    Mutant(
        "best - last > standard_error",
        "best > last",
        "The luckiest checkpoint is deployed.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    Mutant(
        "    choose_checkpoint(trainer)\n",
        "",
        "A checkpoint that was clearly better is thrown away.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    Mutant(
        "> standard_error and CLASS_WEIGHTS is None",
        "> standard_error",
        "With class weights, the checkpoint that neglects the rare class is taken.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    Mutant(
        "        huggingface_hub.load_torch_model(trainer.model, folder)\n",
        "",
        "The better checkpoint is named, but not used.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    Mutant(
        "np.sqrt(last * (1 - last) / len(trainer.eval_dataset))",
        "np.sqrt(last * (1 - last))",
        "No checkpoint is ever clearly better.",
        "test_recipe.py::test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better",
    ),
    # ---- Interrupted runs ----
    Mutant(
        "    scores = trainer.train(",
        "    trainer._load_rng_state = lambda _: None\n    scores = trainer.train(",
        "A resumed run draws other rows and other dropout: another result.",
        "test_robust.py::test_a_killed_run_goes_on_to_the_same_end",
    ),
    Mutant(
        "resume_from_checkpoint=checkpoint)",
        "resume_from_checkpoint=None)",
        "A killed run says that it goes on, and starts from the beginning.",
        "test_robust.py::test_a_killed_run_goes_on_to_the_same_end",
    ),
    Mutant(
        "    run = [constants(Recipe), texts,",
        '    run = [constants(Recipe) | {"MODEL_NAME": 0}, texts,',
        "Another model goes on from the first one's checkpoint.",
        "test_robust.py::test_no_run_goes_on_with_other_constants",
    ),
    Mutant(
        "    run = [constants(Recipe), texts,",
        '    run = [constants(Recipe) | {"MAX_LENGTH": 0}, texts,',
        "Another MAX_LENGTH goes on from the first one's checkpoint.",
        "test_robust.py::test_no_run_goes_on_with_other_constants",
    ),
    Mutant(
        "    run = [constants(Recipe), texts,",
        '    run = [constants(Recipe) | {"SEED": 0}, texts,',
        "Another seed goes on from the first one's checkpoint.",
        "test_robust.py::test_no_run_goes_on_with_other_constants",
        harmless="Another seed draws the rows in another order, and the rows are in the "
        "name of the folder, too.",
    ),
    Mutant(
        "    for folder in reversed(transformers.",
        "    for folder in list(transformers.",
        "A run goes on from its oldest checkpoint.",
        "test_robust.py::test_what_training_does_not_use_may_change",
    ),
    Mutant(
        "            open_checkpoint(Path(folder))\n",
        "            pass\n",
        "A checkpoint that was cut short ends the run in a traceback.",
        "test_robust.py::test_a_checkpoint_that_does_not_open_is_passed_over",
    ),
    Mutant(
        'random_states = random_states or ["rng_state.pth"]',
        "random_states = []",
        "A damaged random state is not found before training.",
        "test_robust.py::test_a_checkpoint_that_does_not_open_is_passed_over",
    ),
    Mutant(
        '("optimizer.pt", "scheduler.pt", *random_states)',
        '("scheduler.pt", *random_states)',
        "A damaged optimizer is not found before training.",
        "test_robust.py::test_a_checkpoint_that_does_not_open_is_passed_over",
    ),
    Mutant(
        '    huggingface_hub.load_state_dict_from_file(folder / "model.safetensors")\n',
        "",
        "Damaged weights are not found before training.",
        "test_robust.py::test_a_checkpoint_that_does_not_open_is_passed_over",
    ),
    Mutant(
        "weights_only=True)",
        "weights_only=False)",
        "Code in a file that was put into the folder is run.",
        "test_robust.py::test_a_pickle_in_a_checkpoint_is_not_executed",
    ),
    Mutant(
        "    others = sorted(map(str, runs - {Path(run_folder)}))\n",
        "    others = []\n",
        "Unfinished runs fill the disk unnoticed.",
        "test_robust.py::test_another_run_starts_afresh_and_the_unfinished_one_waits",
    ),
    Mutant(
        'in run_folder.glob("checkpoint-*"):',
        'in run_folder.parent.glob("run-*/checkpoint-*"):',
        "A finished run deletes the checkpoints of another one.",
        "test_robust.py::test_another_run_starts_afresh_and_the_unfinished_one_waits",
    ),
    Mutant(
        "    stop_if_ended_early(trainer)\n",
        "",
        "A run that was told to end goes on and saves a model that is half trained.",
        "test_robust.py::test_sigterm_leaves_a_checkpoint_and_ends_with_143",
    ),
    Mutant(
        "exit_code=143)",
        "exit_code=0)",
        "A scheduler takes a run that it stopped for a finished one.",
        "test_robust.py::test_sigterm_leaves_a_checkpoint_and_ends_with_143",
    ),
    Mutant(
        "        run_folder.rmdir()\n",
        "        pass\n",
        "Empty folders gather.",
        "test_robust.py::test_a_finished_run_leaves_no_checkpoint_starts_afresh_and_ends_alike",
    ),
    Mutant(
        "stopped = error.with_traceback(None)",
        "stopped = error",
        "In a notebook a mistake is a long traceback, which keeps the Trainer.",
        "test_notebook.py::test_a_mistake_is_one_line_and_the_next_cell_mends_it",
    ),
    Mutant(
        "        logger.disabled = before\n",
        "        pass\n",
        "After a run, transformers does not warn any more.",
        "test_notebook.py::test_a_run_leaves_the_kernel_as_it_found_it",
    ),
    Mutant(
        "exit_code=130)",
        "exit_code=2)",
        "After Ctrl-C a shell script takes the run for a wrong setting.",
        "test_robust.py::test_an_interruption_is_one_line_and_the_run_goes_on",
    ),
    Mutant(
        "            if not disk_is_full(error):\n                raise\n"
        "            stopped",
        "            raise\n            stopped",
        "A full disk is fifty lines of traceback.",
        "test_robust.py::test_an_interruption_is_one_line_and_the_run_goes_on",
    ),
    Mutant(
        "            set_offline(offline)\n",
        "",
        "A kernel that once met no Hub never asks it again.",
        "test_robust.py::test_a_kernel_is_left_as_it_was_found",
    ),
    Mutant(
        "    datasets.config.HF_HUB_OFFLINE = offline\n",
        "",
        "Without a Hub, a data set waits for it for 23 seconds.",
        "test_end_to_end.py::test_without_a_hub_the_libraries_do_not_ask_it_again",
    ),
    Mutant(
        "            signal.signal(signal.SIGTERM, on_sigterm)\n",
        "",
        "After a run a kernel does not end when it is told to.",
        "test_robust.py::test_a_kernel_is_left_as_it_was_found",
    ),
    # ---- Sources ----
    Mutant(
        "if (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) == shipped:",
        "if DATASET_NAME == shipped[1] and DATA_FILES is None:",
        "Without a Hub a chosen model is swapped for the embedded one.",
        "test_recipe.py::test_a_choice_of_ones_own_is_never_replaced",
    ),
    Mutant(
        "rate = 2e-4 if LEARNING_RATE == 2e-5 else LEARNING_RATE",
        "rate = 2e-4",
        "A learning rate of one's own is ignored.",
        "test_recipe.py::test_a_learning_rate_of_ones_own_survives_the_fallback",
    ),
    Mutant(
        "def hub_is_up(seconds=4):",
        "def hub_is_up(seconds=40):",
        "A Hub that never answers costs forty seconds.",
        "test_recipe.py::test_a_hub_is_one_that_answers_within_four_seconds",
    ),
    Mutant(
        "        if disk_is_full(error):\n            raise\n        return f",
        "        return f",
        "A full disk is said to be a missing Hub.",
        "test_end_to_end.py::test_a_full_disk_is_no_missing_hub",
    ),
    Mutant(
        '("test", "neg"): """poor painful',
        '("test", "neg"): """dull awful boring clumsy terrible',
        "Counting words solves the embedded reviews.",
        "test_data.py::test_embedded_reviews_cannot_be_solved_by_counting_words",
    ),
    Mutant(
        'log.setLevel("INFO" if process.is_main_process else "ERROR")',
        'log.setLevel("INFO")',
        "Eight processes print each line eight times.",
        "test_robust.py::test_two_processes_train_as_one_and_one_speaks",
    ),
    # ---- Scores, and what a run shows and leaves ----
    Mutant(
        'average = "binary" if logits.shape[-1] == 2 else "macro"',
        'average = "macro"',
        "With two classes, F1 is not that of the positive class.",
        "test_recipe.py::test_metrics_of_two_classes_worked_by_hand",
    ),
    Mutant(
        '"f1": f1, "precision": precision, "recall": recall}',
        '"f1": accuracy, "precision": precision, "recall": recall}',
        "F1 is the accuracy.",
        "test_recipe.py::test_metrics_of_two_classes_worked_by_hand",
    ),
    Mutant(
        '"precision": precision, "recall": recall}',
        '"precision": recall, "recall": precision}',
        "Precision and recall are swapped.",
        "test_recipe.py::test_metrics_of_three_classes_worked_by_hand",
    ),
    Mutant(
        "proportion_ci(method=",
        "proportion_ci(0.9, method=",
        "What is called a 95 % interval is one of 90 %.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        "int(np.bincount(labels).max())",
        "int(np.bincount(labels).min())",
        "Any model seems better than the baseline.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        "{scores[f'test_{name}']:.4f}",
        "{scores['test_accuracy']:.4f}",
        "The lines of F1, precision and recall show the accuracy.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        'of_what = f"positive class 正类 {names[1]}"',
        'of_what = f"positive class 正类 {names[0]}"',
        "The scores are said to be those of the other class.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        'if scores["test_accuracy"] <= scores["test_majority_baseline"]:',
        'if scores["test_accuracy"] < scores["test_majority_baseline"]:',
        "A model that always gives the same answer is not reported.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        'trainer.save_metrics("test", test_scores)',
        'trainer.save_metrics("test", train_scores)',
        "test_results.json holds the scores of training.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        "classifier(text, truncation=True)",
        "classifier(text)",
        "A long sample text ends the run in a traceback.",
        "test_recipe.py::test_every_family[bert]",
    ),
    Mutant(
        "special.softmax(logits, axis=1).max(axis=1)",
        "special.softmax(logits, axis=1)[:, -1]",
        "The confidence is that of the other class.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        "order = (mistakes + table",
        "order = (table",
        "The mistakes are hidden among all the rows.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        'index=False, encoding="utf-8-sig")',
        'index=False, encoding="utf-8")',
        "Excel shows Chinese texts as nonsense.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        '            table["label"],\n            table["prediction"],\n',
        '            table["prediction"],\n            table["label"],\n',
        "The confusion matrix is transposed.",
        "test_recipe.py::test_the_last_screen_of_two_classes",
    ),
    Mutant(
        'table["label"], table["prediction"], zero_division=0',
        'table["prediction"], table["label"], zero_division=0',
        "In the table of classes precision and recall are swapped.",
        "test_recipe.py::test_the_last_screen_of_three_classes",
    ),
    Mutant(
        'nsmallest(10, "f1")',
        'nlargest(10, "f1")',
        "Of many classes the ten best are shown, not the worst.",
        "test_recipe.py::test_of_many_classes_the_ten_worst_are_shown",
    ),
    Mutant(
        "confidence 置信度 {answer['score']:.4f}",
        "confidence 置信度 {1 - answer['score']:.4f}",
        "The sample texts' confidence is that of the other class.",
        "test_recipe.py::test_the_screen_ends_with_the_sample_texts",
    ),
    Mutant(
        '{"POSITIVE": " 😊", "NEGATIVE": " 😞"}',
        '{"POSITIVE": " 😞", "NEGATIVE": " 😊"}',
        "A good review is answered with a sad face.",
        "test_recipe.py::test_the_screen_ends_with_the_sample_texts",
    ),
    Mutant(
        "            labels=names,\n            display_labels=shown_names,\n",
        "            labels=names,\n            display_labels=shown_names[::-1],\n",
        "The axes of the confusion matrix name the other classes.",
        "test_recipe.py::test_the_last_screen_of_three_classes",
    ),
    Mutant(
        'for name in ("loss", "eval_loss", "eval_accuracy"):',
        'for name in ("loss", "eval_accuracy"):',
        "The picture lacks the loss of the validation.",
        "test_recipe.py::test_the_curves_show_what_training_logged",
    ),
    Mutant(
        'return "DejaVu Sans", range(len(names))',
        'return "DejaVu Sans", names',
        "A picture with boxes in place of names, and a warning for each.",
        "test_recipe.py::test_the_picture_of_all_kinds_of_names",
    ),
    Mutant(
        '"text.parse_math": False',
        '"text.parse_math": True',
        "A class called $_$ ends the run in a traceback after training.",
        "test_recipe.py::test_the_picture_of_all_kinds_of_names",
    ),
    Mutant(
        "fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: font.name)",
        "fonts = font_manager.fontManager.ttflist",
        "The same run gives another picture after another font was installed.",
        "test_recipe.py::test_the_picture_is_the_same_in_whatever_order_fonts_are_found",
    ),
    Mutant(
        "constants(Recipe) | used",
        "constants(Recipe)",
        "The card names a model, data and a rate that were not used.",
        "test_recipe.py::test_the_embedded_default_trains_as_it_says",
    ),
    # ---- Checks and errors ----
    Mutant(
        "        validate_typed_dict(Constants, constants(Constants))\n",
        "        pass\n",
        "A wrong constant is found after minutes, by a traceback.",
        "test_errors.py::test_a_wrong_constant_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "not least <= value <= greatest",
        "(value < least or value > greatest)",
        "A learning rate of NaN trains a model of NaNs.",
        "test_errors.py::test_a_wrong_constant_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "len({*LABEL_NAMES}) == len(LABEL_NAMES) > 0",
        "len(LABEL_NAMES) > 0",
        "Two classes get the same name.",
        "test_errors.py::test_a_wrong_constant_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "require(TEXT_COLUMN != LABEL_COLUMN,",
        "require(True,",
        "A model learns to read the label.",
        "test_errors.py::test_a_wrong_constant_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "dict[Literal[SPLITS], Files]",
        "dict[str, Files]",
        'A file under the key "dev" is ignored in silence.',
        "test_forms.py::test_data_files_name_the_three_splits",
    ),
    Mutant(
        "    check_names()\n",
        "",
        "pf.TRAIN_SIZ = 500 changes nothing, in silence.",
        "test_errors.py::test_a_misspelt_constant_is_named",
    ),
    Mutant(
        "if any(folder.iterdir()) and not earlier_runs:",
        "if False:",
        "Somebody else's README.md is overwritten.",
        "test_errors.py::test_a_folder_of_someone_elses_is_not_written_to",
    ),
    Mutant(
        'earlier_runs = [*folder.glob("run-" + 16 * "[0-9a-f]")]',
        "earlier_runs = []",
        "A killed run cannot go on: its folder is said to be in use.",
        "test_robust.py::test_a_killed_run_goes_on_to_the_same_end",
    ),
    Mutant(
        "source.resolve().is_relative_to(folder.resolve())",
        "model == folder",
        "The model that a run starts from is overwritten.",
        "test_errors.py::test_the_output_folder_may_not_hold_the_model",
    ),
    Mutant(
        'if str(folder).startswith("~"):',
        "if False:",
        "A folder called ~ appears beside the program.",
        "test_errors.py::test_a_wrong_output_folder_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "    except NameError:  # a slip in this file",
        "    except MemoryError:  # a slip in this file",
        "A slip in the file itself reads as if the data were wrong.",
        "test_errors.py::test_what_the_user_cannot_mend_keeps_its_traceback",
    ),
    Mutant(
        "        if advice:\n",
        "        if False:\n",
        "An error does not say how to save a file as UTF-8.",
        "test_forms.py::test_the_usual_causes_get_their_advice",
    ),
    Mutant(
        "        if cause not in words:\n",
        "        if False:\n",
        "An error only says that something went wrong.",
        "test_errors.py::test_the_cause_behind_a_librarys_error_is_said",
    ),
    Mutant(
        '{what}: {words}") from None',
        '{what}: {words}") from error',
        "In a notebook one line is followed by fifty of a library's.",
        "test_notebook.py::test_a_mistake_is_one_line_and_the_next_cell_mends_it",
    ),
    Mutant(
        'sys.stdout.reconfigure(errors="replace")',
        'sys.stdout.reconfigure(errors="strict")',
        "A terminal without Chinese ends the run in a traceback.",
        "test_end_to_end.py::test_own_choice_never_falls_back_and_a_terminal_may_lack_chinese",
    ),
    Mutant(
        "raise SystemExit(error.exit_code) from None",
        "raise SystemExit(1) from None",
        "A shell script cannot tell a wrong setting from a crash.",
        "test_errors.py::test_a_shell_gets_the_line_and_exit_code_2",
    ),
    # ---- found by reading ----
    Mutant(
        "save_original_format=False",
        "save_original_format=True",
        "An old BERT that is resumed loses what its LayerNorms have learnt.",
        "test_robust.py::test_weights_under_their_old_names_go_on_as_well",
    ),
    Mutant(
        r"\.(gz|bz2|xz|zst)$",
        r"\.(csv|gz|bz2|xz|zst)$",
        "A CSV named a.xlsx.csv is taken for a workbook.",
        "test_files.py::test_one_file_of_each_kind[from.xlsx.csv]",
    ),
    Mutant(
        'f"{text[:99]} "',
        'f"{text} "',
        "A first text of 500 kB fills the memory.",
        "test_recipe.py::test_a_long_text_is_not_repeated_to_try_the_model",
    ),
    Mutant(
        'f"checkpoint-{trainer.state.best_global_step}"',
        "trainer.state.best_model_checkpoint",
        "A renamed OUTPUT_DIR ends the run in a traceback.",
        "test_recipe.py::test_the_better_checkpoint_is_found_where_the_folder_is_now",
    ),
    Mutant(
        "full_names.get(name, name).casefold()",
        "name",
        'LABEL_NAMES = ["POS", "NEG"] swaps the classes of neg and pos.',
        "test_data.py::test_label_names_are_an_order_or_new_names",
    ),
    Mutant(
        "if split in SPLITS and find_reader(path):",
        "if split in SPLITS:",
        "In a folder train.py is read as data.",
        "test_files.py::test_a_folder_holds_other_things_too",
    ),
    Mutant(
        'r"^[^.~].*',
        'r"^.*',
        "What Excel leaves beside an open workbook is read as one.",
        "test_files.py::test_a_folder_of_one_table",
    ),
    Mutant(
        "csv|tsv|xlsx)$",
        "csv|tsv|xlsx|json)$",
        "In a folder meta.json is read as rows.",
        "test_files.py::test_a_folder_of_one_table",
    ),
    Mutant(
        'or named or (folder / "README.md").exists()',
        "or named",
        "All configurations of a data set are thrown together.",
        "test_files.py::test_a_configuration_is_chosen",
    ),
    Mutant(
        "for path in sorted(folder.iterdir()):",
        "for path in reversed(sorted(folder.iterdir())):",
        "A copied folder gives other rows.",
        "test_files.py::test_a_folder_of_tables_without_the_names_of_parts",
    ),
    Mutant(
        '"/$|^__MACOSX"',
        '"/$"',
        "A zip made on a Mac cannot be read.",
        "test_files.py::test_one_file_of_each_kind[mac.zip]",
    ),
    Mutant(
        '("\\x1f", ";", "\\t", "|", ",")',
        '(";", "\\t", "|", ",")',
        "A list of texts with a semicolon cannot be labelled.",
        "test_files.py::test_a_csv_of_texts_alone",
    ),
    Mutant(
        ").name[-50:]",
        ").name",
        "A file with a long Chinese name cannot be fetched.",
        "test_files.py::test_a_file_by_its_address",
    ),
    Mutant(
        'unicodedata.normalize("NFKC", clean_name(name)).casefold()',
        'unicodedata.normalize("NFKC", name).casefold()',
        "LABEL_NAMES copied with a blank at the end swap the classes.",
        "test_data.py::test_label_names_are_an_order_or_new_names",
    ),
    Mutant(
        "if not (files or named or",
        "if not (files or",
        "my_test.csv is trained on.",
        "test_files.py::test_a_folder_of_three_parts",
    ),
    Mutant(
        "glob.glob(pattern, recursive=True)",
        "glob.glob(pattern)",
        "Of data/**/*.csv only the files one folder below are read.",
        "test_files.py::test_a_pattern_goes_through_folders",
    ),
    Mutant(
        "    if sorted(names) == sorted(LABEL_NAMES):\n"
        "        return labels.cat.reorder_categories(LABEL_NAMES)\n",
        "",
        "The data's own names are refused where two differ in case only.",
        "test_data.py::test_label_names_are_an_order_or_new_names",
    ),
    Mutant(
        '    DISK_FULL: "make room',
        '    "no such words": "make room',
        "A disk that fills up while a model is fetched is blamed on the model.",
        "test_errors.py::test_a_full_disk_while_loading_is_one_line_with_advice",
    ),
    Mutant(
        "|dev|test)(?![a-z])",
        "|dev|test)",
        "A folder with devices.csv is read by another reader.",
        "test_files.py::test_a_folder_of_one_table",
    ),
    Mutant(
        '(device == "cuda" and forks)',
        '(device == "cuda")',
        "On Windows a GPU waits for imports at every validation.",
        "test_recipe.py::test_batches_are_prepared_by_processes_that_start_at_once",
    ),
    Mutant(
        "os.path.expanduser(str(pattern))",
        "os.path.expanduser(pattern)",
        "The error speaks of np.str_.",
        "test_errors.py::test_a_missing_file_is_named_as_it_was_written",
    ),
    Mutant(
        "suppress(RuntimeError, OSError)",
        "suppress(RuntimeError)",
        "A font that has been removed ends the run before the picture.",
        "test_recipe.py::test_a_font_that_is_listed_but_gone_is_passed_over",
    ),
    Mutant(
        '"[\\ud800-\\udfff]", "\\ufffd", regex=True',
        '"\\ud83d", "\\ufffd"',
        "Half an emoji ends the run in a traceback.",
        "test_data.py::test_half_an_emoji_in_json",
    ),
    Mutant(
        "        except PermissionError as error:\n",
        "        except MemoryError as error:\n",
        "With the CSV open in Excel, a run on Windows ends in a traceback.",
        "test_errors.py::test_scores_are_shown_though_a_file_cannot_be_written",
    ),
    Mutant(
        "        except torch.OutOfMemoryError:\n",
        "        except MemoryError:\n",
        "A full GPU ends in fifty lines that keep it full.",
        "test_errors.py::test_a_full_gpu_is_one_line",
    ),
    Mutant(
        'REPORT_TO in ("none", *installed),',
        "True,",
        "That tensorboard is missing is found after the model is loaded, by a traceback.",
        "test_errors.py::test_a_wrong_constant_is_found_before_anything_is_loaded",
    ),
    Mutant(
        "sources += np.atleast_1d(files).tolist()",
        "pass",
        "Rows corrected by hand are overwritten.",
        "test_errors.py::test_the_rows_of_a_run_are_not_overwritten_by_it",
    ),
]


def copy_the_project(folder, program):
    """Put the project into a folder, with this text as the program."""
    shutil.copytree(ROOT / "tests", folder / "tests")
    for name in ("README.md", "requirements.txt"):
        shutil.copy(ROOT / name, folder / name)
    (folder / PROGRAM).write_text(program, encoding="utf-8")


def run_here(folder, tests):
    """Run tests of the project in this folder: the one thing that a process does."""
    os.chdir(folder / "tests")
    tempfile.tempdir = str(folder)  # what the tests write is removed with it
    output = os.open(folder / "output.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # These are imported again, from this folder.
    for name in ("benchmark", "conftest", "models", "pretrain_finetune"):
        del sys.modules[name]
    code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])
    sys.stdout.flush()
    os._exit(code)


def run_tests(program, tests):
    """Run tests with this text as the program; return the exit code and the output.

    The exit code is None if they take longer than the limit.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        copy_the_project(folder, program)
        process = FORK.Process(target=run_here, args=(folder, tests))
        process.start()
        process.join(LIMIT)
        code = process.exitcode
        process.kill()
        process.join()
        output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
    return code, output


def verdict(mutant, program):
    """Say what became of a mutant: caught (and by which test), SURVIVED or ERROR."""
    places = program.count(mutant.right)
    if places != 1:
        return f"ERROR its line stands in the program {places} times"
    program = program.replace(mutant.right, mutant.wrong)
    code, output = run_tests(program, mutant.tests.split())
    if code is None:
        return "ERROR its tests do not end"
    if code == 0 and mutant.harmless:
        return f"harmless {mutant.harmless}"
    if code == 0:
        return "SURVIVED"
    failed = re.search(r"(?m)^(?:FAILED|ERROR) (\S+::\S+)", output)
    if code == 1 and failed:
        return f"caught by {failed[1]}"
    return f"ERROR its tests do not run:\n{output[-1000:]}"


def main():
    """Try the mutants, print what became of them, and return the exit code."""
    parser = argparse.ArgumentParser(description="Break the program on purpose.")
    parser.add_argument("numbers", type=int, nargs="*", help="which mutants; else all")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time")
    options = parser.parse_args()
    numbers = options.numbers or range(1, len(MUTANTS) + 1)
    chosen = [MUTANTS[number - 1] for number in numbers]
    program = (ROOT / PROGRAM).read_text(encoding="utf-8")

    # A test that fails anyway catches nothing.
    tests = sorted({test for mutant in chosen for test in mutant.tests.split()})
    code, output = run_tests(program, tests)
    if code != 0:
        print(output[-3000:])
        print("The tests fail on the program as it is.")
        return 1

    verdicts = []
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(lambda mutant: verdict(mutant, program), chosen)
        for number, mutant, result in zip(numbers, chosen, results, strict=True):
            print(f"{number:3} {mutant.harm}\n    {result}", flush=True)
            verdicts.append(result)

    print()
    for number, mutant, result in zip(numbers, chosen, verdicts, strict=True):
        if not result.startswith("caught"):
            print(f"{number:3} {result}\n    {mutant.right.strip()}")
    caught = sum(result.startswith("caught") for result in verdicts)
    harmless = sum(result.startswith("harmless") for result in verdicts)
    print(f"{caught} of {len(chosen)} mutants were caught; {harmless} are harmless.")
    return int(caught + harmless < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
