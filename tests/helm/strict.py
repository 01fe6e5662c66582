"""Loads YAML as strictly as Kubernetes and Compose do."""

import yaml


class NoDuplicates(yaml.CSafeLoader):
    """Loads YAML in which a repeated key is an error."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    repeated = {key for key in keys if keys.count(key) > 1}
    if repeated:
        raise yaml.constructor.ConstructorError(None, None, f"repeated: {repeated}", node.start_mark)
    return yaml.CSafeLoader.construct_mapping(loader, node, deep)


NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda l, n: _mapping(l, n, True))
