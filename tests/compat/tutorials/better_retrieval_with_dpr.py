# A Haystack 1.x script for dense passage retrieval. Only its import lines were changed.

from rom_haystack.compat import FAISSDocumentStore
from rom_haystack.compat import clean_wiki_text, convert_files_to_docs, print_answers
from rom_haystack.compat import DensePassageRetriever, FARMReader
from rom_haystack.compat import ExtractiveQAPipeline

# The document store and the documents in it
document_store = FAISSDocumentStore(faiss_index_factory_str="Flat")
doc_dir = "data/tutorial6"
docs = convert_files_to_docs(dir_path=doc_dir, clean_func=clean_wiki_text, split_paragraphs=True)
document_store.write_documents(docs)

# The retriever
retriever = DensePassageRetriever(
    document_store=document_store,
    query_embedding_model="facebook/dpr-question_encoder-single-nq-base",
    passage_embedding_model="facebook/dpr-ctx_encoder-single-nq-base",
    max_seq_len_query=64,
    max_seq_len_passage=256,
    batch_size=16,
    use_gpu=True,
    embed_title=True,
    use_fast_tokenizers=True,
)
document_store.update_embeddings(retriever)

# The reader, and both together
reader = FARMReader(model_name_or_path="deepset/roberta-base-squad2", use_gpu=True)
pipe = ExtractiveQAPipeline(reader, retriever)

prediction = pipe.run(
    query="Which astronaut stayed in lunar orbit during Apollo 11?",
    params={"Retriever": {"top_k": 10}, "Reader": {"top_k": 5}},
)
print_answers(prediction, details="minimum")

# The same by hand
retrieved = retriever.retrieve(query="Who discovered radium?", top_k=3, filters={"name": ["marie-curie.txt"]})
answers = reader.predict(query="Who discovered radium?", documents=retrieved, top_k=2)["answers"]
for answer in answers:
    start, end = answer.offsets_in_document[0].start, answer.offsets_in_document[0].end
    document = document_store.get_document_by_id(answer.document_ids[0])
    print(answer.meta["name"], document.content[start:end] == answer.answer)

# Kept for the next time
document_store.save(index_path="my_faiss_index.faiss")
retriever.save(save_dir="my_dpr")
document_store = FAISSDocumentStore.load(index_path="my_faiss_index.faiss")
retriever = DensePassageRetriever.load(load_dir="my_dpr", document_store=document_store)
again = retriever.retrieve(query="Who discovered radium?", top_k=3, filters={"name": ["marie-curie.txt"]})
print([document.id for document in again] == [document.id for document in retrieved])
