"""Questions about a pruned model, one file each; every one of them takes a model, a GPU, a stack and a precision."""
