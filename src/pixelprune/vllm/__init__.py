"""vLLM: a plugin that prunes images before the vision encoder, over the ordinary OpenAI API and offline.

    vllm serve MODEL --mm-processor-kwargs '{"pixelprune": {"threshold": 0}}'

vLLM finds :func:`pixelprune.vllm.plugin.register` by its entry point (``vllm.general_plugins``). Nothing changes until
settings are given, for the engine or in a request. vLLM's classes are subclassed and registered; none is patched.
"""
