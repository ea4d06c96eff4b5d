# A Haystack 1.x script for a first question answering system. Only its import lines were changed.

from rom_haystack.compat import InMemoryDocumentStore
from rom_haystack.compat import BM25Retriever, FARMReader
from rom_haystack.compat import ExtractiveQAPipeline
from rom_haystack.compat import print_answers

from pathlib import Path

# The document store, with keyword search
document_store = InMemoryDocumentStore(use_bm25=True)

# The documents
doc_dir = "data/build_your_first_question_answering_system"
dicts = [
    {"content": paragraph, "meta": {"name": path.name}}
    for path in sorted(Path(doc_dir).iterdir())
    for paragraph in path.read_text(encoding="utf-8").split("\n\n")
    if paragraph.strip()
]
document_store.write_documents(dicts)
print(document_store.get_document_count())

# The retriever, the reader, and both together
retriever = BM25Retriever(document_store=document_store)
reader = FARMReader(model_name_or_path="deepset/roberta-base-squad2", use_gpu=True)
pipe = ExtractiveQAPipeline(reader, retriever)

# A question
prediction = pipe.run(
    query="Which astronaut stayed in lunar orbit during Apollo 11?",
    params={"Retriever": {"top_k": 10}, "Reader": {"top_k": 5}},
)
print_answers(prediction, details="minimum")
print(prediction["answers"][0].answer, prediction["answers"][0].score > prediction["answers"][1].score)

# Several
batch = pipe.run_batch(
    queries=["Who discovered radium?", "Who landed with Neil Armstrong?"], params={"Reader": {"top_k": 1}}
)
print([answers[0].answer for answers in batch["answers"]])
