"""What later lessons use where the student has no piece yet, and always when graded.

One module per lesson: PyTorch's own where it exists, plain readable code elsewhere.
"""
