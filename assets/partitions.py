"""Partitions: data sets, and models and the papers' ablations on data sets. Data sets and models grow while the project runs; clips are never partitions."""

import warnings

import dagster as dg

from models.ablations import ABLATIONS

DATASETS = dg.DynamicPartitionsDefinition(name="dataset")
MODELS = dg.DynamicPartitionsDefinition(name="model")  # method:variant:seed
MODELS_ON_DATASETS = dg.MultiPartitionsDefinition({"dataset": DATASETS, "model": MODELS})
ABLATIONS_ON_DATASETS = dg.MultiPartitionsDefinition({"ablation": dg.StaticPartitionsDefinition([*ABLATIONS]), "dataset": DATASETS})

with warnings.catch_warnings():
    warnings.simplefilter("ignore", dg.BetaWarning)  # there is no other way to say it in Dagster 1.13
    TO_DATASET = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="dataset")


def model_partition(dataset: str, model: str) -> dg.MultiPartitionKey:
    """The partition of one model on one data set."""
    return dg.MultiPartitionKey({"dataset": dataset, "model": model})


def ablation_partition(dataset: str, ablation: str) -> dg.MultiPartitionKey:
    """The partition of one ablation table on one data set."""
    return dg.MultiPartitionKey({"ablation": ablation, "dataset": dataset})


def add_partitions(instance: dg.DagsterInstance, dataset: str, models: list[str]) -> None:
    """Make the partitions known to the instance; known ones stay."""
    instance.add_dynamic_partitions("dataset", [dataset])
    if models:
        instance.add_dynamic_partitions("model", models)
