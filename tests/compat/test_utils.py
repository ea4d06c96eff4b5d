from __future__ import annotations

import docx
import pytest
from fpdf import FPDF

from rom_haystack.compat import Answer, clean_wiki_text, convert_files_to_docs, print_answers

LONG = "This line is long enough to be kept, as it has many letters."


class TestPrintAnswers:
    @pytest.fixture
    def results(self):
        answers = [
            Answer("Curie", score=0.5, context="Marie Curie found it", document_ids=["x"]),
            Answer("", score=0.25),
        ]
        return {"query": "Who?", "answers": answers}

    def test_minimum(self, results, capsys):
        print_answers(results, details="minimum")
        assert capsys.readouterr().out == (
            "\nQuery: Who?\nAnswers:\n[{'answer': 'Curie', 'context': 'Marie Curie found it'}, {'answer': ''}]\n"
        )

    def test_medium_and_all(self, results, capsys):
        print_answers(results, details="medium")
        assert "'score': 0.5" in capsys.readouterr().out
        print_answers(results)
        assert "document_ids=['x']" in capsys.readouterr().out

    def test_long_contexts_are_cut_in_print_only(self, results, capsys):
        print_answers(results, details="minimum", max_text_len=5)
        assert "'Marie...'" in capsys.readouterr().out
        assert results["answers"][0].context == "Marie Curie found it"

    def test_several_queries(self, results, capsys):
        print_answers({"queries": ["A?", "B?"], "answers": [results["answers"], []]}, details="minimum")
        out = capsys.readouterr().out
        assert out.index("Query: A?") < out.index("Curie") < out.index("Query: B?")

    def test_what_has_no_answers_is_named(self, results):
        with pytest.raises(ValueError, match="only documents"):
            print_answers({"documents": []})
        with pytest.raises(ValueError, match="'most'"):
            print_answers(results, details="most")


class TestCleanWikiText:
    def test_short_lines_and_empty_sections_go(self):
        text = f"{LONG}\n\n\nshort\n==Empty==\nshort\n==Full==\n\n{LONG}\n===Deeper===\n{LONG}\n==End==\n"
        assert clean_wiki_text(text) == f"{LONG}\n\n\n==Full==\n{LONG}\n\n\n===Deeper===\n{LONG}"

    @pytest.mark.parametrize("text", ["", "\n\n", "short", "==A==\n==B=="])
    def test_nothing_is_left_of_nothing(self, text):
        assert clean_wiki_text(text) == ""


class TestConvertFilesToDocs:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "a.txt").write_text("First.\n\nSecond.\n\n \n\n", encoding="utf-8")
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep" / "b.txt").write_bytes("Müller".encode("latin-1"))
        pdf = FPDF()
        pdf.add_page()
        pdf.set_font("Helvetica", size=12)
        pdf.cell(text="From a page.")
        pdf.output(str(tmp_path / "c.pdf"))
        document = docx.Document()
        document.add_paragraph("From a document.")
        document.save(str(tmp_path / "d.docx"))
        return tmp_path

    def test_every_file_is_a_document(self, folder):
        documents = convert_files_to_docs(str(folder))
        assert [(d.meta, d.content.strip()) for d in documents] == [
            ({"name": "a.txt"}, "First.\n\nSecond."),
            ({"name": "c.pdf"}, "From a page."),
            ({"name": "d.docx"}, "From a document."),
            ({"name": "b.txt"}, "Müller"),
        ]

    def test_paragraphs_and_cleaning(self, folder):
        documents = convert_files_to_docs(folder, clean_func=str.upper, split_paragraphs=True, id_hash_keys=["meta"])
        assert [d.content.strip() for d in documents][:2] == ["FIRST.", "SECOND."]
        assert documents[0].id == documents[1].id != documents[2].id

    def test_what_cannot_be_read_is_named(self, folder, warnings_of):
        (folder / "e.xyz").write_bytes(b"\0\1")
        (folder / "f.txt").write_bytes(b"")
        assert len(convert_files_to_docs(folder, encoding="latin-1")) == 4
        first, *skipped = warnings_of()
        assert "convert_files_to_docs: encoding='latin-1'" in first
        assert [("e.xyz" in text, "f.txt" in text) for text in skipped] == [(True, False), (False, True)]
        with pytest.raises(ValueError, match="no folder"):
            convert_files_to_docs(folder / "missing")
