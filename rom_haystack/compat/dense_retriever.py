"""1.x's `DensePassageRetriever` on ROM's embedders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from haystack import Document as HaystackDocument
from haystack import logging
from numpy.typing import NDArray

from rom_haystack.compat.arguments import HEADERS, TRAINING, Unused, device_of, token_of, warn_of_unused
from rom_haystack.compat.documents import Document, title_of
from rom_haystack.compat.models import check_replaceable, checkpoint_of, copy_model, same_model
from rom_haystack.compat.stores import DocumentStore, check_store, needed_store
from rom_haystack.components import ROMDocumentEmbedder, ROMTextEmbedder
from rom_haystack.components._queries import check_queries
from rom_haystack.modeling import DEFAULT_CHECKPOINT

logger = logging.getLogger(__name__)

_UNUSED = {
    "use_fast_tokenizers": Unused(default=True, instead="Tokenizers are the fast ones."),
    "similarity_function": Unused("dot_product", "The checkpoint knows its own similarity; the store has one, too."),
    "global_loss_buffer_size": Unused(150_000, "There is no distributed loss."),
}
_TRAIN_UNUSED = {
    **TRAINING,
    "test_filename": Unused(None, "Measure afterwards, with python -m training evaluate."),
    "max_samples": Unused(None, "Shorten the training file."),
    "max_processes": Unused(128, "Data is prepared in this process."),
    "multiprocessing_strategy": Unused(None, "Data is prepared in this process."),
    "dev_split": Unused(0, "Training watches no dev file; measure afterwards."),
    "evaluate_every": Unused(1000, "Training watches no dev file; measure afterwards."),
    "n_gpu": Unused(1, "Training takes the machine's default device."),
    "epsilon": Unused(1e-08, "The optimiser's own value is used."),
    "grad_acc_steps": Unused(1, "Raise batch_size; large batches give more in-batch negatives."),
    "optimizer_name": Unused("AdamW", "It is AdamW."),
    "optimizer_correct_bias": Unused(default=True, instead="AdamW corrects its bias."),
}


class DensePassageRetriever:
    """1.x's `DensePassageRetriever`, on `ROMTextEmbedder` and `ROMDocumentEmbedder`.

    Both models are the bundled ROM checkpoint by default, where 1.x had DPR's two: it was trained to embed questions
    and passages alike, so one encoder in memory does for both, and for the reader. A pair works, too: name one model
    for each. Embeddings of different models don't compare: after a change of models embed the documents anew, with
    `document_store.update_embeddings(retriever)`.

    Args:
        document_store: Where to search: a store of `rom_haystack.compat`. None where each call names one.
        query_embedding_model: Bundled name, folder or hub id of the model for queries.
        passage_embedding_model: The same for passages.
        model_version: Branch, tag or commit, where the models are hub ids.
        max_seq_len_query: Tokens per query; what is longer is cut.
        max_seq_len_passage: Tokens per passage, title counted; what is longer is cut.
        top_k: Most documents per query.
        use_gpu: With False, run on the CPU in any case.
        batch_size: Most texts per forward pass.
        embed_title: Put a document's title (`meta["name"]`, or else `meta["title"]`) before its text. File names are
            made readable.
        use_fast_tokenizers: Without effect; so are `similarity_function` and `global_loss_buffer_size`.
        similarity_function: Without effect.
        global_loss_buffer_size: Without effect.
        progress_bar: Show one where there are several texts.
        devices: Where to run: the first counts. None for the machine's default.
        use_auth_token: Token for private hub ids; True for the one in the environment.
        scale_score: Bring scores into the range from 0 to 1.

    Raises:
        TypeError: The document store is of another kind.
        ValueError: A value is out of range.
    """

    def __init__(
        self,
        document_store: DocumentStore | None = None,
        query_embedding_model: str | Path = DEFAULT_CHECKPOINT,
        passage_embedding_model: str | Path = DEFAULT_CHECKPOINT,
        model_version: str | None = None,
        max_seq_len_query: int = 64,
        max_seq_len_passage: int = 256,
        top_k: int = 10,
        use_gpu: bool = True,
        batch_size: int = 16,
        embed_title: bool = True,
        use_fast_tokenizers: bool = True,
        similarity_function: str = "dot_product",
        global_loss_buffer_size: int = 150_000,
        progress_bar: bool = True,
        devices: Sequence[Any] | None = None,
        use_auth_token: str | bool | None = None,
        scale_score: bool = True,
    ) -> None:
        owner = type(self).__name__
        warn_of_unused(owner, _UNUSED, locals())
        check_store(document_store)
        self.document_store = document_store
        self.model_version = model_version
        self.max_seq_len_query = max_seq_len_query
        self.max_seq_len_passage = max_seq_len_passage
        self.top_k = top_k
        self.batch_size = batch_size
        self.embed_title = embed_title
        self.progress_bar = progress_bar
        self.scale_score = scale_score
        self._device = device_of(owner, use_gpu, devices)
        self._token = token_of(use_auth_token)
        self._use(str(query_embedding_model), str(passage_embedding_model))

    def _use(self, query_model: str, passage_model: str) -> None:
        """Take models; they are loaded when they are first needed."""
        self.query_embedding_model = query_model
        self.passage_embedding_model = passage_model
        options: dict[str, Any] = {
            "device": self._device,
            "token": self._token,
            "revision": self.model_version,
            "batch_size": self.batch_size,
            "progress_bar": self.progress_bar,
        }
        self._queries = ROMTextEmbedder(model=query_model, max_seq_length=self.max_seq_len_query, **options)
        self._passages = ROMDocumentEmbedder(
            model=passage_model,
            max_seq_length=self.max_seq_len_passage,
            meta_fields_to_embed=["title"] if self.embed_title else [],
            **options,
        )

    def retrieve(
        self,
        query: str,
        filters: Any = None,
        top_k: int | None = None,
        index: str | None = None,
        headers: dict[str, str] | None = None,
        scale_score: bool | None = None,
        document_store: DocumentStore | None = None,
    ) -> list[Document]:
        """Find the documents nearest to a query.

        Args:
            query: The question.
            filters: 1.x's filters on the documents.
            top_k: Here and below, None for the value given at construction.
            index: Where to search; None for the store's own.
            headers: Without effect.
            scale_score: See the class.
            document_store: See the class.

        Returns:
            Documents with scores, best first.

        Raises:
            ValueError: The query is blank, or there is no store.
        """
        each = [filters] if filters else None
        return self.retrieve_batch([query], each, top_k, index, headers, None, scale_score, document_store)[0]

    def retrieve_batch(
        self,
        queries: list[str],
        filters: Any = None,
        top_k: int | None = None,
        index: str | None = None,
        headers: dict[str, str] | None = None,
        batch_size: int | None = None,
        scale_score: bool | None = None,
        document_store: DocumentStore | None = None,
    ) -> list[list[Document]]:
        """Find the documents nearest to each of several queries.

        Args:
            queries: The questions.
            filters: For every query, or a list of one, or None, for each.
            top_k: As in `retrieve`, and so are the others.
            index: As in `retrieve`.
            headers: Without effect.
            batch_size: Without effect: queries are embedded in the batches given at construction.
            scale_score: As in `retrieve`.
            document_store: As in `retrieve`.

        Returns:
            One list per query, best first.

        Raises:
            TypeError: `queries` is a single text.
            ValueError: A query is blank, there is no store, or there are not as many filters as queries.
        """
        unused = {**HEADERS, "batch_size": Unused(self.batch_size, "Give it to the retriever itself.")}
        given = {"headers": headers, "batch_size": self.batch_size if batch_size is None else batch_size}
        warn_of_unused(f"{type(self).__name__}.retrieve", unused, given)
        check_queries(queries)
        return needed_store(document_store or self.document_store).query_by_embedding_batch(
            self.embed_queries(queries),
            filters=filters,
            top_k=self.top_k if top_k is None else top_k,
            index=index,
            scale_score=self.scale_score if scale_score is None else scale_score,
        )

    def embed_queries(self, queries: list[str]) -> NDArray[np.float32]:
        """Embed queries with their model.

        Returns:
            One row of 32-bit floats per query.
        """
        return np.asarray(self._queries.run_batch(queries)["embeddings"], dtype=np.float32)

    def embed_documents(self, documents: list[Document]) -> NDArray[np.float32]:
        """Embed documents with the model for passages; they stay as they are.

        Returns:
            One row of 32-bit floats per document.
        """
        passages = [HaystackDocument(content=d.content, meta={"title": title_of(d.meta)}) for d in documents]
        embedded: list[HaystackDocument] = self._passages.run(passages)["documents"]
        return np.asarray([passage.embedding for passage in embedded], dtype=np.float32)

    def train(
        self,
        data_dir: str | Path,
        train_filename: str,
        dev_filename: str | None = None,
        test_filename: str | None = None,
        max_samples: int | None = None,
        max_processes: int = 128,
        multiprocessing_strategy: str | None = None,
        dev_split: float = 0,
        batch_size: int = 2,
        embed_title: bool = True,
        num_hard_negatives: int = 1,
        num_positives: int = 1,
        n_epochs: int = 3,
        evaluate_every: int = 1000,
        n_gpu: int = 1,
        learning_rate: float = 1e-5,
        epsilon: float = 1e-08,
        weight_decay: float = 0.0,
        num_warmup_steps: int = 100,
        grad_acc_steps: int = 1,
        use_amp: Any = None,
        optimizer_name: str = "AdamW",
        optimizer_correct_bias: bool = True,
        save_dir: str | Path = "../saved_models/dpr",
        query_encoder_save_dir: str = "query_encoder",
        passage_encoder_save_dir: str = "passage_encoder",
        checkpoint_root_dir: str | Path = Path("model_checkpoints"),
        checkpoint_every: int | None = None,
        checkpoints_to_keep: int = 3,
        early_stopping: Any = None,
    ) -> None:
        """Train one encoder for queries and passages on DPR's training files, save it, and use it from now on.

        It begins with the model for queries. Documents must then be embedded anew.

        Args:
            data_dir: Folder of the files.
            train_filename: A JSON list of DPR's form (`question`, `positive_ctxs`, `hard_negative_ctxs`, …).
            dev_filename: Without effect; so are all others of which it is said.
            test_filename: Without effect.
            max_samples: Without effect.
            max_processes: Without effect.
            multiprocessing_strategy: Without effect.
            dev_split: Without effect.
            batch_size: Questions per step.
            embed_title: Put passages' titles before their texts.
            num_hard_negatives: Without effect: every passage of the file takes part as a negative.
            num_positives: Without effect: a step draws one of a question's positives.
            n_epochs: Times that each question is seen.
            evaluate_every: Without effect.
            n_gpu: Without effect.
            learning_rate: The greatest one.
            epsilon: Without effect.
            weight_decay: Of the optimiser.
            num_warmup_steps: Steps until the learning rate is reached.
            grad_acc_steps: Without effect.
            use_amp: Without effect.
            optimizer_name: Without effect.
            optimizer_correct_bias: Without effect.
            save_dir: Folder of what `load` reads.
            query_encoder_save_dir: In it, the folder of the model for queries.
            passage_encoder_save_dir: In it, the folder of the model for passages: a copy.
            checkpoint_root_dir: Without effect.
            checkpoint_every: Without effect.
            checkpoints_to_keep: Without effect.
            early_stopping: Without effect.

        Raises:
            CheckpointError: The model can't be found.
            ImportError: There is no checkout with the training module.
            RuntimeError: Training failed, for a mistake in the file or a value out of range: the message says why.
            ValueError: `save_dir` holds something else.
        """
        from rom_haystack.compat.training import train_retriever  # noqa: PLC0415 (only training needs it)

        owner = f"{type(self).__name__}.train"
        warn_of_unused(owner, _TRAIN_UNUSED, locals())
        if self.query_embedding_model != self.passage_embedding_model:
            logger.warning(
                "{owner} trains one encoder for queries and passages, which begins as {model}.",
                owner=owner,
                model=self.query_embedding_model,
            )
        folder = Path(save_dir).expanduser()
        check_replaceable(folder / passage_encoder_save_dir)  # rather now than after hours
        trained = train_retriever(
            checkpoint_of(self._queries),
            folder / query_encoder_save_dir,
            data_dir=Path(data_dir),
            train_filename=train_filename,
            dev_filename=dev_filename,
            epochs=n_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            num_positives=num_positives,
            num_hard_negatives=num_hard_negatives,
            max_query_length=self.max_seq_len_query,
            max_passage_length=self.max_seq_len_passage,
            embed_title=embed_title,
            warmup_steps=num_warmup_steps,
            weight_decay=weight_decay,
        )
        copy_model(trained, folder / passage_encoder_save_dir)
        self.close()
        self._use(str(trained), str(trained))

    def save(
        self,
        save_dir: str | Path,
        query_encoder_dir: str = "query_encoder",
        passage_encoder_dir: str = "passage_encoder",
    ) -> None:
        """Copy both models into a folder, from which `load` takes them.

        Args:
            save_dir: The folder.
            query_encoder_dir: In it, the folder of the model for queries.
            passage_encoder_dir: In it, the folder of the model for passages.

        Raises:
            CheckpointError: A model can't be found.
            ValueError: A folder holds something else.
        """
        copy_model(checkpoint_of(self._queries), Path(save_dir) / query_encoder_dir)
        copy_model(checkpoint_of(self._passages), Path(save_dir) / passage_encoder_dir)

    @classmethod
    def load(
        cls,
        load_dir: str | Path,
        document_store: DocumentStore | None,
        max_seq_len_query: int = 64,
        max_seq_len_passage: int = 256,
        use_gpu: bool = True,
        batch_size: int = 16,
        embed_title: bool = True,
        use_fast_tokenizers: bool = True,
        similarity_function: str = "dot_product",
        query_encoder_dir: str = "query_encoder",
        passage_encoder_dir: str = "passage_encoder",
    ) -> Self:
        """Make a retriever with the models of a folder; where they are the same, one does for both.

        Args:
            load_dir: What `save` or `train` wrote.
            document_store: See the class, for this and the others.
            max_seq_len_query: See the class.
            max_seq_len_passage: See the class.
            use_gpu: See the class.
            batch_size: See the class.
            embed_title: See the class.
            use_fast_tokenizers: See the class.
            similarity_function: See the class.
            query_encoder_dir: In the folder, that of the model for queries.
            passage_encoder_dir: In the folder, that of the model for passages.

        Raises:
            ValueError: One of them is not there.
        """
        queries, passages = (Path(load_dir).expanduser() / name for name in (query_encoder_dir, passage_encoder_dir))
        for folder in (queries, passages):
            if not folder.is_dir():
                raise ValueError(f"There is no folder {folder}; load needs the folder that save or train wrote.")
        return cls(
            document_store=document_store,
            query_embedding_model=queries,
            passage_embedding_model=queries if same_model(queries, passages) else passages,
            max_seq_len_query=max_seq_len_query,
            max_seq_len_passage=max_seq_len_passage,
            use_gpu=use_gpu,
            batch_size=batch_size,
            embed_title=embed_title,
            use_fast_tokenizers=use_fast_tokenizers,
            similarity_function=similarity_function,
        )

    def close(self) -> None:
        """Free the models, unless others share them; later use loads them again."""
        self._queries.close()
        self._passages.close()
