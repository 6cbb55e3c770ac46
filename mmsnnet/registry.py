"""Child registries of MMEngine: what is here builds as ``mmsnnet.Name`` from any scope, and once imported as ``Name``.

``import mmsnnet`` imports all but ``FastCocoMetric``, which needs MMDetection, ``mmsnnet.depth``, which needs
MMSegmentation, and ``TaughtClassifier``, which needs MMPretrain.
"""

from collections.abc import Callable

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry

MODELS = Registry('model', parent=MMENGINE_MODELS, scope='mmsnnet', locations=['mmsnnet.models'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmsnnet', locations=['mmsnnet.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmsnnet', locations=['mmsnnet.engine'])
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmsnnet', locations=['mmsnnet.evaluation.routes.coco_metric']
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmsnnet',
    locations=['mmsnnet.engine'],
)
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=MMENGINE_WEIGHT_INITIALIZERS, scope='mmsnnet', locations=['mmsnnet.models']
)
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmsnnet', locations=['mmsnnet.depth'])
ROUTE_SAMPLERS = Registry('route sampler', scope='mmsnnet', locations=['mmsnnet.engine'])


def register(registry: Registry) -> Callable[[type], type]:
    """Register a class in ``registry`` and, so that its bare name builds too, in the registry's parent."""

    def decorate(cls: type) -> type:
        registry.register_module(module=cls)
        if registry.parent is not None:
            registry.parent.register_module(module=cls)
        return cls

    return decorate
