"""The tools that a model may call while it reasons.

`tool.Tool` is what an outsider subclasses; `retrieve` and `generate` are the paper's two.
"""
