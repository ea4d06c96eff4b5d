"""Every argument of Haystack 1.26, with its default, as looked up in its source."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from rom_haystack.compat import (
    BM25Retriever,
    DensePassageRetriever,
    Document,
    ExtractiveQAPipeline,
    FAISSDocumentStore,
    FARMReader,
    InMemoryDocumentStore,
    TransformersReader,
    convert_files_to_docs,
    print_answers,
)

NEEDED = inspect.Parameter.empty
OUR_MODEL = "the model is ours"
ANY_DIM = "that of the first embeddings"

RETRIEVE = {"filters": None, "top_k": None, "index": None, "headers": None, "scale_score": None, "document_store": None}
TRAIN = {"dev_filename": None, "test_filename": None, "dev_split": 0, "learning_rate": 1e-5, "use_amp": None}
CHECKPOINTS = {"checkpoint_root_dir": Path("model_checkpoints"), "checkpoint_every": None, "checkpoints_to_keep": 3}
READ_ALL = {"index": None, "filters": None, "return_embedding": None, "batch_size": 10_000, "headers": None}

# (callable, 1.x's arguments and defaults, where ours differ and why)
TABLE = [
    (
        DensePassageRetriever,
        {
            "document_store": None,
            "query_embedding_model": "facebook/dpr-question_encoder-single-nq-base",
            "passage_embedding_model": "facebook/dpr-ctx_encoder-single-nq-base",
            "model_version": None,
            "max_seq_len_query": 64,
            "max_seq_len_passage": 256,
            "top_k": 10,
            "use_gpu": True,
            "batch_size": 16,
            "embed_title": True,
            "use_fast_tokenizers": True,
            "similarity_function": "dot_product",
            "global_loss_buffer_size": 150_000,
            "progress_bar": True,
            "devices": None,
            "use_auth_token": None,
            "scale_score": True,
        },
        {"query_embedding_model": OUR_MODEL, "passage_embedding_model": OUR_MODEL},
    ),
    (DensePassageRetriever.retrieve, {"query": NEEDED, **RETRIEVE}, {}),
    (DensePassageRetriever.retrieve_batch, {"queries": NEEDED, **RETRIEVE, "batch_size": None}, {}),
    (DensePassageRetriever.embed_queries, {"queries": NEEDED}, {}),
    (DensePassageRetriever.embed_documents, {"documents": NEEDED}, {}),
    (
        DensePassageRetriever.train,
        {
            "data_dir": NEEDED,
            "train_filename": NEEDED,
            **TRAIN,
            "max_samples": None,
            "max_processes": 128,
            "multiprocessing_strategy": None,
            "batch_size": 2,
            "embed_title": True,
            "num_hard_negatives": 1,
            "num_positives": 1,
            "n_epochs": 3,
            "evaluate_every": 1000,
            "n_gpu": 1,
            "epsilon": 1e-08,
            "weight_decay": 0.0,
            "num_warmup_steps": 100,
            "grad_acc_steps": 1,
            "optimizer_name": "AdamW",
            "optimizer_correct_bias": True,
            "save_dir": "../saved_models/dpr",
            "query_encoder_save_dir": "query_encoder",
            "passage_encoder_save_dir": "passage_encoder",
            **CHECKPOINTS,
            "early_stopping": None,
        },
        {},
    ),
    (
        DensePassageRetriever.save,
        {"save_dir": NEEDED, "query_encoder_dir": "query_encoder", "passage_encoder_dir": "passage_encoder"},
        {},
    ),
    (
        DensePassageRetriever.load,
        {
            "load_dir": NEEDED,
            "document_store": NEEDED,
            "max_seq_len_query": 64,
            "max_seq_len_passage": 256,
            "use_gpu": True,
            "batch_size": 16,
            "embed_title": True,
            "use_fast_tokenizers": True,
            "similarity_function": "dot_product",
            "query_encoder_dir": "query_encoder",
            "passage_encoder_dir": "passage_encoder",
        },
        {},
    ),
    (
        BM25Retriever,
        {
            "document_store": None,
            "top_k": 10,
            "all_terms_must_match": False,
            "custom_query": None,
            "scale_score": True,
        },
        {},
    ),
    (BM25Retriever.retrieve, {"query": NEEDED, **RETRIEVE}, {}),
    (
        FARMReader,
        {
            "model_name_or_path": NEEDED,
            "model_version": None,
            "context_window_size": 150,
            "batch_size": 50,
            "use_gpu": True,
            "devices": None,
            "no_ans_boost": 0.0,
            "return_no_answer": False,
            "top_k": 10,
            "top_k_per_candidate": 3,
            "top_k_per_sample": 1,
            "num_processes": None,
            "max_seq_len": 256,
            "doc_stride": 128,
            "progress_bar": True,
            "duplicate_filtering": 0,
            "use_confidence_scores": True,
            "confidence_threshold": None,
            "proxies": None,
            "local_files_only": False,
            "force_download": False,
            "use_auth_token": None,
        },
        {},
    ),
    (FARMReader.predict, {"query": NEEDED, "documents": NEEDED, "top_k": None}, {}),
    (FARMReader.predict_batch, {"queries": NEEDED, "documents": NEEDED, "top_k": None, "batch_size": None}, {}),
    (FARMReader.predict_on_texts, {"question": NEEDED, "texts": NEEDED, "top_k": None}, {}),
    (
        FARMReader.eval_on_file,
        {"data_dir": NEEDED, "test_filename": NEEDED, "device": None, "calibrate_conf_scores": False},
        {},
    ),
    (
        FARMReader.train,
        {
            "data_dir": NEEDED,
            "train_filename": NEEDED,
            **TRAIN,
            "use_gpu": None,
            "devices": [],
            "batch_size": 10,
            "n_epochs": 2,
            "max_seq_len": None,
            "warmup_proportion": 0.2,
            "evaluate_every": 300,
            "save_dir": None,
            "num_processes": None,
            **CHECKPOINTS,
            "caching": False,
            "cache_path": Path("cache/data_silo"),
            "grad_acc_steps": 1,
            "early_stopping": None,
        },
        {"devices": "no list as a default"},
    ),
    (FARMReader.save, {"directory": NEEDED}, {}),
    (
        TransformersReader,
        {
            "model_name_or_path": "distilbert-base-uncased-distilled-squad",
            "model_version": None,
            "tokenizer": None,
            "context_window_size": 70,
            "use_gpu": True,
            "top_k": 10,
            "top_k_per_candidate": 3,
            "return_no_answers": False,
            "max_seq_len": 256,
            "doc_stride": 128,
            "batch_size": 16,
            "use_auth_token": None,
            "devices": None,
        },
        {"model_name_or_path": OUR_MODEL},
    ),
    (ExtractiveQAPipeline, {"reader": NEEDED, "retriever": NEEDED}, {}),
    (ExtractiveQAPipeline.run, {"query": NEEDED, "params": None, "debug": None}, {}),
    (ExtractiveQAPipeline.run_batch, {"queries": NEEDED, "params": None, "debug": None}, {}),
    (
        FAISSDocumentStore,
        {
            "sql_url": "sqlite:///faiss_document_store.db",
            "vector_dim": None,
            "embedding_dim": 768,
            "faiss_index_factory_str": "Flat",
            "faiss_index": None,
            "return_embedding": False,
            "index": "document",
            "similarity": "dot_product",
            "embedding_field": "embedding",
            "progress_bar": True,
            "duplicate_documents": "overwrite",
            "faiss_index_path": None,
            "faiss_config_path": None,
            "isolation_level": None,
            "n_links": 64,
            "ef_search": 20,
            "ef_construction": 80,
            "validate_index_sync": True,
        },
        {"embedding_dim": ANY_DIM},
    ),
    (FAISSDocumentStore.save, {"index_path": NEEDED, "config_path": None}, {}),
    (FAISSDocumentStore.load, {"index_path": NEEDED, "config_path": None}, {}),
    (FAISSDocumentStore.train_index, {"documents": None, "embeddings": None, "index": None}, {}),
    (
        InMemoryDocumentStore,
        {
            "index": "document",
            "label_index": "label",
            "embedding_field": "embedding",
            "embedding_dim": 768,
            "return_embedding": False,
            "similarity": "dot_product",
            "progress_bar": True,
            "duplicate_documents": "overwrite",
            "use_gpu": True,
            "scoring_batch_size": 500_000,
            "devices": None,
            "use_bm25": False,
            "bm25_tokenization_regex": r"(?u)\b\w\w+\b",
            "bm25_algorithm": "BM25Okapi",
            "bm25_parameters": None,
        },
        {"embedding_dim": ANY_DIM},
    ),
    *(
        (method, arguments, {})
        for store in (FAISSDocumentStore, InMemoryDocumentStore)
        for method, arguments in (
            (
                store.write_documents,
                {
                    "documents": NEEDED,
                    "index": None,
                    "batch_size": 10_000,
                    "duplicate_documents": None,
                    "headers": None,
                },
            ),
            (
                store.update_embeddings,
                {
                    "retriever": NEEDED,
                    "index": None,
                    "update_existing_embeddings": True,
                    "filters": None,
                    "batch_size": 10_000,
                },
            ),
            (store.get_all_documents, READ_ALL),
            (store.get_all_documents_generator, READ_ALL),
            (store.get_document_by_id, {"id": NEEDED, "index": None, "headers": None}),
            (
                store.get_document_count,
                {"filters": None, "index": None, "only_documents_without_embedding": False, "headers": None},
            ),
            (store.get_embedding_count, {"filters": None, "index": None}),
            (store.delete_documents, {"index": None, "ids": None, "filters": None, "headers": None}),
            (store.delete_all_documents, {"index": None, "filters": None, "headers": None}),
            (store.delete_index, {"index": NEEDED}),
            (store.update_document_meta, {"id": NEEDED, "meta": NEEDED, "index": None}),
            (
                store.query_by_embedding,
                {
                    "query_emb": NEEDED,
                    "filters": None,
                    "top_k": 10,
                    "index": None,
                    "return_embedding": None,
                    "headers": None,
                    "scale_score": True,
                },
            ),
        )
    ),
    (
        Document,
        {
            "content": NEEDED,
            "content_type": "text",
            "id": None,
            "score": None,
            "meta": None,
            "embedding": None,
            "id_hash_keys": None,
        },
        {},
    ),
    (print_answers, {"results": NEEDED, "details": "all", "max_text_len": None}, {}),
    (
        convert_files_to_docs,
        {"dir_path": NEEDED, "clean_func": None, "split_paragraphs": False, "encoding": None, "id_hash_keys": None},
        {},
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "differing"), TABLE, ids=lambda part: getattr(part, "__qualname__", ""))
def test_every_argument_of_1_x_is_there(ours, theirs, differing):
    mine = {name: p.default for name, p in inspect.signature(ours).parameters.items() if name != "self"}
    assert set(mine) == set(theirs)
    assert {name for name in theirs if mine[name] != theirs[name]} == set(differing)
