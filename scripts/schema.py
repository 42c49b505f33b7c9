"""`python -m scripts.schema`: write what a new SQLite database is made with, from the migrations."""

from tidegate.storage.migrate import FRESH, render

if __name__ == "__main__":
    FRESH.write_text(render("sqlite"), "utf-8")
