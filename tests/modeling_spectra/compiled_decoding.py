"""How tests compile the decode step: by a backend that counts the graphs and runs them as they are."""

from transformers import CompileConfig


def counting_backend():
    """A backend of torch.compile that runs the traced graphs as they are, and the list that it puts them into."""
    graphs = []

    # generate() copies its configuration deeply, which a function comes through as itself.
    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    return backend, graphs


def compiled(backend) -> dict:
    """Arguments of generate() for a static cache and a decode step that must be one graph."""
    config = CompileConfig(fullgraph=True, dynamic=False, backend=backend, mode=None)
    # generate() leaves a CPU alone otherwise.
    config._compile_all_devices = True
    return {"cache_implementation": "static", "compile_config": config}
