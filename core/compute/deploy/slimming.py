"""A pruned model from an original one: channels out, the rest trained further, judged by the gates again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.manifest import Network
from core.compute.deploy.bundling import pruned_version, with_pruned
from core.compute.deploy.cases import recipe_of
from core.compute.deploy.engines import Inputs
from core.compute.deploy.onnx_files import export_onnx
from core.compute.deploy.pruning import Pruned, prune
from core.compute.deploy.request import Request
from core.compute.evaluation.run import OpenedModel
from core.compute.training.run import train_recipe
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress
from core.recipes.load import load_recipe, parse_recipe, recipe_document
from core.recipes.schema import Recipe

PRUNED_FOLDER, TUNING_FOLDER = "pruned", "fine-tuning"
_SHARE_OF_EPOCHS, _RATE = 0.3, 0.3


@dataclass(frozen=True, eq=False)
class Slimmed:
    """The pruned model and how it came about.

    Attributes
    ----------
    model : OpenedModel
        Its bundle, and the run that fine-tuned it where there was one.
    pruned : Pruned
        Sizes before and after.
    gates : tuple of dict
        Verdicts after the fine-tuning.
    epochs : int
        Of the fine-tuning; 0 without one.
    """

    model: OpenedModel
    pruned: Pruned
    gates: tuple[dict[str, Any], ...] = ()
    epochs: int = 0

    def document(self, original: Bundle) -> dict[str, Any]:
        """Return the numbers for the report."""
        sizes = [_weights_bytes(bundle) for bundle in (original, self.model.bundle)]
        return {
            "parameters": dict(zip(("before", "after"), self.pruned.parameters, strict=True)),
            "operations": dict(zip(("before", "after"), self.pruned.operations, strict=True)),
            "bytes": dict(zip(("before", "after"), sizes, strict=True)),
            "fine_tuned_epochs": self.epochs,
            "gates": list(self.gates),
            "passed": all(gate["passed"] for gate in self.gates) if self.gates else None,
        }


def slim(
    model: OpenedModel,
    network: nn.Module,
    given: Inputs,
    request: Request,
    progress: Progress,
    cancel: CancelToken | None,
) -> Slimmed:
    """Prune a model and fine-tune it when there are a recipe and its data.

    Raises
    ------
    InputError
        ``deploy.prune`` (see ``prune``); from the recipe and the data.
    """
    description = model.bundle.manifest.network
    assert description is not None and request.prune is not None
    progress("Pruning", 0.1)
    found = prune(network, description, given, request.prune)
    has_graph = model.bundle.weights("onnx") is not None
    graph = export_onnx(model.bundle.manifest, found.network, given) if has_graph else None
    note = _note(found, request.prune)
    key = request.key
    bundle = with_pruned(
        model.bundle, found.network, found.description, graph, request.out / PRUNED_FOLDER, note=note, key=key
    )
    recipe = load_recipe(request.recipe) if request.recipe else recipe_of(model)
    tunable = recipe is not None and request.epochs != 0 and (request.data is not None or _procedural(recipe))
    if recipe is None or not tunable:
        return Slimmed(OpenedModel(bundle), found)
    tuned = tuning_recipe(recipe, found.description, bundle.manifest.version, request.epochs)
    folder = request.out / TUNING_FOLDER
    answer = train_recipe(
        tuned,
        data=request.data,
        out=folder,
        resume=False,
        device="cpu",
        progress=progress,
        cancel=cancel,
        private_key_file=key,
        initial=bundle,
    )
    trained = read_bundle(Path(answer["bundle"]))
    return Slimmed(
        OpenedModel(trained, folder), replace(found), tuple(answer["gates"]), tuned.training.epochs
    )


def tuning_recipe(recipe: Recipe, description: Network, version: str, epochs: int | None) -> Recipe:
    """Return the recipe that trains a pruned network further: its widths, fewer epochs, a lower rate.

    Same data, split and seed as the training before, so that what was tested stays unseen.

    Raises
    ------
    InputError
        ``deploy.recipe`` when the recipe is of another network.
    """
    if recipe.network.name != description.name:
        raise InputError(
            "deploy.recipe",
            f"The recipe trains a {recipe.network.name}, the model is a {description.name}.",
            "Give the recipe that the model was trained with.",
        )
    document = recipe_document(recipe)
    document["network"] |= {"weights": None, "pretraining": None}
    document["network"]["params"] = {**document["network"]["params"], "pruned": description.params["pruned"]}
    training = document["training"]
    training["epochs"] = epochs or max(1, round(_SHARE_OF_EPOCHS * recipe.training.epochs))
    training["rehearsal"] = None
    training["freezing"] = {"backbone": False, "unfreeze_every": None}
    document["optimizer"]["learning_rate"] *= _RATE
    document["schedule"] |= {"warmup_epochs": 0.0}
    document["bundle"]["version"] = version if "pruned" in version else pruned_version(version)
    return parse_recipe(document)


def _procedural(recipe: Recipe) -> bool:
    from core.recipes.sources.registry import list_cases

    try:
        return bool(list_cases(recipe.data.source, None, recipe.data.channels, recipe.data.missing))
    except InputError:
        return False


def _note(found: Pruned, fraction: float) -> str:
    before, after = found.parameters
    return (
        f"\n## Pruned\n\n{fraction:.0%} of the channels were removed: {before:,} → {after:,} parameters, "
        f"{found.operations[0]:,} → {found.operations[1]:,} multiply-adds per input. The numbers above are those of "
        "the original model.\n"
    )


def _weights_bytes(bundle: Bundle) -> int:
    weights = bundle.weights("safetensors") or bundle.weights("onnx")
    assert weights is not None
    return len(bundle.read(weights.file))
