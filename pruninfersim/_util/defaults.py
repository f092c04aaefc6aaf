"""What a question asks for where nobody says: one place for Python, the commands and the pages."""

from __future__ import annotations

#: Tokens of a prompt, or keys that a decode step attends to [1].
CONTEXT = 1024
#: Tokens that a request puts out [1].
NEW_TOKENS = 128
#: Tokens of a sequence, prompt and output, for which memory is set aside [1].
LENGTH = 8192
#: Phases of inference, in the order in which a request has them.
PHASES = ("prefill", "decode")
