"""Reading of a Hugging Face ``config.json``: one file per kind of family, and what they share."""
