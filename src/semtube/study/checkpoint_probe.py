"""One checkpoint's trajectories: a forward pass a batch, measured and forgotten.

Shape letters: B rows, T tokens, D hidden size, N documents, P sampled positions.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from semtube.config import ProbeOptions
from semtube.data.rendering import Rendered
from semtube.data.tokens import ROW_KEY, Collator
from semtube.errors import UserError
from semtube.evaluation.batching import token_batches
from semtube.evaluation.decoding import evaluating
from semtube.evaluation.padding import pad_right
from semtube.geometry.concepts import ConceptDirectionsOfPhrases
from semtube.geometry.draws import generator_of
from semtube.geometry.measured import Measured
from semtube.geometry.measures import MEASURES, measure_documents
from semtube.geometry.paths import Paths, check_ends
from semtube.geometry.spectra import SpectrumOfStates
from semtube.geometry.two_views import TwoViews
from semtube.models.decoder import find_decoder
from semtube.models.host_batch import HostBatch
from semtube.models.layer_states import layer_states
from semtube.objectives.trajectories import ANSWER, CONTENT_ROLES, PROMPT, ROLES_KEY
from semtube.study.phrases import Occurrence
from semtube.study.probe_table import Row

#: States that are kept of each layer, for measures that need them all at once. Ours.
MOST_POSITIONS = 2048
#: What stands for a view.
VIEW_ENDS = ("the prompt's last token", "the answer's last token")


@dataclass
class LayerSums:
    """What is kept of a layer while batches go by.

    Args:
        states: at the sampled positions, by their place.
        paths: of the rows that are drawn, (tokens, D) each.
        steps: mean length of a step of each row that has one.
    """

    spectrum: SpectrumOfStates = field(default_factory=SpectrumOfStates)
    views: TwoViews = field(default_factory=TwoViews)
    concepts: ConceptDirectionsOfPhrases = field(default_factory=ConceptDirectionsOfPhrases)
    states: dict[int, Tensor] = field(default_factory=dict)
    paths: dict[int, Tensor] = field(default_factory=dict)
    steps: list[float] = field(default_factory=list)

    @property
    def mean_step(self) -> float | None:
        """Over rows; None where no row moves."""
        return sum(self.steps) / len(self.steps) if any(self.steps) else None

    def sampled(self) -> Tensor:
        """(P, D) the states at the sampled positions."""
        return torch.stack([self.states[place] for place in sorted(self.states)])


@dataclass(frozen=True)
class MeasuredLayer:
    """A layer's states in one batch, and what every measure says of its documents."""

    layer: str
    hidden_BTD: Tensor
    paths: Paths
    measures: dict[str, Measured]


def measure_batch(
    model: Any,
    layers: Sequence[str],
    batch: dict[str, Tensor],
    sources: Sequence[str],
    *,
    content: str,
    dear: bool,
) -> Iterator[MeasuredLayer]:
    """One forward pass, layer after layer; the model is in eval mode for it, without gradients.

    Args:
        batch: what the model takes, and `token_roles`, if the text is to be told from its template.
        sources: what to call each document.

    Raises:
        UserError: states that are not finite, naming layer, document and token.
    """
    device = next(model.parameters()).device
    batch = {name: value.to(device) for name, value in batch.items()}
    roles_BT = batch.pop(ROLES_KEY, None)
    states = forward_states(model, layers, batch)
    host = HostBatch.read((), batch, roles_BT)
    trajectories = host.trajectories(states[layers[0]], content)
    for layer in layers:
        hidden_BTD = states.pop(layer)
        paths = Paths.of_documents(hidden_BTD, trajectories)
        paths.check_finite(layer, sources)
        increments = Paths.of_increments(hidden_BTD, trajectories)
        measures = measure_documents(paths, increments, dear=dear)
        yield MeasuredLayer(layer, hidden_BTD, paths, measures)


def forward_states(
    model: Any, layers: Sequence[str], inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """States (B, T, D) of every layer."""
    with layer_states(model, layers) as states, evaluating(model), torch.no_grad():
        find_decoder(model)(**inputs, use_cache=False)
        return dict(states)


class CheckpointProbe:
    """Measures one model on tokenized rows; memory grows with layers and width, not with rows.

    Args:
        name: of the checkpoint, in the table.
        model: in float32; it is not changed.
        layers: of `layer_names`.
        phrases: whose directions are compared.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        rows: Sequence[Rendered],
        layers: Sequence[str],
        phrases: Sequence[Occurrence],
        pad_id: int,
        options: ProbeOptions,
    ) -> None:
        self.name = name
        self.model = model
        self.rows = rows
        self.layers = layers
        self.pad_id = pad_id
        self.options = options
        self.sums = {layer: LayerSums() for layer in layers}
        self.left_out: Counter[tuple[str, str, int | None]] = Counter()
        self.positions = sampled_positions(rows, options)
        self._sampled: dict[int, list[tuple[int, int]]] = defaultdict(list)
        if options.measures == "all":  # no cheap measure needs states that are kept
            for place, (row, token) in enumerate(self.positions):
                self._sampled[row].append((place, token))
        self._phrases: dict[int, list[Occurrence]] = defaultdict(list)
        for occurrence in phrases:
            self._phrases[occurrence.row].append(occurrence)
        roles = CONTENT_ROLES[options.content]
        drawable = [n for n, row in enumerate(rows) if row.num_tokens_of(roles) >= 3]
        self._drawn = frozenset(drawable[: options.drawn_examples])
        #: Rows without a prompt or an answer; every row until `read_views`.
        self.num_without_views = len(rows)

    def has_tokens_of(self, other: CheckpointProbe) -> bool:
        """Whether the rows of both are the same tokens."""
        return [row.input_ids for row in self.rows] == [row.input_ids for row in other.rows]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def documents(self, on_progress: Callable[[int], None]) -> Iterator[Row]:
        """Every measure of every row, batch after batch.

        Raises:
            UserError: states that are not finite, naming layer, row and token.
        """
        lengths = [len(row.input_ids) for row in self.rows]
        num_done = 0
        for chosen in token_batches(lengths, batch_tokens=self.options.batch_tokens):
            yield from self._batch(chosen)
            num_done += len(chosen)
            on_progress(num_done)

    def _batch(self, chosen: list[int]) -> Iterator[Row]:
        rows = [self.rows[i] for i in chosen]
        batch = Collator(self.pad_id, with_roles=True)(list(zip(chosen, rows, strict=True)))
        del batch[ROW_KEY], batch["labels"]
        sources = [row.source for row in rows]
        for found in measure_batch(
            self.model, self.layers, batch, sources,
            content=self.options.content, dear=self.options.measures == "all",
        ):  # fmt: skip
            for measure, value in found.measures.items():
                yield from self._table_rows(found.layer, measure, value, sources)
            steps = found.measures["step_length"]
            self.sums[found.layer].steps += steps.value[steps.defined].tolist()
            self._keep(found.layer, found.hidden_BTD, found.paths, chosen)

    def _table_rows(
        self, layer: str, measure: str, found: Measured, sources: Sequence[str]
    ) -> Iterator[Row]:
        lengths: tuple[int | None, ...] = MEASURES[measure].lengths or (None,)
        values = found.value.reshape(len(sources), -1).tolist()
        defined = found.defined.reshape(len(sources), -1).tolist()
        for source, value_W, defined_W in zip(sources, values, defined, strict=True):
            for length, value, is_defined in zip(lengths, value_W, defined_W, strict=True):
                if is_defined:
                    yield Row(self.name, layer, source, measure, value, length)
                else:
                    self.left_out[layer, measure, length] += 1

    def _keep(self, layer: str, hidden_BTD: Tensor, paths: Paths, chosen: list[int]) -> None:
        sums = self.sums[layer]
        sums.spectrum.add(paths.rows())
        found = [(b, of) for b, row in enumerate(chosen) for of in self._phrases.get(row, ())]
        if found:
            rows = [b for b, _ in found]
            before = hidden_BTD[rows, [of.start - 1 for _, of in found]]
            last = hidden_BTD[rows, [of.stop - 1 for _, of in found]]
            sums.concepts.add([of.phrase for _, of in found], last - before)
        for b, row in enumerate(chosen):
            for place, token in self._sampled.get(row, ()):
                # Copied: a view would keep the states of its whole batch.
                sums.states[place] = hidden_BTD[b, token].cpu().clone()
            if row in self._drawn:
                sums.paths[row] = paths.states_NLD[b, : int(paths.size_N[b])].cpu().clone()

    def read_views(self) -> None:
        """Encode prompt and answer of every row as texts of their own: their last tokens' states.

        Raises:
            UserError: states that are not finite, naming layer, row and view.

        Source: LLM-JEPA, arXiv 2509.14252: separate encodings of the two views.
        """
        of_rows = [(_only(row, PROMPT), _only(row, ANSWER)) for row in self.rows]
        views = [view for view in of_rows if all(view)]
        sources = [row.source for row, view in zip(self.rows, of_rows, strict=True) if all(view)]
        self.num_without_views = len(self.rows) - len(views)
        if not views:
            return
        texts = [text for view in views for text in view]
        # Both texts of a row in one batch, so that no end waits for another batch.
        lengths = [max(map(len, view)) for view in views]
        budget = self.options.batch_tokens
        for chosen in token_batches(lengths, batch_tokens=budget, copies=[2] * len(views)):
            places = [2 * k + view for k in chosen for view in (0, 1)]
            ids_BT, mask_BT = pad_right([texts[i] for i in places], self.pad_id, self.device)
            inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
            states = forward_states(self.model, self.layers, inputs)
            last_B = mask_BT.sum(1) - 1
            row_B = torch.arange(len(places), device=self.device)
            for layer in self.layers:
                end_BD = states[layer][row_B, last_B]
                check_ends(end_BD, layer, [sources[k] for k in chosen], VIEW_ENDS)
                self.sums[layer].views.add(end_BD[0::2], end_BD[1::2])


def sampled_positions(rows: Sequence[Rendered], options: ProbeOptions) -> list[tuple[int, int]]:
    """(row, token) of at most MOST_POSITIONS content tokens that have a successor, in their order.

    The same for every checkpoint with the same tokens. Every token draws a number, and those of the
    smallest are the sample: no more of them are held at a time.
    """
    roles = CONTENT_ROLES[options.content]
    numbers = random.Random(generator_of(options.seed, "positions").initial_seed())
    drawn = (
        (numbers.random(), number, token)
        for number, row in enumerate(rows)
        for token, role in enumerate(row.roles[:-1])
        if role in roles
    )
    return sorted((row, token) for _, row, token in heapq.nsmallest(MOST_POSITIONS, drawn))


def _only(row: Rendered, role: int) -> list[int]:
    return [token for token, of in zip(row.input_ids, row.roles, strict=True) if of == role]


def check_probed(model: Any) -> None:
    """Refuse a model whose states are not those of the text alone.

    Raises:
        UserError: prompt tuning, or weights that are not float32.
    """
    settings = getattr(model, "active_peft_config", None)
    if settings is not None and settings.is_prompt_learning:
        raise UserError("prompt tuning puts states before the text's own: it cannot be probed")
    found = {parameter.dtype for parameter in model.parameters()} - {torch.float32}
    if found:
        raise UserError(
            f"the model's weights are {str(found.pop()).removeprefix('torch.')}, in which small "
            "steps of a trajectory are lost: train float32 weights with bf16=True, as Trainer has "
            "them in mixed precision, or probe a saved checkpoint, which semtube loads in float32"
        )
