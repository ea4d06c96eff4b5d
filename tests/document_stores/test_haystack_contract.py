"""Haystack's own tests of document stores, all of them, with the exact index and with one trained meanwhile."""

import dataclasses
import inspect

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.document_stores.types import DocumentStore
from haystack.testing import document_store, document_store_async
from haystack.testing.document_store import (
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    DocumentStoreBaseExtendedTests,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldUniqueValuesTest,
)
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
)

from rom_haystack import SQLiteFAISSDocumentStore
from rom_haystack.document_stores import faiss_index

DIM = 768  # of the documents in Haystack's tests


class StoreOfEveryKind:
    @pytest.fixture(params=["auto", "HNSW32,SQ8"])
    def document_store(self, request, tmp_path, monkeypatch):
        if request.param != "auto":  # then every write has the index trained in the background
            monkeypatch.setattr(faiss_index, "AUTO_TRAINED_FROM", 1)
            monkeypatch.setattr(faiss_index, "_TRAINING_MIN", 1 / 256)
        with SQLiteFAISSDocumentStore(
            tmp_path / "store", DIM, index=request.param, vector_dtype="float32", return_embedding=True
        ) as store:
            yield store

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """Compare all fields, embeddings to the accuracy of unit vectors in float32, in the order of writing."""
        assert [dataclasses.replace(d, embedding=None) for d in received] == [
            dataclasses.replace(d, embedding=None) for d in expected
        ]
        for one, other in zip(received, expected, strict=True):
            assert (one.embedding is None) == (other.embedding is None)
            if other.embedding is not None:
                assert one.embedding == pytest.approx(other.embedding, rel=1e-5)


class TestSynchronous(
    StoreOfEveryKind,
    DocumentStoreBaseExtendedTests,
    CountDocumentsByFilterTest,
    CountUniqueMetadataByFilterTest,
    GetMetadataFieldsInfoTest,
    GetMetadataFieldMinMaxTest,
    GetMetadataFieldUniqueValuesTest,
):
    def test_is_a_document_store(self, document_store):
        names = [name for name in vars(DocumentStore) if not name.startswith("_")]
        assert {"count_documents", "filter_documents", "write_documents", "delete_documents"} <= set(names)
        assert all(callable(getattr(document_store, name)) for name in names)

    def test_write_documents(self, document_store):
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])

    # The stock tests of these names are for stores with a parameter recreate_index, and are skipped without it.

    @staticmethod
    def test_delete_all_documents_without_recreate_index(document_store):
        document_store.write_documents([Document(id="1", content="First"), Document(id="2", content="Second")])
        document_store.delete_all_documents()
        assert document_store.filter_documents() == []
        assert document_store.bm25_retrieval("first second") == []

    @staticmethod
    def test_delete_all_documents_with_recreate_index(document_store):
        document_store.write_documents([Document(id="1", content="First", embedding=[1.0] * DIM)])
        document_store.delete_all_documents()
        document_store.write_documents([Document(id="1", content="Second", embedding=[-1.0] * DIM)])
        (found,) = document_store.embedding_retrieval([1.0] * DIM)
        assert (found.content, found.score) == ("Second", pytest.approx(-1))


class TestAsynchronous(
    StoreOfEveryKind,
    CountDocumentsAsyncTest,
    WriteDocumentsAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    UpdateByFilterAsyncTest,
    CountDocumentsByFilterAsyncTest,
    CountUniqueMetadataByFilterAsyncTest,
    GetMetadataFieldsInfoAsyncTest,
    GetMetadataFieldMinMaxAsyncTest,
    GetMetadataFieldUniqueValuesAsyncTest,
):
    async def test_write_documents_async(self, document_store):
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
        self.assert_documents_are_equal(await document_store.filter_documents_async(), [document])

    @staticmethod
    async def test_delete_all_documents_without_recreate_index_async(document_store):
        await document_store.write_documents_async([Document(id="1", content="First")])
        await document_store.delete_all_documents_async()
        assert await document_store.filter_documents_async() == []

    @staticmethod
    async def test_delete_all_documents_with_recreate_index_async(document_store):
        await document_store.write_documents_async([Document(id="1", content="First", embedding=[1.0] * DIM)])
        await document_store.delete_all_documents_async()
        await document_store.write_documents_async([Document(id="1", content="Second", embedding=[-1.0] * DIM)])
        (found,) = await document_store.embedding_retrieval_async([1.0] * DIM)
        assert (found.content, found.score) == ("Second", pytest.approx(-1))
        assert [d.id for d in await document_store.bm25_retrieval_async("second")] == ["1"]


@pytest.mark.parametrize(
    ("module", "ours"), [(document_store, TestSynchronous), (document_store_async, TestAsynchronous)]
)
def test_no_test_of_haystack_is_left_out(module, ours):
    theirs = [cls for name, cls in vars(module).items() if inspect.isclass(cls) and name.endswith("Test")]
    assert len(theirs) > 10
    assert all(issubclass(ours, cls) for cls in theirs)
