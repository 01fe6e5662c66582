"""YAML as strict as those who read it later are."""

import yaml


class NoDuplicates(yaml.CSafeLoader):
    """YAML in which a key that stands twice is an error, not the last of the two."""


def _mapping(loader, node, deep=False):
    keys = [loader.construct_object(key, deep=deep) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
    return yaml.CSafeLoader.construct_mapping(loader, node, deep)


NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda l, n: _mapping(l, n, True))
