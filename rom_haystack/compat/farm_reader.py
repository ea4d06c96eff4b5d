"""1.x's `FARMReader` on `ROMExtractiveReader`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rom_haystack.compat.arguments import TRAINING, Unused, device_of, token_of, warn_of_unused, warn_once
from rom_haystack.compat.documents import Document
from rom_haystack.compat.models import checkpoint_of, copy_model
from rom_haystack.compat.reader import Reader
from rom_haystack.compat.squad import evaluate
from rom_haystack.components import ROMExtractiveReader
from rom_haystack.questions import read_squad

#: Tokens of a query with the special tokens around it: of usual length, and of the longest.
_USUAL_QUERY = 16
_LONGEST_QUERY = 68

_FARM_UNUSED = {
    "top_k_per_sample": Unused(1, "Windows of a document are ranked together: set top_k_per_candidate."),
    "num_processes": Unused(None, "Reading happens in this process, many windows at once."),
    "progress_bar": Unused(default=True, instead="Reading shows no progress bar."),
    "proxies": Unused(None, "Set HTTPS_PROXY in the environment."),
    "force_download": Unused(default=False, instead="Delete the hub's cached copy."),
}
_TRAIN_UNUSED = {
    **TRAINING,
    "test_filename": Unused(None, "Measure afterwards, with eval_on_file."),
    "use_gpu": Unused(None, "Training takes the machine's default device."),
    "devices": Unused(None, "Training takes the machine's default device."),
    "dev_split": Unused(0, "Training watches no dev file; use eval_on_file."),
    "evaluate_every": Unused(300, "Training watches no dev file; use eval_on_file."),
    "num_processes": Unused(None, "Data is prepared in this process."),
    "caching": Unused(default=False, instead="Data is prepared as it is needed."),
    "cache_path": Unused(Path("cache/data_silo"), "Data is prepared as it is needed."),
    "grad_acc_steps": Unused(1, "Raise batch_size."),
}
_EVAL_UNUSED = {
    "device": Unused(None, "The reader's own device is used."),
    "calibrate_conf_scores": Unused(default=False, instead="The checkpoint's scores are calibrated."),
}


class FARMReader(Reader):
    """1.x's `FARMReader`, on `ROMExtractiveReader`.

    A score is the probability that the span answers the query, of one scale for all documents and the no-answer. How
    much the relevance of a passage counts in it is as in the model: DPR's readers rank by it first, models for
    question answering have none.

    ```python
    from rom_haystack.compat import Document, FARMReader

    reader = FARMReader("rom-minilm-l6")
    documents = [Document(content="Radium was discovered by Marie and Pierre Curie in 1898.")]
    print(reader.predict("Who discovered radium?", documents)["answers"][0].answer)
    ```

    Args:
        model_name_or_path: Bundled name (`rom-minilm-l6`), folder or hub id of the model.
        model_version: Branch, tag or commit of a hub id.
        context_window_size: Most characters of an answer's `context`, the answer counted, in whole words.
        batch_size: Most windows per forward pass.
        use_gpu: With False, run on the CPU in any case.
        devices: Where to run: the first counts. None for the machine's default.
        no_ans_boost: Added to the raw score of "there is no answer here".
        return_no_answer: Let that compete with the answers, as one with an empty `answer`.
        top_k: Most answers.
        top_k_per_candidate: Most answers per document.
        top_k_per_sample: Without effect; so are `num_processes`, `progress_bar`, `proxies` and `force_download`.
        num_processes: Without effect.
        max_seq_len: Tokens per window, query included; longer documents are read in several windows.
        doc_stride: Tokens from the start of a window to that of the next, as in 1.x; exact for a query of 13 tokens,
            fewer for longer ones, which leave less room. Less than 53 counts as 53.
        progress_bar: Without effect.
        duplicate_filtering: -1 keeps answers that overlap in one document; otherwise only the best of them stays. How
            far apart they may lie beyond that has no effect.
        use_confidence_scores: Scores are probabilities; else raw ones, log-odds against the null position.
        confidence_threshold: Drop answers with a lower score.
        proxies: Without effect.
        local_files_only: Never ask the hub.
        force_download: Without effect.
        use_auth_token: Token for private hub ids; True for the one in the environment.

    Raises:
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        model_version: str | None = None,
        context_window_size: int = 150,
        batch_size: int = 50,
        use_gpu: bool = True,
        devices: Sequence[Any] | None = None,
        no_ans_boost: float = 0.0,
        return_no_answer: bool = False,
        top_k: int = 10,
        top_k_per_candidate: int = 3,
        top_k_per_sample: int = 1,
        num_processes: int | None = None,
        max_seq_len: int = 256,
        doc_stride: int = 128,
        progress_bar: bool = True,
        duplicate_filtering: int = 0,
        use_confidence_scores: bool = True,
        confidence_threshold: float | None = None,
        proxies: dict[str, str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        use_auth_token: str | bool | None = None,
    ) -> None:
        owner = type(self).__name__
        # One process is no pool, which is what is asked for by 0 or 1.
        given = {**locals(), "num_processes": None if num_processes in (0, 1) else num_processes}
        warn_of_unused(owner, _FARM_UNUSED, given)
        if duplicate_filtering > 0:
            instead = "Answers that overlap are dropped; drop those that lie near each other by their offsets."
            warn_once(owner, "duplicate_filtering", f"duplicate_filtering={duplicate_filtering}", instead)
        self.top_k = top_k
        self.top_k_per_candidate = top_k_per_candidate
        self.return_no_answers = return_no_answer
        self.no_ans_boost = no_ans_boost
        self.use_confidence_scores = use_confidence_scores
        self.confidence_threshold = confidence_threshold
        self.doc_stride = doc_stride
        self._options: dict[str, Any] = {
            "revision": model_version,
            "device": device_of(owner, use_gpu, devices),
            "token": token_of(use_auth_token),
            "local_files_only": local_files_only,
            "max_seq_length": max_seq_len,
            "stride": _shared_tokens(max_seq_len, doc_stride),
            "max_batch_size": batch_size,
            "answers_per_seq": top_k_per_candidate,
            "overlap_threshold": None if duplicate_filtering < 0 else 0.01,
            "context_window_size": context_window_size,
        }
        self._use(str(model_name_or_path))

    def _use(self, model: str) -> None:
        """Take a model; it is loaded when it is first needed."""
        self.model_name_or_path = model
        self.reader = ROMExtractiveReader(model=model, top_k=self.top_k, no_answer=False, **self._options)

    def train(
        self,
        data_dir: str | Path,
        train_filename: str,
        dev_filename: str | None = None,
        test_filename: str | None = None,
        use_gpu: bool | None = None,
        devices: Sequence[Any] | None = None,
        batch_size: int = 10,
        n_epochs: int = 2,
        learning_rate: float = 1e-5,
        max_seq_len: int | None = None,
        warmup_proportion: float = 0.2,
        dev_split: float = 0,
        evaluate_every: int = 300,
        save_dir: str | Path | None = None,
        num_processes: int | None = None,
        use_amp: Any = None,
        checkpoint_root_dir: str | Path = Path("model_checkpoints"),
        checkpoint_every: int | None = None,
        checkpoints_to_keep: int = 3,
        caching: bool = False,
        cache_path: str | Path = Path("cache/data_silo"),
        grad_acc_steps: int = 1,
        early_stopping: Any = None,
    ) -> None:
        """Train the model on a SQuAD file, save it, and use it from now on.

        Args:
            data_dir: Folder of the file.
            train_filename: SQuAD's JSON; also DPR's, or a folder of JSON lines.
            dev_filename: Without effect; so are all others of which it is said.
            test_filename: Without effect.
            use_gpu: Without effect.
            devices: Without effect.
            batch_size: Questions per step.
            n_epochs: Times that each question is seen.
            learning_rate: The greatest one.
            max_seq_len: Tokens per window; None for the reader's own.
            warmup_proportion: Share of the steps until the learning rate is reached.
            dev_split: Without effect.
            evaluate_every: Without effect.
            save_dir: Folder of the model. None, as in 1.x, for `../../saved_models/` and the model's name.
            num_processes: Without effect.
            use_amp: Without effect.
            checkpoint_root_dir: Without effect.
            checkpoint_every: Without effect.
            checkpoints_to_keep: Without effect.
            caching: Without effect.
            cache_path: Without effect.
            grad_acc_steps: Without effect.
            early_stopping: Without effect.

        Raises:
            CheckpointError: The model can't be found.
            ImportError: There is no checkout with the training module.
            RuntimeError: Training failed, for a mistake in the file or a value out of range: the message says why.
            ValueError: `save_dir` holds something else.
        """
        from rom_haystack.compat.training import train_reader  # noqa: PLC0415 (only training needs it)

        warn_of_unused(f"{type(self).__name__}.train", _TRAIN_UNUSED, {**locals(), "devices": devices or None})
        length = self._options["max_seq_length"] if max_seq_len is None else max_seq_len
        trained = train_reader(
            checkpoint_of(self.reader),
            Path(save_dir or f"../../saved_models/{Path(self.model_name_or_path).name}").expanduser(),
            data_dir=Path(data_dir),
            train_filename=train_filename,
            dev_filename=dev_filename,
            epochs=n_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            max_length=length,
            stride=_shared_tokens(length, self.doc_stride),
            warmup_ratio=warmup_proportion,
        )
        self.close()
        self._use(str(trained))

    def eval_on_file(
        self, data_dir: str | Path, test_filename: str, device: Any = None, calibrate_conf_scores: bool = False
    ) -> dict[str, float]:
        """Measure the reader on a file of SQuAD's form, each question on its own paragraph.

        "There is no answer here" competes, with `no_ans_boost`, whatever `return_no_answer` says, as in 1.x. Answers
        are compared as SQuAD's own scorer does.

        Args:
            data_dir: The file's folder.
            test_filename: Its name.
            device: Without effect.
            calibrate_conf_scores: Without effect.

        Returns:
            In percent: `EM` and `f1` of the best answers; `top_n_accuracy`: how often one of the `top_n` best (the
            no-answer counted) overlaps with a right one; the same with `_text_answer` for questions that have an answer
            and `_no_answer` for the others; of the former also `top_n_EM` and `top_n_f1`, the best among `top_n`; and
            `Total_text_answer` and `Total_no_answer`, how many there are. NaN where there is none.

        Raises:
            OSError: The file can't be read.
            ValueError: The file is no SQuAD file.
        """
        given = {"device": device, "calibrate_conf_scores": calibrate_conf_scores}
        warn_of_unused(f"{type(self).__name__}.eval_on_file", _EVAL_UNUSED, given)
        questions = read_squad(Path(data_dir).expanduser() / test_filename)
        texts = [[Document(content=question.context, id=str(number))] for number, question in enumerate(questions)]
        found = self._found([question.query for question in questions], texts)
        return evaluate(questions, [self._ranked(answers)[0] for answers in found], top_n=self.top_k_per_candidate + 1)

    def save(self, directory: str | Path) -> None:
        """Copy the model to a folder, which is a `model_name_or_path`.

        Raises:
            CheckpointError: The model can't be found.
            ValueError: The folder holds something else.
        """
        copy_model(checkpoint_of(self.reader), Path(directory))

    @classmethod
    def load(cls, directory: str | Path, **arguments: Any) -> Self:
        """Make a reader with the model that `save` or `train` wrote; further arguments are the constructor's."""
        return cls(model_name_or_path=directory, **arguments)


def _shared_tokens(max_seq_len: int, doc_stride: int) -> int:
    """Turn 1.x's step from window to window into the number of tokens that neighbours share.

    Raises:
        ValueError: There is no step.
    """
    if doc_stride < 1:
        raise ValueError(f"doc_stride is {doc_stride}; windows must be at least 1 token apart.")
    return max(0, min(max_seq_len - _USUAL_QUERY - doc_stride, max_seq_len - _LONGEST_QUERY - 1))
